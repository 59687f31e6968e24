"""What a flake.lock holds each input at, and what moved between two of them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bento.errors import InputError

_SHORT_REV, _SHORT_HASH = 7, 15  # characters: as git shows a commit, and sha256- with the start of the hash
_DEEP = 20  # inputs of inputs


@dataclass(frozen=True)
class Moved:
    """An input by its path (`home-manager/nixpkgs`); `before` and `after` in short words, None: not there."""

    input: str
    before: str | None
    after: str | None


def inputs(lock: bytes, name: str) -> tuple[str, ...]:
    """The flake's own inputs. Raises InputError for what is no flake.lock; `name` is its path for the message."""
    return tuple(sorted(_root(_nodes(lock, name))))


def moved(before: bytes, after: bytes, name: str) -> tuple[Moved, ...]:
    """What differs between two flake.lock files, by input. Raises InputError."""
    then, now = _held(before, name), _held(after, name)
    return tuple(
        Moved(one, _said(then.get(one)), _said(now.get(one)))
        for one in sorted({*then, *now})
        if then.get(one) != now.get(one)
    )


def _nodes(lock: bytes, name: str) -> dict[str, Any]:
    try:
        values = json.loads(lock)
        nodes, root = values["nodes"], values["root"]
        return {"": nodes[root], **nodes} if isinstance(nodes[root], dict) else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{name} is no flake.lock", f"take it from git: git checkout HEAD -- {name}") from None


def _root(nodes: Mapping[str, Any]) -> Mapping[str, Any]:
    return _inputs(nodes.get(""))


def _inputs(node: Any) -> Mapping[str, Any]:
    found = node.get("inputs") if isinstance(node, dict) else None
    return found if isinstance(found, dict) else {}


def _held(lock: bytes, name: str) -> dict[str, Any]:
    """The locked part of every input that doesn't follow another, by path."""
    nodes = _nodes(lock, name)
    return dict(_walk(nodes, _root(nodes), "", 0))


def _walk(nodes: Mapping[str, Any], below: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, target in below.items():
        node = nodes.get(target) if isinstance(target, str) else None  # a list follows another input
        if not isinstance(node, dict) or depth > _DEEP:
            continue
        yield f"{prefix}{name}", node.get("locked")
        yield from _walk(nodes, _inputs(node), f"{prefix}{name}/", depth + 1)


def _said(locked: Any) -> str | None:
    if not isinstance(locked, dict):
        return None
    rev, digest, time = (locked.get(key) for key in ("rev", "narHash", "lastModified"))
    word = str(rev)[:_SHORT_REV] if rev is not None else str(digest)[:_SHORT_HASH]
    try:
        return f"{word} ({datetime.fromtimestamp(time, UTC):%Y-%m-%d})" if isinstance(time, int) else word
    except (OverflowError, ValueError, OSError):
        return word
