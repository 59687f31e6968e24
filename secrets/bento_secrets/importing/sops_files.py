"""SOPS's file formats, as far as they stand in clear text: names, and the keys a file is sealed to.

A value is `ENC[AES256_GCM,…]`; beside the values is `sops`, a map that lists who may open the file. In dotenv and INI
files that map is flattened into lines such as `sops_age__list_0__map_recipient=age1…`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bento_secrets.errors import InputError
from bento_secrets.importing.limits import IMPORT_LIMITS

_SUFFIXES = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".env": "dotenv", ".ini": "ini"}
_KINDS = ("age", "pgp", "kms", "gcp_kms", "hckms", "azure_kv", "hc_vault")
# What names a key, by its kind: age's recipient, PGP's fingerprint, a cloud's identifier.
_NAMES = ("recipient", "fp", "arn", "resource_id", "key_id", "name", "key_name")
_FLAT = re.compile(
    rf"(?:sops_)?(?:key_groups__list_(?P<group>\d+)__map_)?(?:{'|'.join(_KINDS)})__list_\d+__map_(?:{'|'.join(_NAMES)})"
)
_STARTS = ("BlockMappingStartToken", "BlockSequenceStartToken", "FlowMappingStartToken", "FlowSequenceStartToken")
_ENDS = ("BlockEndToken", "FlowMappingEndToken", "FlowSequenceEndToken")
_SEALED = "ENC[AES256_GCM,"
_TOO_DEEP = f"it has more than {IMPORT_LIMITS.MAX_DEPTH} maps and lists inside each other"
_GROUPS = "it takes keys of several groups together (Shamir's scheme) to open it"


@dataclass(frozen=True)
class SopsFile:
    """A file that SOPS sealed. `names` leads to each value, and says if it is sealed; None if the whole file is one."""

    format: str
    keys: tuple[str, ...]
    names: tuple[tuple[tuple[str, ...], bool], ...] | None
    problem: str | None = None


def format_of(name: str) -> str:
    """By the file's name, as SOPS itself decides."""
    return next((found for suffix, found in _SUFFIXES.items() if name.endswith(suffix)), "binary")


def parse(name: str, content: bytes) -> SopsFile | None:
    """A file's keys and names; None for a file that isn't SOPS's. InputError for one that can't be read."""
    kind = format_of(name)
    if kind in ("dotenv", "ini"):
        return _flat(kind, content)
    if b"sops" not in content or (kind == "binary" and not content.lstrip().startswith(b"{")):
        return None
    tree = _yaml(content) if kind == "yaml" else _json(content, strict=kind == "json")
    meta = tree.get("sops") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(meta, dict) or "mac" not in meta:
        return None
    groups = _list(meta.get("key_groups")) or [meta]
    keys = _capped(key for group in groups for key in _keys(group))
    problem = _GROUPS if len(groups) > 1 else None
    if kind == "binary":
        return SopsFile(kind, keys, None, problem)
    return SopsFile(kind, keys, tuple((path, _is_sealed(value)) for path, value in leaves(tree)), problem)


def leaves(tree: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value of a file, but for SOPS's own, and the way to it; members of a list by their number."""
    for key, value in tree.items():
        if key != "sops":
            yield from _leaves(value, (str(key),))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict | list):
        yield path, value
        return
    if len(path) > IMPORT_LIMITS.MAX_DEPTH:
        raise InputError(_TOO_DEEP)
    members = value.items() if isinstance(value, dict) else enumerate(one for one in value if not _is_comment(one))
    for key, inner in members:
        yield from _leaves(inner, (*path, str(key)))


def _is_comment(value: object) -> bool:
    """SOPS writes a list's comments among its members, and doesn't count them when it has opened them."""
    return _is_sealed(value) and str(value).endswith(",type:comment]")


def _is_sealed(value: object) -> bool:
    return isinstance(value, str) and value.startswith(_SEALED)


def _keys(group: object) -> Iterator[str]:
    for kind in _KINDS:
        for entry in _list(group.get(kind)) if isinstance(group, dict) else []:
            names = [entry[name] for name in _NAMES if name in entry] if isinstance(entry, dict) else []
            yield names[0] if names and isinstance(names[0], str) else f"a key of the kind {kind}"


def _flat(kind: str, content: bytes) -> SopsFile | None:
    keys, groups, sealed, section = [], set[str](), False, ""
    for line in content.decode("utf-8", "replace").splitlines():
        if kind == "ini" and line.startswith("["):
            section = line.strip().strip("[]")
        name, _, value = line.partition("=")
        name = name.strip()
        if (section == "sops") if kind == "ini" else name.startswith("sops_"):
            sealed = sealed or name.removeprefix("sops_") == "mac"
            match = _FLAT.fullmatch(name)
            if match:
                keys.append(value.strip())
                groups.add(match["group"] or "")
    if not sealed:
        return None
    return SopsFile(kind, _capped(keys), None, _GROUPS if len(groups) > 1 else None)


def _capped(keys: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(keys))
    if len(found) > IMPORT_LIMITS.MAX_KEYS:
        raise InputError(f"it is sealed to more than {IMPORT_LIMITS.MAX_KEYS} keys")
    return found


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _json(content: bytes, *, strict: bool) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        if strict:
            raise InputError("it is no valid JSON") from None
        return None  # one of the many files that only begin like it


def _yaml(content: bytes) -> Any:
    """Maps, lists and strings only: YAML's other types would read a key such as `on` or `1.0` as something else.

    By the loader in pure Python: with the one in C, a few megabytes of `[` end the process.
    """
    import yaml  # not needed on a host, nor for another importer

    if len(content) > IMPORT_LIMITS.MAX_YAML:
        raise InputError(f"a YAML file of more than {IMPORT_LIMITS.MAX_YAML} bytes")
    try:
        _check_tokens(yaml.scan(content, Loader=yaml.BaseLoader))
        return yaml.load(content, Loader=yaml.BaseLoader)  # noqa: S506 — BaseLoader makes nothing but strings
    except (yaml.YAMLError, RecursionError, ValueError):
        raise InputError("it is no valid YAML, or more than one document") from None


def _check_tokens(tokens: Iterable[object]) -> None:
    """Refuse, while they are read, what makes YAML cost time without end."""
    depth = 0
    for count, token in enumerate(tokens):
        kind = type(token).__name__
        if kind == "AliasToken":
            # SOPS writes none, and a few of them can stand for millions of values.
            raise InputError("it uses YAML aliases, which SOPS can't seal")
        depth += kind in _STARTS
        depth -= kind in _ENDS
        if depth > IMPORT_LIMITS.MAX_DEPTH:
            raise InputError(_TOO_DEEP)
        if count > IMPORT_LIMITS.MAX_TOKENS:
            raise InputError(f"a YAML file of more than {IMPORT_LIMITS.MAX_TOKENS} words and marks")
