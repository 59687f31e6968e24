"""agenix's layout: a folder with `secrets.nix`, the rules, and the age files that it names."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bento_secrets.errors import InputError
from bento_secrets.importing.found import Found, Runner
from bento_secrets.importing.limits import IMPORT_LIMITS
from bento_secrets.names import printable

RULES = "secrets.nix"
_SUFFIX = ".age"
# Only the keys are asked for: a rule may hold more, such as `armor`, or what JSON can't say.
_EXPRESSION = f'{{ folder }}: builtins.mapAttrs (_: rule: rule.publicKeys) (import (/. + folder + "/{RULES}"))'


def find(folder: Path, run: Runner, also_read: Sequence[Path] = ()) -> tuple[Found, ...]:
    """What the rules name, and the age files that they don't, by name. Nothing is opened.

    The rules are evaluated by Nix itself, which then may read no file outside `folder` and `also_read`, fetches
    nothing, builds nothing and writes nothing to its store. InputError for what is wrong with them.
    """
    if not (folder / RULES).is_file():
        raise InputError(f"{folder} has no {RULES}", "name the folder that agenix is run in: the one with the rules")
    folder = folder.resolve()
    rules = _parse(_evaluate(folder, run, also_read), folder)
    found = [_found(folder, file, keys) for file, keys in sorted(rules.items())]
    named = {os.path.normpath(file) for file in rules}
    strays = [_stray(folder, file) for file in sorted(_age_files(folder)) if file not in named]
    return (*found, *strays)


def _evaluate(folder: Path, run: Runner, also_read: Sequence[Path]) -> bytes:
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "--readonly-mode"]
    for name, value in {
        "restrict-eval": "true",
        "allowed-uris": "",
        "allow-import-from-derivation": "false",
        "allow-unsafe-native-code-during-evaluation": "false",
    }.items():
        argv += ["--option", name, value]
    for number, allowed in enumerate([folder, *(path.resolve() for path in also_read)]):
        argv += ["-I", f"bento{number}={allowed}"]
    argv += ["--argstr", "folder", str(folder), "--expr", _EXPRESSION]
    # What NIX_PATH names could be read too.
    out = run(argv, env={"NIX_PATH": ""}, timeout=IMPORT_LIMITS.EVALUATION)
    if len(out) > IMPORT_LIMITS.MAX_RULES:
        raise InputError(f"{folder / RULES} gives more than {IMPORT_LIMITS.MAX_RULES} bytes of rules")
    return out


def _parse(out: bytes, folder: Path) -> dict[str, tuple[str, ...]]:
    try:
        rules: Any = json.loads(out)
    except (ValueError, RecursionError):
        rules = None
    if not isinstance(rules, dict):
        raise InputError(f"{folder / RULES} is no set of rules", 'it should read: { "name.age".publicKeys = [ … ]; }')
    if len(rules) > IMPORT_LIMITS.MAX_SECRETS:
        raise InputError(f"{folder / RULES} has more than {IMPORT_LIMITS.MAX_SECRETS} rules")
    for file, keys in rules.items():
        sound = isinstance(keys, list) and len(keys) <= IMPORT_LIMITS.MAX_KEYS
        if not sound or not all(isinstance(key, str) for key in keys):
            raise InputError(f'{folder / RULES}: publicKeys of "{printable(file)}" is no list of public keys')
    return {file: tuple(keys) for file, keys in rules.items()}


def _found(folder: Path, file: str, keys: tuple[str, ...]) -> Found:
    path, problem = _locate(folder, file)
    return Found(printable(file), path, os.path.normpath(file).removesuffix(_SUFFIX), keys, problem=problem)


def _locate(folder: Path, file: str) -> tuple[Path, str | None]:
    """The file that a rule means, links followed, and why it can't be taken."""
    try:
        real = (folder / file).resolve(strict=True)
    except FileNotFoundError:
        return folder / file, "there is no such file"
    except (OSError, RuntimeError, ValueError):
        return folder / file, "it can't be found"
    if not real.is_relative_to(folder):
        return real, "it lies outside the folder"
    if not real.is_file():
        return real, "it is no regular file"
    return real, "it is too large" if real.stat().st_size > IMPORT_LIMITS.MAX_FILE else None


def _stray(folder: Path, file: str) -> Found:
    return Found(printable(file), folder / file, file.removesuffix(_SUFFIX), (), problem=f"{RULES} doesn't name it")


def _age_files(folder: Path) -> Iterator[str]:
    for parent, name in walk(folder):
        if name.endswith(_SUFFIX):
            yield str((parent / name).relative_to(folder))


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder, hidden folders (.git) and links to folders left out; InputError for too many."""
    seen = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        seen += len(folders) + len(names)
        if seen > IMPORT_LIMITS.MAX_ENTRIES:
            raise InputError(f"{folder} holds more than {IMPORT_LIMITS.MAX_ENTRIES} files", "name the secrets' folder")
        yield from ((Path(parent), name) for name in sorted(names))
