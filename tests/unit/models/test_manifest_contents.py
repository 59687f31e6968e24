"""What a release may hold: asked by deploy before it signs, and by the host before it believes."""

from typing import Any

import pytest

from bento.errors import InputError
from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings, TemplateRef, check_contents, parse_manifest
from bento.names import Digest, HostName, SecretName, Serial

ZERO = Digest("0" * 64)


def file(name: str, said: dict[str, Any]) -> dict[str, Any]:
    plain = {"owner": "root", "group": "root", "mode": "0400", "path": None, "restart": (), "reload": ()}
    return {"name": SecretName(name), **plain, **said}


def secret(name: str, **said: Any) -> SecretRef:
    return SecretRef(digest=ZERO, size=1, recipient="age1x", **file(name, said))


def template(name: str, text: str = "", **said: Any) -> TemplateRef:
    return TemplateRef(text=text, **file(name, said))


def test_files_that_can_stand_side_by_side_pass() -> None:
    check_contents(
        [secret("a", path="/etc/x/a"), secret("ab"), secret("a.b/c"), secret("hash", users=True)],
        [template("t", '{{ secret "a" }}{{ secret "hash" }}', path="/etc/x/ab")],
    )


@pytest.mark.parametrize(
    ("names", "templates"),
    [(("a", "A"), ()), (("a/b", "a"), ()), (("a-b", "a/b", "A"), ()), (("a",), ("a",)), (("a/b",), ("A/B/c",))],
)
def test_names_of_secrets_and_templates_are_of_one_folder(names: tuple[str, ...], templates: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="can't share the name"):
        check_contents([secret(name) for name in names], [template(name) for name in templates])


@pytest.mark.parametrize("other", ["/etc/a", "/etc/a/b"])
def test_links_must_not_collide(other: str) -> None:
    with pytest.raises(InputError, match=f"collide at {other}"):
        check_contents([secret("one", path=other)], [template("two", path="/etc/a")])


@pytest.mark.parametrize("said", [{"owner": "app"}, {"group": "app"}, {"mode": "0440"}, {"path": "/etc/a"}])
def test_a_secret_for_users_is_roots_alone(said: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the secret hash is needed before there are users"):
        check_contents([secret("hash", users=True, **said)], [])


def test_a_template_names_secrets_that_are_there() -> None:
    with pytest.raises(InputError, match="names the secret tokn") as caught:
        check_contents([secret("token")], [template("t", '{{ secret "tokn" }}')])
    assert "did you mean token?" in caught.value.hints
    with pytest.raises(InputError, match="line 1"):
        check_contents([], [template("t", "{{")])


def test_a_host_asks_the_same_of_what_was_signed() -> None:
    config = ConfigRef(digest=ZERO, size=1, kind="channel", attribute=None)
    good = Manifest(
        fleet="acme",
        host=HostName("web"),
        serial=Serial(1),
        created=1,
        previous=None,
        config=config,
        system=None,
        secrets=(secret("a"),),
        templates=(template("t", 'ü {{ secret "a" }}\n'),),
        settings=Settings(),
    )
    assert parse_manifest(good.line) == good
    bad = good.model_copy(update={"templates": (template("t", "{{ x }}"),)})
    with pytest.raises(InputError, match="the template t, line 1"):
        parse_manifest(bad.line)
