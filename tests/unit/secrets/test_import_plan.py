"""Which secret of another tool goes to whom, and what is left out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bento_secrets.declared import Declaration
from bento_secrets.errors import InputError
from bento_secrets.identities import Identity, load_ssh_identity
from bento_secrets.importing.found import Found
from bento_secrets.importing.keys import canonical, shown
from bento_secrets.importing.plan import Plan, make_plan
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.store import StoreState

Make = Callable[..., Member]
HOSTS = {"web1": ("web", "all"), "web2": ("web", "all"), "db": ("all",), "solo": ("alone",)}


def found(name: str, *keys: str, problem: str | None = None) -> Found:
    return Found(f"{name}.age", Path("/x") / name, name, keys, problem=problem)


@pytest.fixture
def plan(member: Make) -> Callable[..., Plan]:
    members = [member(name, *tags) for name, tags in HOSTS.items()]
    keys = {f"key of {name}": HostName(name) for name in HOSTS}

    def make(*items: Found, declared: tuple[tuple[str, str], ...] = ()) -> Plan:
        declarations = tuple(Declaration(Target(target), SecretName(name)) for target, name in declared)
        return make_plan(items, members, keys, {"admin"}, StoreState(declarations, {}))

    return make


def outcome(made: Plan) -> list[tuple[str | None, str | None]]:
    return [(step.name, step.target) for step in made.steps]


def test_a_secret_goes_to_the_hosts_that_could_open_it(plan: Callable[..., Plan]) -> None:
    made = plan(found("a", "key of web1", "admin"), found("b", "key of db", "key of web1"))
    assert outcome(made) == [("a", "web1"), ("b", "db"), ("b", "web1")]
    assert made.strangers == {}
    assert made.steps[0].why == "sealed to web1's key"


def test_just_the_hosts_of_one_tag_are_the_tag(plan: Callable[..., Plan]) -> None:
    made = plan(found("a", "key of web1", "key of web2"), found("b", "key of web1", "key of web2", "key of db"))
    assert outcome(made) == [("a", "@web"), ("b", "@all")]
    assert made.steps[0].hosts == ("web1", "web2")


def test_one_host_is_itself_and_not_its_tag(plan: Callable[..., Plan]) -> None:
    assert outcome(plan(found("a", "key of solo"))) == [("a", "solo")]


def test_two_tags_with_the_same_hosts_are_ambiguous(member: Make) -> None:
    members = [member("a", "one", "two"), member("b", "one", "two")]
    keys = {"ka": HostName("a"), "kb": HostName("b")}
    made = make_plan([found("x", "ka", "kb")], members, keys, (), StoreState((), {}))
    assert outcome(made) == [("x", "a"), ("x", "b")]


def test_keys_of_nobody_are_counted_and_alone_they_are_no_reason(plan: Callable[..., Plan]) -> None:
    made = plan(found("a", "key of web1", "stranger"), found("b", "stranger"), found("c", "admin"))
    assert outcome(made) == [("a", "web1"), ("b", None), ("c", None)]
    assert made.strangers == {"stranger": 2}
    assert "no host of this fleet" in made.steps[1].why


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../../etc/shadow", "no secret name"),
        ("a b", "no secret name"),
        ("a/b/c/d/e", "no secret name"),
        (".hidden", "no secret name"),
        ("x.age/y", "ends in .age"),
        ("taken", "web1 has one of that name already, declared for web1"),
        ("tagged", "web1 has one of that name already, declared for @web"),
        ("TAKEN", "case differs"),
        ("taken/below", "folder"),
        ("dir", "folder"),
    ],
)
def test_what_cant_stand_there_is_left_out_and_says_why(plan: Callable[..., Plan], name: str, why: str) -> None:
    declared = (("web1", "taken"), ("@web", "tagged"), ("web1", "dir/file"))
    (step,) = plan(found(name, "key of web1"), declared=declared).steps
    assert step.target is None
    assert why in step.why


def test_a_problem_of_the_file_is_told(plan: Callable[..., Plan]) -> None:
    (step,) = plan(found("a", "key of web1", problem="it is too large")).steps
    assert (step.target, step.why) == (None, "it is too large")


def test_of_two_in_each_others_way_the_first_is_taken(plan: Callable[..., Plan]) -> None:
    first, second = found("a", "key of web1", "key of web2"), found("a", "key of web1")
    made = plan(first, second, found("a", "key of db"), found("A", "key of db"))
    assert outcome(made) == [("a", "@web"), ("a", None), ("a", "db"), ("A", None)]
    assert made.steps[1].why == "web1 has one of that name already, from a.age"


def test_what_one_host_has_the_others_may_still_get(plan: Callable[..., Plan]) -> None:
    made = plan(found("a", "key of web1", "key of db"), declared=(("db", "a"),))
    assert outcome(made) == [("a", None), ("a", "web1")]


def test_a_declaration_that_is_in_effect_nowhere_exists_all_the_same(plan: Callable[..., Plan]) -> None:
    declared = (("@web", "a"), ("web1", "a"), ("web2", "a"))
    (step,) = plan(found("a", "key of web1", "key of web2"), declared=declared).steps
    assert step.target is None


def test_what_a_key_opens_that_nothing_is_sealed_to_here_is_exposed(
    identity: Identity, other_identity: Identity, key_folder: Path
) -> None:
    members = [
        Member(HostName("web1"), identity.recipient, frozenset()),
        Member(HostName("web2"), other_identity.recipient, frozenset()),
    ]
    one, two = (member.recipient.text for member in members)
    older, admin = (canonical((key_folder / f"{name}.pub").read_text()) for name in ("pem", "rsa"))
    keys = {one: HostName("web1"), two: HostName("web2"), older: HostName("web1")}
    items = [
        found("both", one, two),
        found("admins", one, admin),
        found("line", (key_folder / "ed25519.pub").read_text()),
        found("strangers", one, "arn:aws:kms:x"),
        found("older", one, older),
        found("kept", one, two),
        found("nobodys", "stranger"),
    ]
    state = StoreState((Declaration(Target("web2"), SecretName("kept")),), {})
    made = make_plan(items, members, keys, {admin}, state)
    assert {one.name for one in made.exposed} == {"strangers", "older", "kept"}


def test_a_private_key_among_the_public_ones_stops_it_and_isnt_quoted(plan: Callable[..., Plan]) -> None:
    with pytest.raises(InputError, match=r"a\.age: a private key") as caught:
        plan(found("a", "AGE-SECRET-KEY-1QQQQ"))
    assert "QQQQ" not in str(caught.value)


def test_an_ssh_key_with_or_without_comment_and_its_recipient_are_one_key(key_folder: Path) -> None:
    line = (key_folder / "ed25519.pub").read_text()
    recipient = load_ssh_identity(key_folder / "ed25519").recipient.text
    assert canonical(line) == canonical(" ".join(line.split()[:2])) == canonical(f" {recipient}\n") == recipient
    rsa = (key_folder / "rsa.pub").read_text()
    assert canonical(rsa) == " ".join(rsa.split()[:2])
    ecdsa = (key_folder / "ecdsa.pub").read_text()
    assert canonical(ecdsa) == " ".join(ecdsa.split()[:2])
    assert canonical("0FD60C8C3B664ACEB1796CE02B318DF330331003") == "0fd60c8c3b664aceb1796ce02b318df330331003"
    assert canonical("arn:aws:kms:x") == "arn:aws:kms:x"


def test_a_key_is_shown_by_kind_end_and_comment(key_folder: Path) -> None:
    line = (key_folder / "rsa.pub").read_text()
    kind, blob, comment = line.split()
    assert shown(line) == f"{kind} …{blob[-12:]} {comment}"
    assert shown("ssh-rsa AAAA \x1b[31mred") == "ssh-rsa …AAAA \\x1b[31mred"
    assert shown("\x1b") == "\\x1b"
