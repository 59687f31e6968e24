"""Who speaks of a secret: secrets.toml, the host's configuration, or both."""

from typing import Any

import pytest
from unit.samples import secret

from bento.core.declared import check_satisfied, fill
from bento.errors import InputError, Refused
from bento.models.declaration import DeclaredSecret, DeclaredTemplate, HostDeclaration
from bento.models.manifest import TemplateRef
from bento.names import HostName

WEB = HostName("web")
PLAIN: dict[str, Any] = {
    "owner": "root", "group": "root", "mode": "0400", "path": None, "restart": (), "reload": ()
}  # fmt: skip


def declared(*secrets: DeclaredSecret, templates: tuple[DeclaredTemplate, ...] = ()) -> HostDeclaration:
    return HostDeclaration(format=1, secrets=secrets, templates=templates)


def wants(name: str, **changes: Any) -> DeclaredSecret:
    return DeclaredSecret(**{"name": name, **PLAIN, "users": False, **changes})


def wants_text(name: str, text: str, **changes: Any) -> DeclaredTemplate:
    return DeclaredTemplate(**{"name": name, **PLAIN, "text": text, **changes})


def given(name: str, **changes: Any) -> Any:
    return secret(name, **{**PLAIN, **changes})


def text(name: str, content: str, **changes: Any) -> TemplateRef:
    return TemplateRef(**{"name": name, "text": content, **PLAIN, **changes})


def test_what_the_configuration_declares_fills_the_release() -> None:
    own = {"owner": "app", "group": "app", "mode": "0440", "path": "/etc/app/key"}
    own |= {"restart": ("app.service",), "reload": ("web.service",)}
    filled, _ = fill(WEB, declared(wants("token", **own)), [given("token"), given("other", owner="db")], [])
    assert [(one.name, one.owner) for one in filled] == [("token", "app"), ("other", "db")]
    assert filled[0].model_dump() == {**given("token").model_dump(), **own}


def test_what_only_one_place_says_holds_and_so_does_what_both_say_alike() -> None:
    filled, _ = fill(WEB, declared(wants("token", owner="app")), [given("token", owner="app")], [])
    assert filled[0].owner == "app"


@pytest.mark.parametrize(
    ("key", "there", "option"),
    [
        ("owner", "db", "owner"),
        ("mode", "0440", "mode"),
        ("path", "/etc/x", "link"),
        ("restart", ("a.service",), "restartUnits"),
        ("reload", ("a.service",), "reloadUnits"),
        ("users", True, "neededForUsers"),
    ],
)
def test_where_both_speak_and_differ_the_error_names_both_places(key: str, there: object, option: str) -> None:
    with pytest.raises(InputError) as caught:
        fill(WEB, declared(wants("token")), [given("token", **{key: there})], [])
    assert f"secrets/secrets.toml says {key} = " in caught.value.message
    assert f'bento.secrets."token".{option} = ' in caught.value.message


def test_a_secret_that_the_store_lacks_is_named_with_what_may_have_been_meant() -> None:
    with pytest.raises(InputError) as caught:
        fill(WEB, declared(wants("db/pasword"), wants("zz")), [given("db/password")], [])
    assert "the configuration of web declares the secret db/pasword (and zz), which the secret store lacks" in str(
        caught.value
    )
    assert any("db/password" in hint for hint in caught.value.hints)
    assert "add it: bento secret add web FILE --name db/pasword" in caught.value.hints


def test_a_template_of_the_configuration_is_added_and_one_in_both_places_must_be_the_same() -> None:
    declaration = declared(templates=(wants_text("b.env", "x"),))
    _, templates = fill(WEB, declaration, [], [text("c.env", "y"), text("a.env", "z")])
    assert [(one.name, one.text) for one in templates] == [("a.env", "z"), ("b.env", "x"), ("c.env", "y")]
    assert fill(WEB, declaration, [], [text("b.env", "x")])[1] == (text("b.env", "x"),)
    for other in (text("b.env", "other"), text("b.env", "x", mode="0440")):
        with pytest.raises(InputError, match="both declare the template"):
            fill(WEB, declaration, [], [other])


def test_a_release_that_brings_what_the_system_declares_satisfies_it_and_may_bring_more() -> None:
    declaration = declared(wants("a", mode="0440"), templates=(wants_text("t", "x"),))
    check_satisfied(declaration, [given("a", mode="0440"), given("more")], [text("t", "x"), text("u", "y")])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("owner", "app"),
        ("group", "app"),
        ("mode", "0440"),
        ("path", "/etc/x"),
        ("restart", ("a.service",)),
        ("reload", ("a.service",)),
        ("users", True),
    ],
)
def test_a_release_that_brings_a_secret_otherwise_than_declared_is_refused(key: str, value: object) -> None:
    with pytest.raises(Refused, match=f"the system declares another {key} for the secret a"):
        check_satisfied(declared(wants("a", **{key: value})), [given("a")], [])


def test_a_release_without_a_declared_secret_or_template_is_refused() -> None:
    with pytest.raises(Refused, match="declares the secret a, which the release doesn't bring"):
        check_satisfied(declared(wants("a")), [given("b")], [text("a", "no secret")])
    with pytest.raises(Refused, match="declares the template t, which the release doesn't bring"):
        check_satisfied(declared(templates=(wants_text("t", "x"),)), [given("t")], [])
    with pytest.raises(Refused, match="another text for the template t"):
        check_satisfied(declared(templates=(wants_text("t", "x"),)), [], [text("t", "y")])
