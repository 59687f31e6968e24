"""`bento build test|switch`: make this very machine run what was built for one host, as nixos-rebuild does."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from bento.adapters import nix
from bento.adapters.process import run_keeping_tail
from bento.adapters.systemd import Systemd
from bento.core.switch_outcome import REBOOT_NEEDED, UNITS_FAILED
from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.names import HostName, SystemPath, printable

Action = Literal["test", "switch"]

PROFILE = Path("/nix/var/nix/profiles/system")
CURRENT = Path("/run/current-system")


def agreed(action: Action, chosen: tuple[HostName, ...], named: str | None, ask: Callable[[str], str]) -> HostName:
    """The one host that this machine is to become. `named` is what --yes says; without it, `ask` asks the person.

    Raises InputError unless exactly that host's name is given; EnvironmentFailed where this user can't switch.
    """
    if len(chosen) != 1:
        raise InputError(
            f"{action} is for exactly one host, the one that this machine is; chosen are {len(chosen)}",
            f"name it: bento build {action} --on NAME",
        )
    (host,) = chosen
    if os.geteuid() != 0:
        raise EnvironmentFailed(
            f"only root can {action} this machine's system", f"sudo bento build {action} --on {host}"
        )
    here = printable(socket.gethostname())
    typed = named if named is not None else ask(f"this machine ({here}) is to run the system of {host}; type its name")
    if typed != host:
        said = f"'{printable(typed)}' is not '{host}'" if typed else f"nobody typed the name {host}"
        raise InputError(
            f"{said}: this machine stays as it is", f"in a script: bento build {action} --on {host} --yes {host}"
        )
    return host


def make_current(system: SystemPath, action: Action, on_line: Callable[[str], None]) -> tuple[str, ...]:
    """Switch this machine; `on_line` gets what the switch says, as it is. Returns what isn't as it should be.

    With `switch` the profile is set first: a boot loader takes its default from there. Raises WorkFailed.
    """
    if not (Path(system) / "nixos-version").is_file():
        raise WorkFailed(f"{system} is no NixOS system: it has no nixos-version", "bento build dry-build")
    if action == "switch":
        nix.set_profile(PROFILE, system)
    program = f"{system}/bin/switch-to-configuration"
    argv = Systemd(["systemctl"]).apart([program, action], piped=True)
    code = run_keeping_tail(argv, tail=LIMITS.log_tail, on_line=on_line).code
    running = nix.read_system(CURRENT)
    if code == REBOOT_NEEDED:
        return ("this change takes effect at the next boot",)
    # A full disk can end in exit 0: what runs is what counts.
    if running != system:
        raise WorkFailed(
            f"after the {action} (exit {code}) this machine runs {running or 'no system'}, not {system}",
            "see what systemd says: journalctl -e",
        )
    if code == UNITS_FAILED:
        return ("some units failed: systemctl --failed",)
    if code != 0:
        raise WorkFailed(f"the {action} ended with exit {code}", "see what it said: journalctl -b")
    return ()
