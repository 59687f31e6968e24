"""bento.toml with bento.local.toml over it: merged by key, and every mistake named in the file where it stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import complaint_of, public, quick

from bento.errors import InputError
from bento.models.fleet import FleetFile, parse_fleet
from bento.models.strict import Source

GOOD = f"""\
[publish]
to = "/srv/chroot"
[signing]
keys = ["~/.ssh/id_ed25519"]
[build]
jobs = 4
args = ["--fallback"]
[defaults]
action = "boot"
tags = ["all"]
[hosts.router]
keys = ["{public(1).line}"]
action = "switch"
[hosts.web]
keys = ["{public(2).line}"]
tags = ["@dc1"]
attribute = "web1"
source = "hosts/shared"
on_difference = "refuse"
"""


def parse(text: str, local: str | None = None) -> FleetFile:
    return parse_fleet(Source("bento.toml", text), None if local is None else Source("bento.local.toml", local))


def complaint(text: str, local: str | None = None) -> InputError:
    with pytest.raises(InputError) as error:
        parse(text, local)
    return error.value


def test_a_host_has_the_defaults_where_it_says_nothing_itself() -> None:
    router, web = parse(GOOD).hosts.values()
    assert (router.action, web.action) == ("switch", "boot")
    assert (router.tags, web.tags) == (("all",), ("dc1",))
    assert (router.on_difference, web.on_difference) == ("report", "refuse")


def test_an_empty_file_is_a_fleet_with_defaults() -> None:
    fleet = parse("")
    assert fleet.publish.to == ("/home/chroot",)
    assert fleet.build.jobs is None
    assert not fleet.hosts
    assert fleet.secrets.admins == ()


def test_local_keys_win_and_leave_the_others() -> None:
    fleet = parse(GOOD, '[build]\njobs = 1\n[signing]\nkeys = ["mine"]\n[hosts.web]\nattribute = "x"\n')
    assert fleet.build.jobs == 1
    assert fleet.build.args == ("--fallback",)
    assert fleet.signing.keys == ("mine",)
    web = list(fleet.hosts.values())[1]
    assert (web.attribute, web.source) == ("x", "hosts/shared")


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ('to = "/srv/chroot"', 'to = ""', 2, "publish.to"),
        ('to = "/srv/chroot"', "to = 3", 2, "publish.to"),
        ('keys = ["~/.ssh/id_ed25519"]', 'keys = "x"', 4, "signing.keys"),
        ("jobs = 4", "jobs = 0", 6, "build.jobs"),
        ("jobs = 4", 'jobs = "4"', 6, "build.jobs"),
        ("jobs = 4", "jobs = true", 6, "build.jobs"),
        ('"--fallback"', '"a\\nb"', 7, "build.args.0"),
        ('"boot"', '"reboot"', 9, "defaults.action"),
        ('"all"', '"All"', 10, "defaults.tags.0"),
        (f'["{public(1).line}"]', "[]", 12, "hosts.router.keys"),
        ('"@dc1"', '"@@dc1"', 16, "hosts.web.tags.0"),
        ('"web1"', "'web\"; evil'", 17, "hosts.web.attribute"),
        ('"refuse"', '"never"', 19, "hosts.web.on_difference"),
        ("hosts.router", "hosts.Router", 11, "hosts.Router"),
        ("hosts.router", "hosts.root", 11, "hosts.root"),
    ],
)
def test_a_wrong_value_is_named_by_line_and_key(old: str, new: str, line: int, key: str) -> None:
    assert old in GOOD
    message = complaint(GOOD.replace(old, new)).message
    assert message.startswith(f"bento.toml:{line}: ")
    assert f"'{key}'" in message


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [("[publish]", "[publsh]", 1), ("jobs", "job", 6), ("attribute", "atribute", 17), ("on_difference", "on_diff", 19)],
)
def test_a_mistyped_key_is_answered_with_the_right_one(right: str, wrong: str, line: int) -> None:
    error = complaint(GOOD.replace(right, wrong, 1))
    assert error.message.startswith(f"bento.toml:{line}: unknown key")
    assert f"did you mean {right.strip('[]')}?" in error.hints


def test_a_mistake_in_the_local_file_is_named_there() -> None:
    error = complaint(GOOD, "\n[build]\njbos = 3\n")
    assert error.message.startswith("bento.local.toml:3: unknown key 'build.jbos'")
    assert complaint(GOOD, "\n[build]\njobs = 0\n").message.startswith("bento.local.toml:3: ")
    assert complaint(GOOD, "x =\n").message.startswith("bento.local.toml:1: not valid TOML")


def test_a_merge_that_isn_t_finished_is_called_so() -> None:
    error = complaint(GOOD + "<<<<<<< HEAD\n[hosts.a]\n=======\n[hosts.b]\n>>>>>>> other\n")
    assert error.message == f"bento.toml:{GOOD.count(chr(10)) + 1}: an unresolved merge conflict"
    assert "both sides" in error.hints[0]


def test_a_host_without_keys_is_answered_with_the_command_that_gives_it_one() -> None:
    error = complaint('[hosts.new]\ntags = ["a"]\n')
    assert "'hosts.new.keys' is missing" in error.message
    assert any("bento host add" in hint for hint in error.hints)


def test_a_date_is_refused_in_words() -> None:
    assert "dates" in complaint("[publish]\nto = 1979-05-27\n").message


values = st.recursive(
    st.sampled_from(["1", "true", '""', '"x"', "1.5", "nan", "inf", "1979-05-27", "[]", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | inner.map(lambda item: f"{{x = {item}}}")
    ),
    max_leaves=5,
)
PLACES = """\
publish publish.to signing.keys build build.jobs build.args defaults defaults.tags hosts hosts.web hosts.web.keys
hosts.web.tags hosts.web.x hosts."A" "" x secrets.admins
"""
keys = st.sampled_from(PLACES.split())


@quick
@given(keys, values)
def test_any_value_in_any_place_gives_an_input_error_or_a_fleet(key: str, value: str) -> None:
    for main, local in ((f"{key} = {value}", None), (GOOD, f"{key} = {value}")):
        said = complaint_of(parse, main, local)
        assert said is None or said.startswith(("bento.toml", "bento.local.toml"))


@quick
@given(st.text(max_size=60) | st.text(alphabet='[]{}="#.\n\\ hostsk1', max_size=60))
def test_any_text_gives_an_input_error_or_a_fleet(text: str) -> None:
    said = complaint_of(parse, text)
    assert said is None or said.startswith("bento.toml")
