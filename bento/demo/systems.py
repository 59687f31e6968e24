"""NixOS-shaped systems that real Nix builds in a moment and without nixpkgs, for the demo and the tests.

A system is a plain derivation with a NixOS system's outline: nixos-version, kernel, initrd, etc/, sw/bin and
bin/switch-to-configuration. Switching is real but small: it moves /run/current-system and, in place of a boot loader,
writes /nix/var/boot/default. Run it where /nix and /run are private to the host.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bento.errors import InputError

BOOT_DEFAULT = Path("/nix/var/boot/default")  # holds the path of the system that a reboot starts
SWITCH_LOG = Path("/nix/var/boot/log")  # one line a call: ACTION OUT
SWITCH_HOOK = Path("/nix/var/boot/hook")  # what activation runs in a system of Behaviour.HOOK: sh HOOK OUT


class Behaviour(StrEnum):
    """What switch-to-configuration does. All but OK and HOOK are faults that a real one can have."""

    OK = "ok"  # links the system and exits 0
    FAIL_BEFORE = "fail-before"  # a pre-switch check fails: exit 1, nothing changed
    FAIL_AFTER = "fail-after"  # the activation script fails: linked all the same, exit 2
    UNITS_FAILED = "units-failed"  # some units fail to start: linked, exit 4
    REBOOT = "reboot"  # the change needs a reboot: exit 100 before activation; `boot` works
    NO_LINK = "no-link"  # says 0 but never moved /run/current-system, as with a full disk
    HANG = "hang"  # activation never ends
    FAIL_BOOT = "fail-boot"  # the boot loader can't be written: `boot` exits 1
    HOOK = "hook"  # OK, with bento/secrets.json in the closure and an activation hook that runs before the link moves


@dataclass(frozen=True)
class System:
    """One system to write as Nix source. Two systems that differ in any field have different store paths."""

    message: str = "hello"  # in etc/message: the part that a person edits
    behaviour: Behaviour = Behaviour.OK
    extra: str = ""  # any text, kept in the closure's file `extra`: for markers
    secrets: str = '{"format":1,"secrets":[],"templates":[]}'  # what bento/secrets.json says, where there is one
    build_fails: bool = False  # the builder exits 1

    def as_nix(self) -> str:
        """An attribute set with the fields that aren't at their default. Raises InputError for a control character."""
        shown = []
        for name, value in vars(self).items():
            if value == getattr(type(self), name):
                continue
            shown.append(f"{name} = {nix_bool(value=value) if isinstance(value, bool) else nix_string(value)};")
        return "{ " + "".join(f"{line} " for line in shown) + "}"


def nix_string(text: str) -> str:
    """Text as a Nix string literal. Raises InputError for a control character that Nix has no escape for."""
    if any(ord(char) < ord(" ") and char not in "\n\r\t" for char in text):
        raise InputError("a control character can't be written into Nix source")
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")


def nix_bool(*, value: bool) -> str:
    """True or False as Nix spells it."""
    return "true" if value else "false"


def nix_platform() -> str:
    """This machine's system type as Nix names it, for example x86_64-linux. A flake must name it; a channel needn't."""
    return f"{platform.machine()}-linux"


# It has a PATH of its own, because an agent may call it from a bare environment.
_SWITCH = r"""
set -eu
PATH=/bin:/usr/bin:/run/current-system/sw/bin
action=${1:-}
state=/nix/var/boot

replace() { # FILE: what stdin says, whole or not at all
    cat >"$1.new"
    sync "$1.new"
    mv -T "$1.new" "$1"
}

link_running() {
    ln -sfn "$out" /run/.current-system.new
    mv -T /run/.current-system.new /run/current-system
}

check() {
    case $behaviour in
    fail-before) echo "a pre-switch check failed" >&2; exit 1 ;;
    reboot) echo "this change needs a reboot" >&2; exit 100 ;;
    esac
}

activate() {
    status=0
    case $behaviour in
    hang) exec sleep 86400 ;;
    no-link) return ;;
    hook) if [ -e "$state/hook" ]; then sh "$state/hook" "$out" || status=2; fi ;;
    esac
    link_running
    case $behaviour in
    fail-after) status=2 ;;
    units-failed) echo "the following units failed: example.service" >&2; status=4 ;;
    esac
    if [ "$status" = 2 ]; then echo "the activation script failed" >&2; fi
    if [ "$status" != 0 ]; then exit "$status"; fi
}

write_boot() {
    if [ "$behaviour" = fail-boot ]; then echo "can't write the boot loader" >&2; exit 1; fi
    # like systemd-boot: only what the system profile names can become the default
    chosen=$(readlink -e /nix/var/nix/profiles/system) || { echo "there is no system profile" >&2; exit 1; }
    echo "$chosen" | replace "$state/default"
}

mkdir -p "$state"
echo "$action $out" >>"$state/log"
case $action in
test) check; activate ;;
boot) write_boot ;;
switch) check; write_boot; activate ;;
dry-activate) echo "would activate $out" ;;
*) echo "usage: $0 switch|boot|test|dry-activate" >&2; exit 1 ;;
esac
"""

