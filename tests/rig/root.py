"""One machine's private /nix and /run, without touching the real ones."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bento.demo.machine import HOLD
from bento.demo.systems import BOOT_DEFAULT, SWITCH_LOG
from rig import zygote
from rig.nix import nix_env


class PrivateRoot:
    """A machine whose /nix and /run lie in `folder`; the rest of the file system is the real one.

    Commands share its mounts: a tmpfs that one makes is there for the next, until `reboot`.
    """

    def __init__(self, folder: Path, channel: Path | None = None) -> None:
        self.folder = folder
        self.net: Path | None = None  # the file of a network namespace that its commands run in
        self.env = nix_env(folder / "home", channel)
        for part in ("nix/var/nix/profiles", "run", "root"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._commands: list[subprocess.Popen[bytes]] = []
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bytes = b"",
        timeout: float = 200,
        check: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in it to its end; output is captured. `env` adds to the Nix environment; `cwd` is else /."""
        if zygote.can(argv, env) and not check and self.net is None:
            return zygote.run(argv, {**self.env, **(env or {})}, cwd or "/", stdin, timeout, self._space)
        return subprocess.run(
            self._enter(argv, cwd),
            env={**self.env, **(env or {})},
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=check,
        )

    def text(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 200,
    ) -> str:
        """The stripped stdout of a command that must succeed; else AssertionError with what it said."""
        done = self.run(argv, env=env, cwd=cwd, timeout=timeout)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise AssertionError(f"{argv} exited {done.returncode}: {said}")
        return done.stdout.decode().strip()

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start a command in it. The process is the command itself: a signal reaches it and nothing else."""
        command = subprocess.Popen(
            self._enter(argv, cwd),
            env={**self.env, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        self._commands.append(command)
        return command

    def reboot(self) -> None:
        """A power cut and a boot: all its processes and mounts vanish, /run is emptied, the boot default runs."""
        self._stop()
        shutil.rmtree(self.folder / "run")
        (self.folder / "run").mkdir()
        default = self.boot_default()
        if default is not None:
            for name in ("current-system", "booted-system"):
                (self.folder / "run" / name).symlink_to(default)
        self._start()

    def path(self, inside: str | Path) -> Path:
        """Where a path of this machine can be read from outside, mounts included.

        An absolute symlink in it leads to the real root: use `link` to read one.
        """
        return Path(f"/proc/{self._holder.pid}/root{inside}")

    def on_disk(self, inside: str | Path) -> Path:
        """The same path in /nix or /run as it lies on the disk: what is on a tmpfs isn't there."""
        path = str(inside)
        if not path.startswith(("/nix", "/run")):
            raise ValueError(f"{path} is the real machine's")
        return self.folder / path.lstrip("/")

    def link(self, inside: str | Path) -> str | None:
        """What a symlink of this machine says; None without one."""
        try:
            return str(self.path(inside).readlink())
        except OSError:
            return None

    def running(self) -> str | None:
        """The running system, by /run/current-system."""
        return self.link("/run/current-system")

    def boot_default(self) -> str | None:
        """The system that a reboot would start."""
        with suppress(FileNotFoundError):
            return self.on_disk(BOOT_DEFAULT).read_text().strip()
        return None

    def profile(self) -> str | None:
        """The system that the system profile leads to."""
        generation = self.link("/nix/var/nix/profiles/system")
        return None if generation is None else self.link(f"/nix/var/nix/profiles/{generation}")

    def switches(self) -> list[tuple[str, str]]:
        """Every call of switch-to-configuration so far: (action, system)."""
        with suppress(FileNotFoundError):
            lines = self.on_disk(SWITCH_LOG).read_text().splitlines()
            return [(line.split()[0], line.split()[1]) for line in lines]
        return []

    def close(self) -> None:
        """End its processes and mounts. The folder stays, to be searched."""
        self._stop()

    def _enter(self, argv: Sequence[str | Path], cwd: Path | None) -> list[str]:
        # nsenter and env become the command: the process that is started is the command itself
        namespaces = [f"--mount=/proc/{self._holder.pid}/ns/mnt", *([] if self.net is None else [f"--net={self.net}"])]
        return ["nsenter", *namespaces, "--", "env", f"--chdir={cwd or '/'}", *map(str, argv)]

    def _start(self) -> None:
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", HOLD, "hold", str(self.folder), "nix run"]
        holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if holder.stdout is None or holder.stdout.readline() != b"ready\n":
            said = holder.communicate()[1].decode(errors="replace")
            raise RuntimeError(f"can't make a private root (root is needed): {said}")
        self._holder = holder
        # While this is open, the kernel gives the namespace's number to no other one: `_stop` must not kill a stranger.
        self._space = os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY)

    def _stop(self) -> None:
        if self._holder.returncode is not None:
            return
        for command in self._commands:  # one that was just started may not be in the namespace yet
            if command.poll() is None:
                command.kill()
        self._commands.clear()
        number = os.fstat(self._space).st_ino
        deadline = time.monotonic() + 120
        while members := _members(number):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {members} of a private root don't end")
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        self._holder.communicate()
        os.close(self._space)


def _members(number: int) -> list[int]:
    """The processes in the mount namespace of this inode number. A zombie is in none any more."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if (entry / "ns" / "mnt").stat().st_ino == number:
                    found.append(int(entry.name))
    return found
