"""What `check` says, finding by finding; ages; and locks that don't say whose a copy is."""

from collections.abc import Callable

import pytest

from bento_secrets.ages import age_seconds, parse_max_age
from bento_secrets.check import Finding, check
from bento_secrets.copies import copy_path
from bento_secrets.declared import Attributes, drop_declaration, parse_declarations, put_declarations
from bento_secrets.errors import BadName, InputError, OpenFailed
from bento_secrets.identities import Identity
from bento_secrets.lock import parse_lock, render_lock
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.sealing import Plaintext
from bento_secrets.store import NewSecret, SecretStore

Make = Callable[..., Member]
WEB, KEY = Target("@web"), SecretName("tls/key")


@pytest.fixture
def fleet(member: Make) -> list[Member]:
    return [member("web1", "web"), member("web2", "web"), member("db")]


def add(store: SecretStore, fleet: list[Member], *, content: bytes = b"x", max_age: str | None = None, **said) -> None:
    attributes = Attributes.parse(max_age=max_age)
    admins = said.pop("admins", ())
    target = said.pop("target", WEB)
    store.add(target, KEY, attributes, Plaintext(content), fleet, admins, **{"replace": False, "now": 1000, **said})


def findings(store: SecretStore, fleet: list[Member], now: int = 1000, **said) -> list[Finding]:
    state, found = store.survey(said.get("identities", ()))
    return list(check(state.declarations, state.lock, found, fleet, said.get("admins", ()), now))


def short(found: list[Finding]) -> list[tuple[str, tuple[str, ...], bool]]:
    return [(one.kind, one.hosts, one.breaks) for one in found]


def test_a_store_in_order_has_no_findings(store: SecretStore, fleet: list[Member]) -> None:
    add(store, fleet, max_age="1h")
    assert findings(store, fleet) == []


def test_a_secret_sealed_under_a_clock_that_was_ahead_is_no_younger_than_its_max_age_for_years(
    store: SecretStore, fleet: list[Member]
) -> None:
    add(store, fleet, max_age="1y", now=1_000_000)
    assert findings(store, fleet, now=1_000_000 - 86_400) == []
    (one,) = findings(store, fleet, now=1_000_000 - 86_401)
    assert (one.kind, "sealed in the future" in one.message) == ("too old", True)


def test_a_file_that_is_missing_changed_or_a_symlink_breaks_its_host(store: SecretStore, fleet: list[Member]) -> None:
    add(store, fleet)
    file = store.folder / copy_path(HostName("web1"), KEY)
    sealed = file.read_bytes()
    again = "bento secret add @web FILE --name tls/key --replace"
    from_git = f"git -C {store.folder.parent} checkout HEAD -- secrets/web1/tls/key.age secrets/secrets.lock"
    file.write_bytes(sealed + b"x")
    (one,) = findings(store, fleet)
    assert short([one]) == [("changed", ("web1",), True)]
    assert one.hints == (again,)
    (store.folder.parent / ".git").mkdir()
    assert findings(store, fleet)[0].hints == (from_git, again)
    file.unlink()
    (one,) = findings(store, fleet)
    assert short([one]) == [("missing", ("web1",), True)]
    assert one.hints == (from_git, again)
    file.symlink_to(store.folder / copy_path(HostName("web2"), KEY))
    assert short(findings(store, fleet)) == [("changed", ("web1",), True)]


def test_another_admin_only_warns_and_another_host_key_breaks(
    store: SecretStore, fleet: list[Member], other_identity: Identity
) -> None:
    add(store, fleet)
    found = findings(store, fleet, admins=(other_identity.recipient,))
    assert short(found) == [("stale", ("web1",), False), ("stale", ("web2",), False)]
    assert found[0].message.endswith("admin added")
    assert found[0].hints == (
        "bento secret rekey @web", "bento secret add @web FILE --name tls/key --replace",
    )  # fmt: skip
    fleet[0] = Member(fleet[0].name, other_identity.recipient, fleet[0].tags)
    (one,) = findings(store, fleet)
    assert short([one]) == [("stale", ("web1",), True)]
    assert one.message.endswith("host key replaced")


