"""secrets.toml and secrets.lock: what is read comes back, what is wrong is named, comments stay."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from bento_secrets.declared import Attributes, Declaration, drop_declaration, parse_declarations, put_declarations
from bento_secrets.declared_templates import parse_templates
from bento_secrets.errors import BentoError, InputError
from bento_secrets.lock import Copy, parse_lock, render_lock
from bento_secrets.names import Digest, HostName, SecretName, Target

hosts = st.sampled_from(["router", "web1", "web2", "_x"])
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,8}){0,3}", fullmatch=True)
units = st.lists(st.sampled_from(["a.service", "b@x.service", "c.timer"]), unique=True).map(tuple)
declarations = st.builds(
    Declaration,
    target=(hosts | hosts.map("@".__add__)).map(Target),
    name=names.map(SecretName),
    owner=st.sampled_from(["root", "nginx", "1000"]),
    group=st.sampled_from(["root", "www", "0"]),
    mode=st.sampled_from(["0400", "0440", "0640"]),
    path=st.none() | st.sampled_from(["/etc/a/b", "/var/lib/ü \"quoted'/x"]),
    restart=units,
    reload=units,
)
unique = st.lists(declarations, unique_by=lambda one: (one.target, one.name), max_size=6)
copies = st.dictionaries(
    st.tuples(hosts.map(HostName), names.map(SecretName)),
    st.builds(
        Copy,
        sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(Digest),
        recipients=st.sets(st.sampled_from([f"age1{c * 58}" for c in "qpz"] + ["ssh-rsa AAAA="]), min_size=1).map(
            lambda texts: tuple(sorted(texts))
        ),
        sealed=st.integers(0, 2**53 - 1),
        must_rotate=st.booleans(),
    ),
)
TOML = """\
# The fleet's secrets.

[[secret]]   # the router's
name = "wg"  # wireguard
target = "router"
mode = "0400" # said on purpose
restart = [
  "a.service",  # first
]

# between

[[secret]]
target = "@web"
name = "tls"
# the end"""


def put_all(text: str, many: list[Declaration]) -> str:
    for one in many:
        text = put_declarations(text, [one])
    return text


@given(unique)
@settings(deadline=None)
def test_declarations_written_are_declarations_read(many: list[Declaration]) -> None:
    assert parse_declarations(put_all("", many)) == tuple(many)


@given(declarations)
@settings(deadline=None)
def test_adding_keeps_every_line_a_person_wrote(new: Declaration) -> None:
    edited = put_declarations(TOML, [new])
    assert edited.startswith(TOML)
    assert parse_declarations(edited) == (*parse_declarations(TOML), new)


@given(st.sampled_from([0, 1]), declarations)
@settings(deadline=None)
def test_replacing_keeps_comments_order_and_the_others(number: int, values: Declaration) -> None:
    before = parse_declarations(TOML)
    new = Declaration(before[number].target, before[number].name, *list(vars(values).values())[2:])
    edited = put_declarations(TOML, [new])
    assert parse_declarations(edited) == (*before[:number], new, *before[number + 1 :])
    for comment in ("# The fleet's secrets.", "# the router's", "# wireguard", "# between", "# the end"):
        assert comment in edited
    assert put_declarations(edited, [new]) == edited


def test_replacing_with_the_same_changes_nothing() -> None:
    assert put_declarations(TOML, parse_declarations(TOML)[:1]) == TOML


MIXED = """\
# The fleet's.
[[secret]]
target = "web"
name = "a"
restart = [
  "a.service",
]

# The app's settings.
[[template]]
target = "web"
name = "app"
text = \"\"\"
[database]
password = {{ secret "a" }}
\"\"\"

[[secret]] # the second
target = "web"
name = "b"

[[ template ]]
target = "web"
name = "other"
file = "templates/other"
# The last.
"""


