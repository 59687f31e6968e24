"""Configurations of a host, for nix/agent.nix: what the module makes of them, and the golden files."""

import re
from pathlib import Path
from typing import Any

from rig.nixos import PROJECT, evaluated, is_whole, machine

MODULES = ["agent.nix"]
ROOT = 'fileSystems."/" = { device = "/dev/sda1"; fsType = "ext4"; };'
BOOT = 'boot.loader.grub.enable = false; system.stateVersion = "26.05";' if is_whole() else ""
TRUST = PROJECT / "tests/nixos/trust.toml"
GOLDEN = PROJECT / "tests/nixos/golden"


def host(text: str = "", more: str = "") -> str:
    """A configuration whose agent is on."""
    return (
        f"{{ config, lib, ... }}: {{ {BOOT} {ROOT if 'fileSystems' not in more else ''} {more} "
        f'networking.hostName = "web"; services.bento = {{ enable = true; trustFile = {TRUST}; {text} }}; }}'
    )


def ask(configuration: str, wanted: str, tmp_path: Path) -> Any:
    return evaluated(machine(MODULES, configuration, wanted), tmp_path)


def units(configuration: str, tmp_path: Path) -> dict[str, str]:
    """Bento's units, as they would be written."""
    every: dict[str, str] = ask(
        configuration,
        'builtins.mapAttrs (_: one: one.text) (builtins.removeAttrs m.config.systemd.units (builtins.filter '
        '(name: builtins.match "bento.*" name == null) (builtins.attrNames m.config.systemd.units)))',
        tmp_path,
    )  # fmt: skip
    return every


def lines(unit: str) -> list[str]:
    """A unit's lines. NixOS puts what `Environment=` says in quotes, as systemd allows."""
    return re.sub(r'^Environment="(.*)"$', r"Environment=\1", unit, flags=re.MULTILINE).splitlines()


def settings_text(configuration: str, tmp_path: Path) -> str:
    rendered = f"import {PROJECT}/nix/lib/toml.nix m.config.services.bento.settings"
    text: str = ask(configuration, rendered, tmp_path)
    return text


def declaration_text(configuration: str, tmp_path: Path) -> str:
    rendered = f"import {PROJECT}/nix/lib/declaration.nix m.config.bento.secrets"
    text: str = ask(configuration, rendered, tmp_path)
    return text


def golden(name: str, text: str) -> None:
    """The text must be what the file says."""
    assert text == (GOLDEN / name).read_text(encoding="utf-8"), f"{GOLDEN / name} says otherwise"


def failed(configuration: str, tmp_path: Path) -> str:
    return "\n".join(one for one in ask(configuration, "m.failed", tmp_path) if "bento" in one)