def test_what_nobody_gets_is_orphaned(store: SecretStore, fleet: list[Member]) -> None:
    add(store, fleet)
    (store.folder / "stray.age").write_bytes(b"")
    gone = findings(store, [one for one in fleet if one.name != "web1"])
    assert short(gone) == [("orphaned", ("web1",), False), ("orphaned", (), False)]
    assert gone[1].name == "stray.age"


def test_age_counts_from_the_content_not_from_the_last_sealing(
    store: SecretStore, fleet: list[Member], identity: Identity, other_identity: Identity
) -> None:
    add(store, fleet, max_age="1h", admins=(identity.recipient,))
    assert findings(store, fleet, 1000 + 3600, admins=(identity.recipient,)) == []
    admins = (identity.recipient, other_identity.recipient)
    store.rekey(fleet, admins, [identity])
    assert short(findings(store, fleet, 1001 + 3600, admins=admins)) == [("too old", ("web1", "web2"), False)]
    add(store, fleet, replace=True, now=5000, admins=admins)
    assert findings(store, fleet, 5000, admins=admins) == []


def test_copies_of_one_secret_that_differ_are_told_with_an_identity_only(
    store: SecretStore, fleet: list[Member], identity: Identity
) -> None:
    add(store, fleet, content=b"one")
    old = (store.folder / copy_path(HostName("web1"), KEY)).read_bytes()
    lines = (store.folder / "secrets.lock").read_text().splitlines()
    add(store, fleet, content=b"two", replace=True)
    # As after a merge that took one host's copy from each branch.
    (store.folder / copy_path(HostName("web1"), KEY)).write_bytes(old)
    merged = (store.folder / "secrets.lock").read_text().splitlines()
    merged[1] = lines[1]
    (store.folder / "secrets.lock").write_text("\n".join(merged) + "\n")
    assert findings(store, fleet) == []
    assert short(findings(store, fleet, identities=[identity])) == [("differ", ("web1", "web2"), False)]


def test_a_lock_that_doesnt_say_whose_a_copy_is_means_todays(
    store: SecretStore, fleet: list[Member], identity: Identity
) -> None:
    add(store, fleet)
    path = store.folder / "secrets.lock"
    path.write_text(path.read_text().replace(',"target":"@web"', ""))
    assert all(copy.target is None for copy in store.read().lock.values())
    assert findings(store, fleet) == []
    assert store.open(WEB, KEY, fleet, [identity]).plaintext.data == b"x"
    store.rekey(fleet, (), ())
    add(store, fleet, target=Target("web1"), content=b"own")
    assert {copy.target for copy in store.read().lock.values()} == {"web1", "@web"}


def test_a_copy_of_another_secret_of_the_same_name_is_none(
    store: SecretStore, fleet: list[Member], identity: Identity
) -> None:
    """A person took the host's own table out of secrets.toml by hand: its own content mustn't pass for the tag's."""
    add(store, fleet, content=b"tag")
    add(store, fleet, target=Target("web1"), content=b"own")
    path = store.folder / "secrets.toml"
    path.write_text(drop_declaration(path.read_text(), Target("web1"), KEY))
    # web1 knows the tag's content, and didn't get it while it had its own.
    assert short(findings(store, fleet)) == [("missing", ("web1",), True), ("must rotate", ("web2",), False)]
    assert store.open(Target("web1"), KEY, fleet, [identity]).plaintext.data == b"tag"