@pytest.mark.parametrize("name", ["a", "b"])
def test_only_the_lines_of_one_table_change_where_secrets_and_templates_take_turns(name: str) -> None:
    one = next(one for one in parse_declarations(MIXED) if one.name == name)
    edited = put_declarations(MIXED, [replace(one, mode="0440")])
    added = [line for line in edited.splitlines() if line not in MIXED.splitlines()]
    assert added == ['mode = "0440"']
    assert edited.replace('mode = "0440"\n', "") == MIXED
    assert put_declarations(edited, [one]) == MIXED
    kept = drop_declaration(MIXED, one.target, one.name)
    table = {
        "a": '[[secret]]\ntarget = "web"\nname = "a"\nrestart = [\n  "a.service",\n]\n',
        "b": '[[secret]] # the second\ntarget = "web"\nname = "b"\n\n',
    }
    assert kept == MIXED.replace(table[name], "")
    assert parse_templates(kept) == parse_templates(edited) == parse_templates(MIXED)


@pytest.mark.parametrize("name", ["a", "b", "new"])
def test_a_text_that_looks_like_tables_keeps_its_content(name: str) -> None:
    text = MIXED.replace("[database]", "[[secret]]")
    declared = replace(parse_declarations(MIXED)[0], name=SecretName(name), mode="0440", restart=())
    edited = put_declarations(text, [declared])
    assert declared in parse_declarations(edited)
    assert parse_templates(edited) == parse_templates(text)


def test_an_edit_that_would_change_a_template_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tomlkit.dumps
    monkeypatch.setattr(tomlkit, "dumps", lambda table: real(table) + '[[template]]\nname = "x"\n')
    with pytest.raises(InputError, match="can't edit"):
        put_declarations(MIXED, [replace(parse_declarations(MIXED)[0], mode="0440")])


def test_an_inline_list_is_refused_rather_than_spoilt() -> None:
    text = 'secret = [{target = "router", name = "a"}]\n'
    assert len(parse_declarations(text)) == 1
    with pytest.raises(InputError, match="can't edit"):
        put_declarations(text, [Declaration(Target("router"), SecretName("b"))])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('onwer = "root"', ["secrets.toml, line 7", "onwer", "did you mean owner?"]),
        ('"owner" = 3', ["line 7", "owner", "should be a string"]),
        ('restart = "a.service"', ["line 7", "restart", "list of strings"]),
        ("reload = [1]", ["line 7", "reload", "list of strings"]),
        ('mode = "0755"', ["line 7", "mode", "executable"]),
        ('path = "etc/x"', ["line 7", "path", "absolute"]),
        ('restart = ["nginx"]', ["line 7", "restart", "systemd unit"]),
        ('owner = "a b"', ["line 7", "owner"]),
        ("mode = 0o400", ["line 7", "mode"]),
        ("owner = 1979-05-27", ["line 7", "owner"]),
        ("zzz.q = 1", ["zzz", "known are target, name"]),
        ("[secret.extra]", ["extra", "unknown key"]),
        ("broken", ["line 7"]),
        ('\n[[secret]]\ntarget="r"\nname="b"', ["line 8", "stands twice", "line 4"]),
        ('[[secret]]\ntarget="r"', ["line 7", "no name"]),
        ('[[secret]]\nname="r"', ["line 7", "no target"]),
        ('[[secret]]\nname="x"\ntarget="No"', ["line 9", "target", "no host name"]),
        ('[[secret]]\nname="../x"\ntarget="no"', ["line 8", "name", "no secret name"]),
        ('[[secrets]]\nname="x"', ["unknown key 'secrets'"]),
    ],
)
def test_errors_name_file_line_and_key(line: str, said: list[str]) -> None:
    text = f'# one\n\n\n[[secret]]\ntarget = "r"\nname = "b"\n{line}\n'
    with pytest.raises(InputError) as caught:
        parse_declarations(text)
    shown = " ".join((str(caught.value), *caught.value.hints))
    assert [part for part in said if part not in shown] == []


@given(st.text() | st.text().map(lambda text: f"[[secret]]\n{text}"))
def test_garbage_toml_gives_input_errors_only(text: str) -> None:
    try:
        parse_declarations(text)
    except InputError:
        return
    tomllib.loads(text)


values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["target", "name", "owner", "path", "restart", "x"]), values, max_size=4))
def test_wrong_types_give_input_errors_only(table: dict[str, Any]) -> None:
    try:
        made = parse_declarations(tomlkit.dumps({"secret": [table]}))
    except InputError:
        return
    assert all(isinstance(one.owner, str) for one in made)


