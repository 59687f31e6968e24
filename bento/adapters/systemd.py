"""The one place that talks to systemd. Tests and the demo put a recorder in systemctl's place, and say so."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.files import read_capped
from bento.adapters.process import run
from bento.errors import EnvironmentFailed

# nixos-rebuild's own: while one of the two switches, systemd lets the other not start.
SWITCH_UNIT = "nixos-rebuild-switch-to-configuration"
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)

# As nixos-rebuild does it. An agent has no --pipe: if it is killed and the pipe breaks, the switch would die with it.
# Then the type must be simple: with exec, a switch that ends at once comes out as 1, whatever its exit (systemd 252).
_IN_UNIT = (
    *("--setenv=LOCALE_ARCHIVE", "--setenv=NIXOS_INSTALL_BOOTLOADER=0", "--setenv=NIXOS_NO_CHECK", "--collect"),
    *("--no-ask-password", "--quiet", "--service-type=simple", "--wait", f"--unit={SWITCH_UNIT}"),
)
_DEAD_MAN = "bento-dead-man"
# Where its programs are, Nix's for one: on NixOS a unit that says nothing has systemd's own on its PATH, and no others.
_AS_HERE = ("PATH", "NIX_REMOTE")
_LONGEST_PARAMS = 64 * 1024  # bytes; Linux itself takes 4 KiB at most
_SCHEDULED = Path("/run/systemd/shutdown/scheduled")  # shutdown(8) writes it
_LOADED = Path("/sys/kernel/kexec_loaded")


@dataclass(frozen=True)
class Units:
    """Units to restart and to reload, each once; restarting beats reloading."""

    restart: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()


class Systemd:
    """`command`, `start` and `shutdown` are the systemctl, systemd-run and shutdown to call, as words.

    Without `start`, it is systemd-run where systemd runs, and nothing where it doesn't.
    """

    def __init__(
        self, command: Sequence[str], start: Sequence[str] | None = None, shutdown: Sequence[str] = ("shutdown",)
    ) -> None:
        self._command = tuple(command)
        self._shutdown = tuple(shutdown)
        found = ("systemd-run",) if _BOOTED.is_dir() else ()
        self._start = found if start is None else tuple(start)

    @property
    def present(self) -> bool:
        """Whether there is a systemd to ask; a stand-in for systemd-run speaks for one."""
        return bool(self._start)

    def run_once(self, unit: str, seconds: float) -> int | None:
        """Run a oneshot unit and wait for its end: its exit code, 1 if a signal ended it; None where it didn't start.

        Where it is running already, that run is waited for, and another made: the first may have begun too early to see
        what this one is to see. Raises EnvironmentFailed without a systemctl, or after so many seconds for one of them.
        """
        if self._shown(unit, "ActiveState") == ["activating"]:
            run([*self._command, "start", unit], timeout=seconds)
        before = self._shown(unit, "ExecMainStartTimestampMonotonic")
        run([*self._command, "start", unit], timeout=seconds)
        if self._shown(unit, "ExecMainStartTimestampMonotonic") == before:
            return None
        how, code = self._shown(unit, "ExecMainCode"), self._shown(unit, "ExecMainStatus")
        return int(code[0]) if how == ["1"] and code and code[0].isdecimal() else 1  # 1: CLD_EXITED

    def _shown(self, unit: str, name: str) -> list[str]:
        argv = [*self._command, "show", "--value", f"--property={name}", unit]
        return run(argv, timeout=60).out.decode("ascii", "replace").split()

    def refresh(self, units: Units) -> tuple[str, ...]:
        """try-restart and try-reload-or-restart exactly these units; sentences on what couldn't be done."""
        trouble: list[str] = []
        for verb, names in (("try-restart", units.restart), ("try-reload-or-restart", units.reload)):
            if names:
                trouble.extend(self._call(verb, names))
        return tuple(trouble)

    def apart(self, argv: Sequence[str], *, piped: bool = False, seconds: int | None = None) -> list[str]:
        """The command that runs `argv` in a unit of its own, waits for it, and exits as it does.

        With `piped` it says here what `argv` says, and a person's Ctrl-C ends it. After so many `seconds` it is ended.
        """
        if not self.present:
            return list(argv)
        options = ["--pipe"] if piped else []
        if seconds is not None:
            options.append(f"--property=RuntimeMaxSec={seconds}")
        return [*self._start, *_IN_UNIT, *options, "--", *argv]

    def arm(self, seconds: int, argv: Sequence[str]) -> None:
        """Have systemd run `argv` in so many seconds, whatever becomes of this process, unless `disarm` comes first.

        A reboot disarms too. Without a systemd there is no such timer. Raises EnvironmentFailed.
        """
        if not self.present:
            return
        self.disarm()
        options = (f"--unit={_DEAD_MAN}", f"--on-active={seconds}", "--timer-property=AccuracySec=1s", "--collect")
        here = [f"--setenv={name}" for name in _AS_HERE if name in os.environ]
        done = run([*self._start, *options, *here, "--no-ask-password", "--quiet", "--", *argv], timeout=60)
        if done.code != 0:
            raise EnvironmentFailed(
                f"can't arm the timer that would undo a switch that hangs: {done.words(200)}",
                "see what systemd says: journalctl -e",
            )

    def disarm(self) -> None:
        """Stop the timer, but not what it has started already: that may be the caller."""
        if self.present:
            run([*self._command, "stop", f"{_DEAD_MAN}.timer"], timeout=60)

    def reboot_scheduled(self) -> bool:
        """Whether a reboot, or another end, is on its way already."""
        return self.present and _SCHEDULED.exists()

    def reboot(self, minutes: int, message: str) -> None:
        """Reboot in so many minutes, and tell everybody who is logged in. Raises EnvironmentFailed."""
        if not self.present:
            raise EnvironmentFailed("there is no systemd to reboot with", "reboot this machine by hand")
        done = run([*self._shutdown, "--reboot", f"+{minutes}", message], timeout=60)
        if done.code != 0:
            raise EnvironmentFailed(
                f"shutdown doesn't work: {done.words(200)}", "reboot this machine by hand: systemctl reboot"
            )

    def call_off_reboot(self) -> None:
        """Have a reboot that is on its way not come. Never raises: then it comes."""
        with suppress(EnvironmentFailed):
            run([*self._shutdown, "-c"], timeout=60)

    def kexec(self, program: Path, system: Path, minutes: int, message: str) -> None:
        """As `reboot`, but straight into the kernel of `system`, which `program`, a kexec(8), loads now.

        Raises EnvironmentFailed with nothing loaded: then `reboot`. Where the kernel can't be started when the time has
        come, systemd reboots the usual way.
        """
        if not self.present:
            raise EnvironmentFailed("there is no systemd to reboot with")
        params = read_capped(system / "kernel-params", _LONGEST_PARAMS, f"{system}/kernel-params")
        if params is None:
            raise EnvironmentFailed(f"{system} has no kernel-params")
        line = f"{params.decode('utf-8', 'replace').strip()} init={system}/init"
        kernel = ("--load", f"{system}/kernel", f"--initrd={system}/initrd", f"--append={line}")
        loaded = run([str(program), *kernel], timeout=120)
        if loaded.code != 0:
            raise EnvironmentFailed(f"kexec can't load the new kernel: {loaded.words(200)}")
        done = run([*self._command, "kexec", f"--when=+{minutes}min", f"--message={message}"], timeout=60)
        if done.code != 0:
            run([str(program), "--unload"], timeout=60)
            raise EnvironmentFailed(f"systemctl kexec doesn't work: {done.words(200)}")

    def forget_kernel(self, program: Path) -> None:
        """Unload a kernel that waits for a reboot that is on its way, which is then one of the usual kind."""
        if self.reboot_scheduled() and _loaded():
            run([str(program), "--unload"], timeout=60)

    def stop_switch(self) -> None:
        """End a switch that hangs. Raises EnvironmentFailed."""
        if self.switching():
            self._ask("stop", f"{SWITCH_UNIT}.service")

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


def _loaded() -> bool:
    try:
        return _LOADED.read_text("ascii").strip() == "1"
    except OSError:
        return False
