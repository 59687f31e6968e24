"""secrets.lock: what each sealed copy should be. Machine-kept, sorted JSON, one copy a line, so that branches merge."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bento_secrets.errors import InputError
from bento_secrets.lost import bring_back, merge_mark
from bento_secrets.names import Digest, HostName, SecretName, Target, printable

_RECIPIENT = re.compile(
    r"age1[02-9ac-hj-np-z]{58}|age1[a-z0-9][a-z0-9+._-]{0,63}1[02-9ac-hj-np-z]{6,8000}|ssh-rsa [A-Za-z0-9+/]+={0,2}"
)
_KEYS = ("sha256", "recipients", "sealed", "must_rotate")
_MAX_TIME = 2**53 - 1  # what every JSON reader keeps exactly


@dataclass(frozen=True)
class Copy:
    """One host's sealed file: sha256 of its bytes, its recipients' texts, sorted.

    `sealed` is when this content was first sealed, UTC seconds: sealing it anew, to others, doesn't make it younger.
    `must_rotate`: somebody who could open it no longer may, so its content should change. `target`: whose secret it is,
    the host's own or a tag's; None in a lock that doesn't say.
    """

    sha256: Digest
    recipients: tuple[str, ...]
    sealed: int
    must_rotate: bool = False
    target: Target | None = None


Copies = Mapping[tuple[HostName, SecretName], Copy]


def render_lock(copies: Copies) -> str:
    """The file's text, which depends on nothing but `copies`."""
    lines = sorted(
        f"{json.dumps(f'{host}/{name}')}:{json.dumps(_as_json(copy), separators=(',', ':'))}"
        for (host, name), copy in copies.items()
    )
    return '{"format":1,"copies":{\n' + ",\n".join(lines) + ("\n" if lines else "") + "}}\n"


def parse_lock(text: str, file: str = "secrets.lock") -> dict[tuple[HostName, SecretName], Copy]:
    """The copies by host and name; InputError naming `file` and what is wrong."""
    if merge_mark(text):
        raise InputError(
            f"{file} has an unresolved merge conflict", "keep the lines of both sides, and remove the marks"
        )
    try:
        content = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged: {printable(str(error))}", *_again(file)) from None
    if not isinstance(content, dict) or content.keys() != {"format", "copies"}:
        raise InputError(f"{file} is damaged: it should hold format and copies, nothing else", *_again(file))
    if content["format"] != 1 or isinstance(content["format"], bool):
        raise InputError(f"{file} has a format that this Bento doesn't know", "use a newer bento")
    if not isinstance(content["copies"], dict):
        raise InputError(f"{file} is damaged: copies is no object", *_again(file))
    return dict(_parse_entry(key, value, file) for key, value in content["copies"].items())


def _again(file: str) -> tuple[str, ...]:
    return bring_back(Path(file).parent, Path(file).name)


def _as_json(copy: Copy) -> dict[str, Any]:
    return {
        "sha256": copy.sha256,
        "recipients": list(copy.recipients),
        "sealed": copy.sealed,
        "must_rotate": copy.must_rotate,
    } | ({} if copy.target is None else {"target": copy.target})


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in one object, which a merge may have left")
    return made


def _parse_entry(key: str, value: object, file: str) -> tuple[tuple[HostName, SecretName], Copy]:
    where = f"{file}: {printable(key)}"
    host, _, name = key.partition("/")
    try:
        return (HostName.parse(host), SecretName.parse(name)), _parse_copy(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}", *_again(file)) from None


def _parse_copy(value: object) -> Copy:
    if not isinstance(value, dict) or value.keys() - {"target"} != set(_KEYS):
        raise ValueError(f"should hold {', '.join(_KEYS)} and target, nothing else")
    digest, recipients, sealed, must_rotate = (value[key] for key in _KEYS)
    target = value.get("target")
    if not isinstance(digest, str):
        raise TypeError("sha256 is no string")
    if not isinstance(recipients, list) or not recipients or not all(isinstance(text, str) for text in recipients):
        raise ValueError("recipients is no list of strings")
    if recipients != sorted(set(recipients)) or not all(_RECIPIENT.fullmatch(text) for text in recipients):
        raise ValueError("recipients are not sorted, or one is malformed")
    if type(sealed) is not int or not 0 <= sealed <= _MAX_TIME:
        raise ValueError("sealed is no time in UTC seconds")
    if not isinstance(must_rotate, bool):
        raise TypeError("must_rotate is neither true nor false")
    if target is not None and not isinstance(target, str):
        raise TypeError("target is no string")
    parsed = None if target is None else Target.parse(target)
    return Copy(Digest.parse(digest), tuple(recipients), sealed, must_rotate, parsed)