def test_deeply_nested_files_give_input_errors() -> None:
    with pytest.raises(InputError):
        parse_declarations("a = " + "[" * 5000)
    with pytest.raises(InputError):
        parse_lock("[" * 200_000)
    with pytest.raises(InputError):
        parse_lock('{"format":' + "1" * 5000 + ',"copies":{}}')


def test_what_is_not_said_stays_and_an_empty_path_goes() -> None:
    before = Declaration(Target("r"), SecretName("n"), "a", "b", "0440", "/etc/a/b", ("a.service",), ("b.service",))
    assert Attributes().over(before) == before
    assert Attributes.parse(mode="600", path="", restart=[]).over(before) == Declaration(
        Target("r"), SecretName("n"), "a", "b", "0600", None, (), ("b.service",)
    )


@pytest.mark.parametrize(
    "said", [{"owner": "-x"}, {"group": ""}, {"mode": "0477"}, {"path": "/x"}, {"reload": ["--now.service"]}]
)
def test_attributes_are_checked(said: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Attributes.parse(**said)


@given(copies)
def test_a_lock_written_is_the_lock_read_one_copy_a_line(lock: dict[tuple[HostName, SecretName], Copy]) -> None:
    text = render_lock(lock)
    assert parse_lock(text) == lock
    assert render_lock(dict(reversed(lock.items()))) == text
    assert len(text.splitlines()) == len(lock) + 2
    content = json.loads(text)["copies"]
    assert list(content) == sorted(content)


GOOD = {"sha256": "0" * 64, "recipients": [f"age1{'q' * 58}"], "sealed": 1, "must_rotate": False}


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 63},
        {"sha256": 1},
        {"recipients": []},
        {"recipients": "age1"},
        {"recipients": [1]},
        {"recipients": ["age1x", "age1x"]},
        {"recipients": ["ssh-ed25519 AAAA"]},
        {"recipients": [f"age1{'q' * 58}", f"age1{'p' * 58}"]},
        {"sealed": True},
        {"sealed": 1.0},
        {"sealed": -1},
        {"sealed": 2**53},
        {"must_rotate": 0},
        {"extra": 1},
    ],
)
def test_a_wrong_copy_is_refused_by_its_name(change: dict[str, Any]) -> None:
    def text(copy: dict[str, Any]) -> str:
        return json.dumps({"format": 1, "copies": {"router/wg": copy}})

    assert len(parse_lock(text(GOOD))) == 1
    with pytest.raises(InputError, match="router/wg"):
        parse_lock(text(GOOD | change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format":1}',
        '{"format":2,"copies":{}}',
        '{"format":true,"copies":{}}',
        '{"format":1,"copies":[]}',
        '{"format":1,"copies":{},"x":1}',
        '{"format":1,"copies":{"router":{}}}',
        '{"format":1,"copies":{"router/../x":{}}}',
        '{"format":1,"copies":{"a/\\ud800":{}}}',
        '{"format":1,"copies":{},"copies":{}}',
    ],
)
def test_a_lock_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_lock(text)


def test_a_merge_conflict_is_called_one() -> None:
    lines = render_lock({(HostName("a"), SecretName("b")): Copy(Digest("0" * 64), ("ssh-rsa AAAA",), 1)}).splitlines()
    text = "\n".join([lines[0], "<<<<<<< HEAD", lines[1], "=======", lines[1], ">>>>>>> other", lines[2]])
    with pytest.raises(InputError, match="merge conflict"):
        parse_lock(text)
    table = '[[secret]]\ntarget = "web"\n<<<<<<< HEAD\nname = "a"\n=======\nname = "b"\n>>>>>>> other\n'
    for parse_table in (parse_declarations, parse_templates):
        with pytest.raises(InputError, match="merge conflict, at line 3"):
            parse_table(table)
    marks = '[[template]]\ntarget = "web"\nname = "a"\ntext = """\n<<<<<<< no merge\n>>>>>>> at all\n"""\n'
    assert parse_templates(marks)


@given(st.text() | values.map(json.dumps))
def test_garbage_locks_give_input_errors_only(text: str) -> None:
    parsers: list[Callable[[str], object]] = [parse_lock]
    for parse in parsers:
        with pytest.raises(BentoError):
            parse(text)
