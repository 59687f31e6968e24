"""The manifest: what is signed has one spelling, and nothing beyond the rules gets through its fields."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.samples import SYSTEM, complaint_of, digest, manifest, manifests, quick, secret

from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest, parse_manifest
from bento.models.signed import canonical


def fields() -> dict[str, Any]:
    """A manifest with one secret, as plain JSON."""
    rich = manifest(secrets=(secret(path="/etc/app/key", restart=("a.service",)),), previous=digest("before"))
    plain: dict[str, Any] = json.loads(rich.line)
    return plain


@quick
@given(manifests)
def test_what_is_written_reads_back_the_same(one: Manifest) -> None:
    links = [secret.path for secret in one.secrets if secret.path is not None]
    assume(len(set(links)) == len(links))  # two secrets can't have one link
    assert parse_manifest(one.line) == one
    assert parse_manifest(one.line).line == one.line


@pytest.mark.parametrize(
    "other",
    [
        lambda line: line.replace(b":", b": ", 1),
        lambda line: b" " + line,
        lambda line: line[:-1],
        lambda line: line[:-1] + b" \n",
        lambda line: line.replace(b"\n", b"\r\n"),
        lambda line: line.replace(b'"acme"', b'"\\u0061cme"'),
        lambda line: line.replace(b'"acme"', b'"\xc3\xa9"'),
        lambda line: line.replace(b'{"config"', b'{"fleet":"evil","config"'),
        lambda line: line[:-2] + b',"fleet":"acme"}\n',
        lambda line: json.dumps(dict(reversed(json.loads(line).items())), separators=(",", ":")).encode() + b"\n",
    ],
    ids=["space", "before", "no newline", "after", "crlf", "escape", "utf-8", "twice first", "twice last", "order"],
)
def test_another_spelling_of_the_same_is_refused(other: Callable[[bytes], bytes]) -> None:
    line = manifest().line
    assert other(line) != line
    with pytest.raises(InputError, match="canonical"):
        parse_manifest(other(line))


@pytest.mark.parametrize("where", [(), ("config",), ("settings",), ("secrets", 0)])
def test_a_key_that_nobody_knows_is_refused(where: tuple[str | int, ...]) -> None:
    plain = fields()
    inner: Any = plain
    for part in where:
        inner = inner[part]
    inner["extra"] = 1
    with pytest.raises(InputError, match=r"extra is wrong"):
        parse_manifest(canonical(plain))


@pytest.mark.parametrize("key", sorted(fields()))
def test_every_key_must_be_there(key: str) -> None:
    plain = fields()
    del plain[key]
    with pytest.raises(InputError):
        parse_manifest(canonical(plain))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("format", "1"),
        ("fleet", ""),
        ("fleet", "x" * 65),
        ("host", "Web"),
        ("host", "root"),
        ("host", "../web"),
        ("host", "web\n"),
        ("serial", 0),
        ("serial", 2**53),
        ("serial", -1),
        ("serial", True),
        ("serial", "1000"),
        ("serial", 1000.0),
        ("created", -1),
        ("previous", "0" * 63),
        ("previous", "A" * 64),
        ("system", "/nix/store/../../etc"),
        ("system", "/nix/store/" + "a" * 32 + "-x/bin"),
        ("system", "/nix/store/" + "e" * 32 + "-x"),
        ("system", "/tmp/x"),
        ("system", SYSTEM + "\n"),
    ],
)
def test_a_field_outside_its_rule_is_refused(key: str, value: object) -> None:
    with pytest.raises(InputError, match=key):
        parse_manifest(canonical({**fields(), key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../x"),
        ("name", "/etc/passwd"),
        ("name", "a//b"),
        ("name", ".hidden"),
        ("name", "a/b/c/d/e"),
        ("name", "a\x00"),
        ("digest", "../../etc"),
        ("size", 0),
        ("size", LIMITS.ciphertext + 1),
        ("mode", "4400"),
        ("mode", "0777"),
        ("mode", "0500"),
        ("mode", "9"),
        ("owner", "root:root"),
        ("owner", "-x"),
        ("owner", ""),
        ("group", "Wheel x"),
        ("path", "etc/x/y"),
        ("path", "/etc/../shadow"),
        ("path", "/x"),
        ("path", "/etc/a\x1b"),
        ("restart", ["--now"]),
        ("restart", ["nginx"]),
        ("restart", ["a b.service"]),
        ("reload", ["a.service"] * (LIMITS.units + 1)),
        ("reload", "a.service"),
        ("recipient", "x" * 4097),
    ],
)
def test_a_secret_outside_its_rules_is_refused(key: str, value: object) -> None:
    plain = fields()
    plain["secrets"][0][key] = value
    with pytest.raises(InputError, match=key):
        parse_manifest(canonical(plain))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("digest", "x"),
        ("size", -1),
        ("size", LIMITS.config + 1),
        ("kind", "tarball"),
        ("attribute", 'x"; builtins.abort'),
        ("attribute", "a b"),
        ("attribute", "web\n"),
        ("attribute", ""),
    ],
)
def test_a_configuration_outside_its_rules_is_refused(key: str, value: object) -> None:
    plain = fields()
    plain["config"][key] = value
    with pytest.raises(InputError, match=key):
        parse_manifest(canonical(plain))


@pytest.mark.parametrize(
    ("key", "value"), [("action", "reboot"), ("on_difference", "x"), ("args", ["a\nb"]), ("args", ["--x"] * 65)]
)
def test_settings_outside_their_rules_are_refused(key: str, value: object) -> None:
    plain = fields()
    plain["settings"][key] = value
    with pytest.raises(InputError, match=key):
        parse_manifest(canonical(plain))


@pytest.mark.parametrize("names", [("db", "db"), ("db", "DB"), ("a/Key", "A/key")])
def test_a_secret_named_twice_is_refused_whatever_its_case(names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="share the name"):
        parse_manifest(manifest(secrets=tuple(secret(name) for name in names)).line)


def test_there_is_an_end_to_the_number_of_secrets() -> None:
    plain = fields()
    one = plain["secrets"][0]
    plain["secrets"] = [{**one, "name": f"s{number:04}", "path": None} for number in range(LIMITS.secrets + 1)]
    with pytest.raises(InputError, match="secrets"):
        parse_manifest(canonical(plain))
    del plain["secrets"][-1]
    assert len(parse_manifest(canonical(plain)).secrets) == LIMITS.secrets


def test_a_parsed_manifest_cannot_be_changed() -> None:
    one = manifest()
    with pytest.raises(ValidationError):
        one.serial = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"null\n", b"[]\n", b"[" * 100_000, b'{"a":' * 50_000, b'{"fleet":"\\ud800"}\n', b"\xff\xfe\n"]
)
def test_hostile_json_gives_an_input_error(line: bytes) -> None:
    with pytest.raises(InputError):
        parse_manifest(line)


@quick
@given(st.binary(max_size=80), st.integers(0, 500))
def test_any_bytes_put_anywhere_give_nothing_but_our_own_error(data: bytes, at: int) -> None:
    line = canonical(fields())
    for raw in (data, line[:at] + data + line[at:], line[:at] + data):
        said = complaint_of(parse_manifest, raw)
        assert said.isprintable() if said is not None else parse_manifest(raw).line == raw
