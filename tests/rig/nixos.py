"""Bento's NixOS modules, evaluated: by real Nix, and with a tree by the real module system."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rig.nix import nix_env

PROJECT = Path(__file__).parents[2]
TREE = "BENTO_TEST_NIXPKGS"  # names a nixpkgs tree, whole or only its lib/


def evaluated(expression: str, home: Path, *, fails: bool = False) -> Any:
    """What a Nix expression is, as JSON; with `fails` what Nix says against it. Nothing is built.

    It may read files that it makes (builtins.toFile): they lie in a store below `home`.
    """
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "--expr", expression]
    env = {**nix_env(home), "NIX_REMOTE": f"local?root={home / 'store'}"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=200, check=False)
    if fails:
        assert done.returncode != 0, f"this should fail: {expression}"
        return done.stderr
    assert done.returncode == 0, f"{expression}\n{done.stderr}"
    return json.loads(done.stdout)


def parsed(file: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """What Nix says of a file's syntax."""
    env = {**nix_env(home), "NIX_REMOTE": f"local?root={home / 'store'}"}
    argv = ["nix-instantiate", "--parse", str(file)]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=200, check=False)


def tree() -> Path:
    """The nixpkgs tree that was named."""
    return Path(os.environ[TREE])


def is_whole() -> bool:
    """Whether it has NixOS's own modules too."""
    return (tree() / "nixos/lib/eval-config.nix").exists()


def machine(modules: Sequence[str], configuration: str, wanted: str) -> str:
    """An expression: `wanted`, of a machine with modules of nix/ and a configuration. `m` in it is the evaluation."""
    files = " ".join(str(PROJECT / "nix" / name) for name in modules)
    return (
        f"let m = import {PROJECT}/tests/nixos/evaluate.nix {{ nixpkgs = {tree()}; "
        f"modules = [ {files} ({configuration}) ]; }}; in {wanted}"
    )