_BUILD = r"""
set -eu
PATH=/bin:/usr/bin
if [ -n "$build_fails" ]; then echo "this system is meant not to build" >&2; exit 1; fi
mkdir -p "$out/bin" "$out/sw/bin" "$out/etc" "$out/kernel-modules"
echo "$version" >"$out/nixos-version"
echo "a kernel's stand-in" >"$out/kernel"
echo "an initrd's stand-in" >"$out/initrd"
printf '%s\n' "$host" >"$out/etc/hostname"
printf '%s\n' "$message" >"$out/etc/message"
printf '%s' "$extra" >"$out/extra"
if [ "$behaviour" = hook ]; then
    mkdir "$out/bento"
    printf '%s\n' "$secrets" >"$out/bento/secrets.json"
fi
{
    printf '#!/bin/sh\nout=%s\nbehaviour=%s\n' "$out" "$behaviour"
    printf '%s' "$switch"
} >"$out/bin/switch-to-configuration"
chmod 755 "$out/bin/switch-to-configuration"
"""


def _indented(script: str) -> str:
    """A script as one of Nix's indented strings."""
    return "''" + script.replace("''", "'''").replace("${", "''${") + "''"


# A function from a platform and a System's fields to the derivation.
_TOPLEVEL = f"""platform: {{ host ? "nixos", message ? "hello", behaviour ? "ok", extra ? "",
  secrets ? {nix_string(System.secrets)}, build_fails ? false, ... }}: derivation {{
  name = "nixos-system-${{host}}-stand-in";
  version = "stand-in";
  system = platform;
  builder = "/bin/sh";
  args = [ "-c" {_indented(_BUILD)} ];
  switch = {_indented(_SWITCH)};
  inherit host message behaviour extra secrets build_fails;
}}"""


def flake(systems: Mapping[str, System], on: str | None = None) -> str:
    """A flake.nix without inputs, one nixosConfigurations attribute a host. `on` is a Nix platform, else this one."""
    hosts = "".join(
        f"    nixosConfigurations.{nix_string(name)} = host {nix_string(name)} {system.as_nix()};\n"
        for name, system in systems.items()
    )
    return (
        "{\n  # NixOS-shaped, built by /bin/sh: a stand-in for nixpkgs.lib.nixosSystem\n"
        "  outputs = { self }: let\n"
        f"    toplevel = {_TOPLEVEL} ;\n"
        f"    host = name: system: {{ config.system.build.toplevel = toplevel {nix_string(on or nix_platform())}\n"
        "      ({ host = name; } // system); };\n"
        "  in {\n"
        f"{hosts}"
        "  };\n}\n"
    )


def configuration(system: System) -> str:
    """A channel host's configuration.nix."""
    return f"{{ ... }}:\n{system.as_nix()}\n"


def channel() -> str:
    """The text of nixos/default.nix in a folder that stands in for nixpkgs, as in NIX_PATH=nixpkgs=FOLDER."""
    return (
        "{ configuration ? import <nixos-config>, system ? builtins.currentSystem }:\n"
        "let\n"
        f"  toplevel = {_TOPLEVEL} ;\n"
        "  settings = if builtins.isFunction configuration then configuration { } else configuration;\n"
        "  built = toplevel system settings;\n"
        "in {\n"
        "  config.system.build.toplevel = built;\n"
        "  system = built;\n"
        "}\n"
    )


def write_flake(folder: Path, systems: Mapping[str, System]) -> None:
    """Put a flake.nix of these systems into `folder`, which may not be there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flake.nix").write_text(flake(systems), encoding="utf-8")


def write_configuration(folder: Path, system: System) -> None:
    """Put a channel host's configuration.nix into `folder`, which may not be there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "configuration.nix").write_text(configuration(system), encoding="utf-8")


def write_channel(folder: Path) -> None:
    """Make `folder` a stand-in for nixpkgs: for NIX_PATH=nixpkgs=FOLDER."""
    (folder / "nixos").mkdir(parents=True, exist_ok=True)
    (folder / "nixos" / "default.nix").write_text(channel(), encoding="utf-8")
