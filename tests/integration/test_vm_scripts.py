"""nix/tests: what the scripts of the virtual machines do on the server is done here, and each command is one that is.

The machines themselves need KVM and a nixpkgs (docs/nixos.md); `make nixos-tests` evaluates their configurations.
"""

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from bento.cli.agent import agent
from bento.cli.main import bento
from rig import MakeRoot, PrivateRoot, make_ssh_key
from rig.nixos import PROJECT, evaluated
from rig.world import PROGRAMS

SYSTEMS = {name: f"/nix/store/{name[0] * 32}-nixos-system-{name}" for name in ("first", "second")}
DECLARED = {
    "format": 1,
    "secrets": [
        {"name": "token", "owner": "app", "group": "root", "mode": "0440", "path": None, "restart": ["app.service"]}
        | {"reload": [], "users": False}
    ],
    "templates": [],
}


def stand_ins(folder: Path, public: str = "ssh-ed25519 AAAA") -> str:
    """What nix/tests takes, without a nixpkgs: a test is what it was told."""
    (folder / "nixos/tests").mkdir(parents=True, exist_ok=True)
    keys = f'_: {{ snakeOilEd25519PublicKey = "{public}"; snakeOilEd25519PrivateKey = "/nix/store/x-key"; }}'
    (folder / "nixos/tests/ssh-keys.nix").write_text(keys)
    return f"{{ pkgs = {{ path = {folder}; testers.runNixOSTest = test: test; }}; modules = {{ }}; }}"


NODES = (
    f'{{ nodes.host = {{ system.build.toplevel = "{SYSTEMS["first"]}"; '
    f'specialisation.second.configuration.system.build.toplevel = "{SYSTEMS["second"]}"; }}; }}'
)


def scripts(tmp_path: Path) -> dict[str, str]:
    """What each test does, as Python."""
    every = f"import {PROJECT}/nix/tests {stand_ins(tmp_path)}"
    found: dict[str, str] = evaluated(f"builtins.mapAttrs (_: one: one.testScript {NODES}) ({every})", tmp_path)
    return found


class Here:
    """Stands for a machine: its shell is that of a root of the test's own."""

    def __init__(self, root: PrivateRoot) -> None:
        self._root = root

    def succeed(self, command: str) -> str:
        return self._root.text(["bash", "-c", f"PATH={PROGRAMS}:$PATH\n{command}"], timeout=200)

    def wait_for_unit(self, unit: str) -> None:
        """It has none."""


def test_a_script_makes_a_fleet_and_publishes_systems_with_what_they_declare(
    as_root: None, make_root: MakeRoot, tmp_path: Path
) -> None:
    root = make_root("server")
    for place in ("root", "home", "etc/ssh"):
        (tmp_path / "own" / place).mkdir(parents=True)
        root.run(["mount", "--bind", tmp_path / "own" / place, f"/{place}"], check=True)
    key = make_ssh_key(tmp_path / "own/etc/ssh/ssh_host_ed25519_key")
    release = tmp_path / "own/home/chroot/host/release"
    (release / "objects").mkdir(parents=True)
    (release.parent / "reports").mkdir()
    declares = root.path(SYSTEMS["second"]) / "bento"
    declares.mkdir(parents=True)
    (declares / "secrets.json").write_text(json.dumps(DECLARED))
    two = "{ script = \"release(first, 'a'); release(second, 'b')\"; }"
    expression = f'(import {PROJECT}/nix/tests/make.nix {stand_ins(tmp_path, key.line)} "two" {two}).testScript {NODES}'
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "--expr", expression]
    here = Here(root)

    exec(json.loads(root.text(argv)), {"server": here, "host": here, "start_all": lambda: None})  # noqa: S102

    manifest = json.loads((release / "manifest").read_text().splitlines()[0])
    assert (manifest["system"], manifest["settings"]) == (SYSTEMS["second"], {"evaluate": "server"})
    (token,) = manifest["secrets"]
    assert (token["owner"], token["mode"], token["restart"]) == ("app", "0440", ["app.service"])
    assert manifest["previous"] is not None


def words(script: str) -> list[list[str]]:
    """The commands of Bento's that a script gives a shell."""
    found = re.findall(r"\b(bento(?:-agent)? [a-z][^\n|&;>\"]*)", script)
    return [shlex.split(re.sub(r"\{[a-z]+\}", "", one).replace("%", "")) for one in found]


def understood(words: list[str]) -> None:
    """Raise click's own error for a command or an option that isn't there."""
    command: click.Command = bento if words[0] == "bento" else agent
    rest = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"no such command: {words}"
        command, rest = found, rest[1:]
    command.make_context(rest[0] if rest else "", rest)


def test_every_command_of_a_script_is_one_that_bento_has(tmp_path: Path) -> None:
    used = [one for script in scripts(tmp_path).values() for one in words(script)]
    for one in used:
        understood(one)
    assert {"bento init", "bento secret", "bento deploy", "bento status", "bento-agent run", "bento-agent status"} <= {
        " ".join(one[:2]) for one in used
    }
    for wrong in (["bento", "publish"], ["bento", "deploy", "--everything"]):  # the control
        with pytest.raises((AssertionError, click.UsageError)):
            understood(wrong)


def test_every_command_that_builds_the_package_is_one_that_bento_has() -> None:
    text = (PROJECT / "nix/package.nix").read_text()
    used = [shlex.split(one.replace("$shell", "bash")) for one in re.findall(r"\$out/bin/(bento [^>\n]+)", text)]
    assert [one[1] for one in used] == ["man", "completion"]
    for one in used:
        understood(one)
