"""The one place that talks to systemd. Tests and the demo put a recorder in systemctl's place, and say so."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.process import run
from bento.errors import EnvironmentFailed

RUNNING = Path("/run/systemd/system")  # there exactly while systemd is this machine's init
_SWITCH_UNIT = "nixos-rebuild-switch-to-configuration"  # nixos-rebuild's own name: it doubles as a lock


def apart(argv: Sequence[str]) -> list[str]:
    """The command line that switches a system in a unit of its own, as nixos-rebuild does.

    A switch may restart what it was started from. Without a systemd it is the command itself.
    """
    if not RUNNING.is_dir():
        return list(argv)
    return [
        *("systemd-run", "-E", "LOCALE_ARCHIVE", "-E", "NIXOS_INSTALL_BOOTLOADER=0", "-E", "NIXOS_NO_CHECK"),
        *("--collect", "--no-ask-password", "--pipe", "--quiet", "--service-type=exec", "--wait"),
        *(f"--unit={_SWITCH_UNIT}", *argv),
    ]


@dataclass(frozen=True)
class Units:
    """Units to restart and to reload, each once; restarting beats reloading."""

    restart: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()


class Systemd:
    """`command` is the systemctl to call, as words."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)

    def refresh(self, units: Units) -> tuple[str, ...]:
        """try-restart and try-reload-or-restart exactly these units; sentences on what couldn't be done."""
        trouble: list[str] = []
        for verb, names in (("try-restart", units.restart), ("try-reload-or-restart", units.reload)):
            if names:
                trouble.extend(self._call(verb, names))
        return tuple(trouble)

    def _call(self, verb: str, names: tuple[str, ...]) -> tuple[str, ...]:
        said = " ".join(names)
        try:
            done = run([*self._command, verb, "--", *names], timeout=300)
        except EnvironmentFailed as error:
            return (f"not restarted: {said} ({error.message})",)
        return () if done.code == 0 else (f"not restarted: {said} ({done.words(200)})",)
