"""The one spelling of what is signed, and how it stays readable when formats grow."""

import json

import pytest
from unit.samples import manifest, report

from bento.errors import InputError
from bento.models.line import SignedLine, parse_line
from bento.models.manifest import Settings, parse_manifest
from bento.models.signed import canonical


class Old(SignedLine):
    host: str


class New(SignedLine):
    host: str
    colour: str = "blue"


def test_a_newer_bento_takes_what_an_older_one_wrote_and_an_older_one_what_uses_nothing_new() -> None:
    assert parse_line(New, Old(host="web").line, "it") == New(host="web")
    assert parse_line(Old, New(host="web").line, "it") == Old(host="web")


def test_an_older_bento_refuses_what_it_does_not_know_by_its_name() -> None:
    with pytest.raises(InputError, match="it's colour is wrong"):
        parse_line(Old, New(host="web", colour="red").line, "it")


@pytest.mark.parametrize(
    "fields",
    [
        {"format": 1, "host": "web", "colour": "blue"},  # a default that is written out
        {"host": "web"},  # no format
    ],
)
def test_there_is_one_spelling(fields: dict[str, object]) -> None:
    with pytest.raises(InputError, match="canonical"):
        parse_line(New, canonical(fields), "it")
    with pytest.raises(InputError, match="canonical"):
        parse_line(New, canonical({"format": 1, "host": "web"}).replace(b",", b", "), "it")


def test_another_format_is_refused() -> None:
    with pytest.raises(InputError, match="it's format is wrong"):
        parse_line(New, canonical({"format": 2, "host": "web"}), "it")


def test_a_manifest_tells_only_what_is_not_as_usual() -> None:
    plain = json.loads(manifest().line)
    assert plain["format"] == 1
    assert plain["settings"] == {}
    assert "templates" not in plain
    asked = manifest(settings=Settings(action="boot"))
    assert json.loads(asked.line)["settings"] == {"action": "boot"}
    assert parse_manifest(asked.line) == asked
    assert json.loads(report().line)["format"] == 1
