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
    overlay = f"(import {PROJECT}/default.nix {{ pkgs = {{ callPackage = _: _: {{ }}; }}; }}).overlay"
    # as flake.nix gives them
    modules = "".join(
        f"{name} = {{ imports = [ {nix}/{name}.nix ]; nixpkgs.overlays = [ {overlay} ]; }}; "
        for name in ("agent", "server", "container")
    )
    if is_whole():
        pkgs = f'import {tree()} {{ system = "x86_64-linux"; }}'
    else:
        (tmp_path / "nixos/tests").mkdir(parents=True, exist_ok=True)
        (tmp_path / "nixos/tests/ssh-keys.nix").write_text(_KEYS)
        pkgs = f"{{ path = {tmp_path}; testers.runNixOSTest = test: test; }}"
    return f"let t = import {PROJECT}/nix/tests {{ pkgs = {pkgs}; modules = {{ {modules} }}; }}; in {wanted}"


def test_there_is_one_for_each_promise(tmp_path: Path) -> None:
    assert evaluated(checks("builtins.attrNames t", tmp_path), tmp_path) == PROMISES


# What its script needs of the machines, by their names; the host's second system is one too.
_NODES = """
  { nodes.host = { system.build.toplevel = "/nix/store/1";
    specialisation.second.configuration.system.build.toplevel = "/nix/store/2"; }; }
"""


@pytest.mark.parametrize("name", PROMISES)
def test_each_can_be_evaluated(name: str, tmp_path: Path) -> None:
    if is_whole():
        assert evaluated(checks(f"t.{name}.drvPath", tmp_path), tmp_path).endswith(".drv")
        return
    script = evaluated(checks(f"t.{name}.testScript {_NODES}", tmp_path), tmp_path)
    parsed = ast.parse(script)
    assert sum(isinstance(one, ast.Assert) for one in ast.walk(parsed)) >= 1, "it asserts nothing"
    assert evaluated(checks(f"t.{name}.name", tmp_path), tmp_path) == f"bento-{name}"


def machines(name: str, tmp_path: Path, change: str = "{ }") -> str:
    """An expression: the assertions that fail on each machine of a test, and on the host's second system."""
    return checks(
        f"let test = t.{name} // {change}; of = node: import {PROJECT}/tests/nixos/evaluate.nix {{ nixpkgs = {tree()}; "
        f"modules = [ (import {PROJECT}/tests/nixos/machine.nix test) node {{ _module.args = {_NODES}; }} ]; }}; "
        "server = of test.nodes.server; host = of test.nodes.host; "
        "second = host.extendModules { modules = [ host.config.specialisation.second.configuration ]; }; "
        "failed = one: map (it: it.message) (builtins.filter (it: !it.assertion) one.config.assertions); in "
        "builtins.seq server.config.nixpkgs.overlays builtins.seq host.config.nixpkgs.overlays "
        "{ server = failed server; host = failed host; second = failed second; "
        "reached = builtins.attrNames second.config.systemd.services; }",
        tmp_path,
    )


@pytest.mark.skipif(is_whole(), reason="there NixOS evaluates them")
@pytest.mark.parametrize("name", PROMISES)
def test_its_machines_set_options_that_there_are_and_fail_no_assertion(name: str, tmp_path: Path) -> None:
    found = evaluated(machines(name, tmp_path), tmp_path)
    assert (found["server"], found["host"], found["second"]) == ([], [], [])
    assert {"app", "bento-agent"} <= set(found["reached"])


@pytest.mark.skipif(is_whole(), reason="there NixOS evaluates them")
def test_a_test_whose_packages_can_not_be_changed_is_seen(tmp_path: Path) -> None:
    """The control: the modules' overlay is refused, as NixOS refuses it."""
    said = evaluated(machines("ownership", tmp_path, "{ node = { }; }"), tmp_path, fails=True)
    assert "nixpkgs.overlays is set to read-only" in said


@pytest.mark.skipif(is_whole(), reason="there NixOS evaluates them")
@pytest.mark.parametrize("name", PROMISES)
def test_what_boots_anew_boots_its_boot_default(name: str, tmp_path: Path) -> None:
    """Without a boot loader a virtual machine boots what it was made with, whatever the agent has set."""
    script = evaluated(checks(f"t.{name}.testScript {_NODES}", tmp_path), tmp_path)
    with_loader = machines(name, tmp_path).replace(
        "reached =", "loader = host.config.virtualisation.useBootLoader; reached ="
    )
    assert evaluated(with_loader, tmp_path)["loader"] is ("host.start()" in script)
