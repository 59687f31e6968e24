"""The one place that talks to systemd. Tests and the demo put a recorder in systemctl's place, and say so."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.process import run
from bento.errors import EnvironmentFailed

# nixos-rebuild's own: while one of the two switches, systemd lets the other not start.
SWITCH_UNIT = "nixos-rebuild-switch-to-configuration"
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)

# As nixos-rebuild does it. An agent has no --pipe: if it is killed and the pipe breaks, the switch would die with it.
_IN_UNIT = (
    *("systemd-run", "--setenv=LOCALE_ARCHIVE", "--setenv=NIXOS_INSTALL_BOOTLOADER=0", "--setenv=NIXOS_NO_CHECK"),
    *("--collect", "--no-ask-password", "--quiet", "--service-type=exec", "--wait", f"--unit={SWITCH_UNIT}"),
)


@dataclass(frozen=True)
class Units:
    """Units to restart and to reload, each once; restarting beats reloading."""

    restart: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()


class Systemd:
    """`command` is the systemctl to call, as words; `apart` what a switch is put behind, None for systemd's own way."""

    def __init__(self, command: Sequence[str], apart: Sequence[str] | None = None) -> None:
        self._command = tuple(command)
        self._apart = None if apart is None else tuple(apart)

    @property
    def present(self) -> bool:
        """Whether there is a systemd to ask; a stand-in for systemd-run speaks for one."""
        return bool(self._apart) or (self._apart is None and _BOOTED.is_dir())

    def refresh(self, units: Units) -> tuple[str, ...]:
        """try-restart and try-reload-or-restart exactly these units; sentences on what couldn't be done."""
        trouble: list[str] = []
        for verb, names in (("try-restart", units.restart), ("try-reload-or-restart", units.reload)):
            if names:
                trouble.extend(self._call(verb, names))
        return tuple(trouble)

    def apart(self, argv: Sequence[str], *, piped: bool = False) -> list[str]:
        """The command that runs `argv` in a unit of its own, waits for it, and exits as it does.

        With `piped` it says here what `argv` says, and a person's Ctrl-C ends it.
        """
        if self._apart is not None:
            return [*self._apart, *argv]
        return [*_IN_UNIT, *(("--pipe",) if piped else ()), "--", *argv] if self.present else list(argv)

    def switching(self) -> bool:
        """Whether somebody's switch of the system is under way: this agent's of a run that died, or a person's."""
        if not self.present:
            return False
        done = self._ask("show", "--property=ActiveState", "--value", f"{SWITCH_UNIT}.service")
        return done.strip() in ("active", "activating", "reloading", "deactivating")

    def failed(self) -> frozenset[str]:
        """The units that are in the failed state; none without a systemd. Raises EnvironmentFailed."""
        if not self.present:
            return frozenset()
        lines = self._ask("list-units", "--failed", "--plain", "--no-legend", "--full", "--no-pager").splitlines()
        return frozenset(line.split()[0] for line in lines if line.strip())

    def _ask(self, *words: str) -> str:
        done = run([*self._command, *words], timeout=60)
        if done.code != 0:
            raise EnvironmentFailed(f"systemd doesn't answer: {done.words(200)}", "try it: systemctl status")
        return done.out.decode("utf-8", "replace")

    def _call(self, verb: str, names: tuple[str, ...]) -> tuple[str, ...]:
        said = " ".join(names)
        try:
            done = run([*self._command, verb, "--", *names], timeout=300)
        except EnvironmentFailed as error:
            return (f"not restarted: {said} ({error.message})",)
        return () if done.code == 0 else (f"not restarted: {said} ({done.words(200)})",)
