"""A stand-in for the program `sops`, which Debian doesn't have: SOPS's file format, and what is used of its interface.

    sops --decrypt [--output-type json] FILE        the content, on stdout; keys by SOPS_AGE_KEY_FILE

A data key is sealed to each age recipient by the `age` command. A value is `ENC[AES256_GCM,…]`, bound to the way to it;
the MAC covers all values in their order. (Format: getsops/sops, README "Encryption protocol", aes/cipher.go, sops.go.)
"""

import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MODIFIED = "2026-01-02T03:04:05Z"
_VALUE = re.compile(r"ENC\[AES256_GCM,data:(.+),iv:(.+),tag:(.+),type:(.+)\]")
_CLEAR = "_unencrypted"


def install(folder: Path) -> Path:
    """A folder for PATH with the program `sops` in it."""
    folder.mkdir()
    program = folder / "sops"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def seal(path: Path, content: Any, recipients: Sequence[str], other: dict[str, Any] | None = None) -> None:
    """Write `path` as `sops --encrypt` would: a tree as YAML, JSON, dotenv or INI by the file's name, bytes else."""
    key = os.urandom(32)
    tree = {"data": content.decode()} if isinstance(content, bytes) else content
    mac = hashlib.sha512(b"".join(_plain(value)[0] for _, value in _leaves(tree))).hexdigest().upper()
    meta = {
        "age": [{"recipient": one, "enc": _age("-e", "-a", "-r", one, given=key).decode()} for one in recipients],
        "lastmodified": _MODIFIED,
        "mac": _encrypt(mac, key, _MODIFIED),
        **(other or {}),
        "unencrypted_suffix": _CLEAR,
        "version": "3.9.4",
    }
    sealed = _walk(tree, (), lambda way, value: _encrypt(value, key, _bound(way)) if _is_secret(way) else value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_written(path.name, sealed, meta))


def decrypt(path: Path, *, as_json: bool) -> bytes:
    """The content of a file that `seal` wrote; ValueError if the MAC is wrong."""
    kind, tree, meta = _read(path)
    key = _data_key(meta)

    def opened(way: tuple[str, ...], value: Any) -> Any:
        return _decrypt(value, key, _bound(way)) if _is_secret(way) and value else value

    plain = _walk(tree, (), opened)
    mac = hashlib.sha512(b"".join(_plain(value)[0] for _, value in _leaves(plain))).hexdigest().upper()
    if _decrypt(meta["mac"], key, meta["lastmodified"]) != mac:
        raise ValueError("MAC mismatch")
    if as_json:
        return json.dumps(plain, indent="\t").encode()
    if kind == "binary":
        return str(plain["data"]).encode()
    return _plain_text(kind, plain).encode()


def _read(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    text, kind = path.read_text(), path.suffix
    if kind in (".env", ".ini"):
        tree: dict[str, Any] = {}
        flat, section = {}, tree
        for line in text.splitlines():
            name, equals, value = (part.strip() for part in line.partition("="))
            if line.startswith("["):
                section = flat if line == "[sops]" else tree.setdefault(line.strip("[]"), {})
            elif name.startswith("sops_"):
                flat[name.removeprefix("sops_")] = value
            elif equals:
                section[name] = value
        ages = [flat[name].replace("\\n", "\n") for name in flat if name.endswith("__map_enc")]
        return kind, tree, {**flat, "age": [{"enc": one} for one in ages]}
    tree = yaml.safe_load(text) if kind in (".yaml", ".yml") else json.loads(text)
    return kind if kind in (".yaml", ".yml", ".json") else "binary", tree, tree.pop("sops")


def _written(name: str, tree: Any, meta: dict[str, Any]) -> str:
    if name.endswith((".yaml", ".yml")):
        return yaml.safe_dump({**tree, "sops": meta}, sort_keys=False)
    if not name.endswith((".env", ".ini")):
        return json.dumps({**tree, "sops": meta}, indent="\t")
    flat = {key: value for key, value in meta.items() if isinstance(value, str)}
    for number, one in enumerate(meta["age"]):
        flat |= {f"age__list_{number}__map_{key}": value.replace("\n", "\\n") for key, value in one.items()}
    if name.endswith(".env"):
        return _plain_text(".env", {**tree, **{f"sops_{key}": value for key, value in flat.items()}})
    return _plain_text(".ini", {**tree, "sops": flat})


def _plain_text(kind: str, tree: Any) -> str:
    if kind == ".env":
        return "".join(f"{key}={value}\n" for key, value in tree.items())
    if kind == ".ini":
        sections = ([f"[{name}]", *(f"{key} = {value}" for key, value in one.items())] for name, one in tree.items())
        return "\n\n".join("\n".join(lines) for lines in sections) + "\n"
    return yaml.safe_dump(tree, sort_keys=False) if kind != ".json" else json.dumps(tree, indent="\t")


def _leaves(tree: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*way, key))
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, way)  # SOPS doesn't count a list's members
    else:
        yield way, tree


def _walk(tree: Any, way: tuple[str, ...], change: Callable[[tuple[str, ...], Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _walk(value, (*way, key), change) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_walk(value, way, change) for value in tree]
    return change(way, tree)


def _is_secret(way: tuple[str, ...]) -> bool:
    return not any(part.endswith(_CLEAR) for part in way)


def _bound(way: tuple[str, ...]) -> str:
    return ":".join(way) + ":"


def _plain(value: Any) -> tuple[bytes, str]:
    if isinstance(value, str):
        return value.encode(), "str"
    kind = "bool" if isinstance(value, bool) else "float" if isinstance(value, float) else "int"
    return str(value).encode(), kind


def _encrypt(value: Any, key: bytes, bound: str) -> str:
    if value == "":
        return ""
    plain, kind = _plain(value)
    nonce = os.urandom(32)
    sealed = AESGCM(key).encrypt(nonce, plain, bound.encode())
    data, iv, tag = (base64.b64encode(part).decode() for part in (sealed[:-16], nonce, sealed[-16:]))
    return f"ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:{kind}]"


def _decrypt(value: str, key: bytes, bound: str) -> Any:
    match = _VALUE.fullmatch(value)
    if match is None:
        raise ValueError("no sealed value")
    data, iv, tag = (base64.b64decode(part) for part in match.groups()[:3])
    text = AESGCM(key).decrypt(iv, data + tag, bound.encode()).decode()
    return {"str": str, "int": int, "float": float, "bool": lambda said: said == "True"}[match[4]](text)


def _data_key(meta: dict[str, Any]) -> bytes:
    identities = os.environ.get("SOPS_AGE_KEY_FILE", "")
    for one in meta.get("age", []):
        try:
            return _age("-d", "-i", identities, given=one["enc"].encode())
        except subprocess.CalledProcessError:
            continue
    raise ValueError("Recovery failed because no master key was able to decrypt the file.")


def _age(*arguments: str, given: bytes) -> bytes:
    # The identities may lie in a descriptor that was inherited.
    argv = ["age", *arguments]
    return subprocess.run(argv, input=given, capture_output=True, check=True, close_fds=False).stdout


def main(arguments: Sequence[str]) -> int:
    """The program."""
    *options, file = arguments
    if options not in (["--decrypt"], ["--decrypt", "--output-type", "json"]):
        sys.stderr.write(f"unknown options: {options}\n")
        return 1
    try:
        sys.stdout.buffer.write(decrypt(Path(file), as_json=len(options) > 1))
    except ValueError as error:
        sys.stderr.write(f"Failed to get the data key required to decrypt the SOPS file.\n{error}\n")
        return 128
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