def test_opening_names_the_secret_and_what_to_type(
    store: SecretStore, fleet: list[Member], other_identity: Identity
) -> None:
    add(store, fleet)
    with pytest.raises(OpenFailed, match="tls/key for @web could not be opened") as caught:
        store.open(WEB, KEY, fleet, [other_identity])
    assert caught.value.hints[-1] == "or add it again: bento secret add @web FILE --name tls/key --replace"
    with pytest.raises(InputError, match="no secret tls/kye"):
        store.open(WEB, SecretName("tls/kye"), fleet, [other_identity])


def test_an_edit_doesnt_overwrite_what_somebody_changed_meanwhile(
    store: SecretStore, fleet: list[Member], identity: Identity
) -> None:
    add(store, fleet)
    seen = store.open(WEB, KEY, fleet, [identity]).state
    add(store, fleet, content=b"theirs", replace=True)
    item = NewSecret(WEB, KEY, Attributes(), Plaintext(b"mine"))
    with pytest.raises(InputError, match="meanwhile"):
        store.add_many([item], fleet, (), replace=True, now=1, seen=seen)
    assert store.open(WEB, KEY, fleet, [identity]).plaintext.data == b"theirs"


def test_many_are_added_at_once_or_not_at_all(store: SecretStore, fleet: list[Member]) -> None:
    items = [NewSecret(WEB, SecretName(name), Attributes(), Plaintext(b"x")) for name in ("a", "b/c", "d")]
    assert store.add_many(items, fleet, (), replace=False, now=1) == (("web1", "web2"),) * 3
    before = store.read()
    twice = [NewSecret(WEB, SecretName("e"), Attributes(), Plaintext(b"x"))] * 2
    for bad in (twice, [*twice[:1], items[0]]):
        with pytest.raises(InputError):
            store.add_many(bad, fleet, (), replace=False, now=1)
        assert store.read() == before


def test_a_secret_for_a_host_that_is_gone_can_still_be_removed(store: SecretStore, fleet: list[Member]) -> None:
    for target in ("db", "web1"):
        add(store, fleet, target=Target(target))
    left = [fleet[1]]
    for target in ("db", "web1"):
        assert store.remove(Target(target), KEY, left, ()).hosts == (target,)
    assert store.read().lock == {}
    assert [path.name for path in store.folder.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(("text", "seconds"), [("36h", 129600), ("90d", 7776000), ("12w", 7257600), ("1y", 31536000)])
def test_ages_in_hours_days_weeks_and_years(text: str, seconds: int) -> None:
    assert age_seconds(parse_max_age(text)) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1m", "1.5d", "9999999d", "1d\n"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        parse_max_age(text)


def test_several_declarations_are_edited_and_one_is_dropped_with_comments_kept() -> None:
    text = (
        '# top\n[[secret]]\ntarget = "a"\nname = "x" # x\n\n[[secret]] # b\ntarget = "b"\nname = "y"\nmax_age = "9d"\n'
    )
    first, second = parse_declarations(text)
    assert second.max_age == "9d"
    new = Attributes.parse(max_age="1y").over(first)
    gone = Attributes.parse(max_age="").over(second)
    edited = put_declarations(text, [new, gone])
    assert parse_declarations(edited) == (new, gone)
    assert "# top" in edited
    dropped = drop_declaration(edited, Target("a"), SecretName("x"))
    assert parse_declarations(dropped) == (gone,)
    assert parse_declarations(drop_declaration(dropped, Target("b"), SecretName("y"))) == ()
    with pytest.raises(InputError, match="no secret y for a") as caught:
        drop_declaration(text, Target("a"), SecretName("y"))
    assert "there is one for b" in caught.value.hints


def test_whose_a_copy_is_stands_in_the_lock(store: SecretStore, fleet: list[Member]) -> None:
    add(store, fleet)
    text = render_lock(store.read().lock)
    assert '"target":"@web"' in text
    assert parse_lock(text) == store.read().lock
    for wrong in ("1", '"No"', '"@"'):
        with pytest.raises(InputError, match="web1/tls/key"):
            parse_lock(text.replace('"@web"', wrong))
