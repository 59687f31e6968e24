"""A system's declaration of its secrets: what is well-formed, and what no host could install."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bento.errors import InputError
from bento.models.declaration import parse_declaration

PLAIN: dict[str, Any] = {
    "owner": "root", "group": "root", "mode": "0400", "path": None, "restart": [], "reload": []
}  # fmt: skip


def document(*secrets: dict[str, Any], templates: tuple[dict[str, Any], ...] = (), **changes: Any) -> bytes:
    whole = {
        "format": 1,
        "secrets": [{**PLAIN, "users": False, **one} for one in secrets],
        "templates": [{**PLAIN, **one} for one in templates],
        **changes,
    }
    return json.dumps(whole).encode()


def test_a_whole_declaration_is_read() -> None:
    data = document(
        {"name": "tls/key", "owner": "app", "mode": "0440", "path": "/etc/key", "restart": ["a.service"]},
        {"name": "hash", "users": True},
        templates=({"name": "app.env", "text": 'a={{ secret "only-in-secrets.toml" }}'},),
    )
    found = parse_declaration(data, "here")
    assert [(one.name, one.mode, one.users) for one in found.secrets] == [
        ("tls/key", "0440", False),
        ("hash", "0400", True),
    ]
    assert found.templates[0].name == "app.env"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (document(format=2), "format"),
        (document({"name": "a", "mode": "rw"}), "'a', mode"),
        (document({"name": "../a"}), "'../a', name"),
        (document({"name": "a", "restart": ["a b"]}), "'a', restart.0"),
        (document({"name": "a", "content": "hunter2"}), "'a', content"),
        (document({"name": "a", "path": "etc/x"}), "'a', path"),
        (document({"name": "a"}, {"name": "A"}), "can't share the name a"),
        (document({"name": "a"}, {"name": "a/b"}), "a/b"),
        (document({"name": "a"}, templates=({"name": "a", "text": ""},)), "can't share the name a"),
        (document({"name": "a", "path": "/etc/x"}, {"name": "b", "path": "/etc/x"}), "two links of one host collide"),
        (document({"name": "a", "users": True, "owner": "app"}), "is needed before there are users"),
        (document(templates=({"name": "t", "text": "a\n{{ if }}"},)), "the template t, line 2"),
        (document(templates=({"name": "t"},)), "'t', text"),
        (b"{", "document"),
        (b"[]", "document"),
    ],
)
def test_what_no_host_could_install_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_declaration(data, "here")
    assert caught.value.message.startswith("here: ")
    assert said in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("drop", ["owner", "mode", "users", "restart"])
def test_nothing_is_guessed_where_a_key_is_missing(drop: str) -> None:
    whole = json.loads(document({"name": "a"}))
    forget: Callable[[str], object] = whole["secrets"][0].pop
    forget(drop)
    with pytest.raises(InputError, match=f"'a', {drop}"):
        parse_declaration(json.dumps(whole).encode(), "here")
