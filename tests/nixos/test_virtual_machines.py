"""nix/tests: the virtual machines that can't run here. What can be known without running them."""

import ast
from pathlib import Path

import pytest

from rig.nixos import PROJECT, evaluated, is_whole, tree

PROMISES = [
    "no-plaintext",
    "ownership",
    "power-cut",
    "pruning",
    "reboot",
    "restart",
    "rollback",
    "sysusers",
    "userborn",
]
_KEYS = '_: { snakeOilEd25519PublicKey = "ssh-ed25519 AAAA"; snakeOilEd25519PrivateKey = "/nix/store/x-key"; }'


def checks(wanted: str, tmp_path: Path) -> str:
    """An expression about the tests, `t`; made by nixpkgs' own runNixOSTest with a whole tree, else only described."""
    nix = PROJECT / "nix"
    modules = f"{{ agent = {nix}/agent.nix; server = {nix}/server.nix; container = {nix}/container.nix; }}"
    if is_whole():
        overlay = f"(import {PROJECT}/default.nix {{ pkgs = {{ callPackage = _: _: {{ }}; }}; }}).overlay"
        pkgs = f'import {tree()} {{ system = "x86_64-linux"; overlays = [ {overlay} ]; }}'
    else:
        (tmp_path / "nixos/tests").mkdir(parents=True, exist_ok=True)
        (tmp_path / "nixos/tests/ssh-keys.nix").write_text(_KEYS)
        pkgs = f"{{ path = {tmp_path}; testers.runNixOSTest = test: test; }}"
    return f"let t = import {PROJECT}/nix/tests {{ pkgs = {pkgs}; modules = {modules}; }}; in {wanted}"


def test_there_is_one_for_each_promise(tmp_path: Path) -> None:
    assert evaluated(checks("builtins.attrNames t", tmp_path), tmp_path) == PROMISES


@pytest.mark.parametrize("name", PROMISES)
def test_each_can_be_evaluated(name: str, tmp_path: Path) -> None:
    if is_whole():
        assert evaluated(checks(f"t.{name}.drvPath", tmp_path), tmp_path).endswith(".drv")
        return
    nodes = (
        '{ nodes.host = { system.build.toplevel = "/nix/store/1"; '
        'specialisation.second.configuration.system.build.toplevel = "/nix/store/2"; }; }'
    )
    script = evaluated(checks(f"t.{name}.testScript {nodes}", tmp_path), tmp_path)
    parsed = ast.parse(script)
    assert sum(isinstance(one, ast.Assert) for one in ast.walk(parsed)) >= 1, "it asserts nothing"
    assert evaluated(checks(f"t.{name}.name", tmp_path), tmp_path) == f"bento-{name}"
