"""A real systemd as PID 1: Debian in systemd-nspawn, booted in a second, without a network of its own.

The Debian is debootstrapped once (about 100 s, 300 MB) into BENTO_SYSTEMD_CACHE, by default /var/cache/bento-systemd;
each machine is an overlay above it.
"""

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

SUITE = "bookworm"
PROGRAMS = ("systemd-nspawn", "debootstrap", "nsenter")
_REBOOT = 133  # how nspawn ends, with --keep-unit, when the system in it asks for a reboot
_CGROUPS = Path("/sys/fs/cgroup")
_ENV = ("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb")


def missing() -> list[str]:
    """The programs of `PROGRAMS` that this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def is_cached() -> bool:
    """Whether the bare Debian is there already."""
    return _place().is_dir()


def base() -> Path:
    """The bare Debian, made if it isn't there: whole or not at all."""
    made = _place()
    if made.is_dir():
        return made
    cache = made.parent
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = cache / f".{SUITE}.{secrets.token_hex(4)}"
    packages = "systemd,systemd-sysv,dbus,passwd,python3"
    argv = ["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(new), *_mirror()]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"debootstrap failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        for unit in ("systemd-firstboot.service", "console-getty.service", "systemd-resolved.service"):
            (new / "etc/systemd/system" / unit).symlink_to("/dev/null")
        with suppress(OSError):  # another session was quicker
            new.rename(made)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return made


def _place() -> Path:
    return Path(os.environ.get("BENTO_SYSTEMD_CACHE", "/var/cache/bento-systemd")) / SUITE


def _mirror() -> list[str]:
    """Where this machine's own apt gets the suite from; debootstrap's default without one."""
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Identifier: Packages"]
    with suppress(OSError):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            uri, _, suite = line.partition(" ")
            if suite == SUITE:
                return [uri]
    return []


class Nspawn:
    """A machine whose changes lie in `folder`. `binds` are shown read-only, `shared` for writing, at their own paths.

    Write its files below `root` before `start`. A power cut and a clean reboot keep them.
    """

    def __init__(self, folder: Path, binds: Sequence[Path] = (), shared: Sequence[tuple[Path, str]] = ()) -> None:
        self.name = f"bento-{secrets.token_hex(4)}"
        self.root = folder / "root"
        self.console = folder / "console.log"
        self._options = [f"--bind-ro={path}" for path in binds] + [f"--bind={path}:{inside}" for path, inside in shared]
        self._process: subprocess.Popen[bytes] | None = None
        for part in ("upper", "work", "root"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={base()},upperdir={folder}/upper,workdir={folder}/work"
        subprocess.run(["mount", "-t", "overlay", self.name, "-o", layers, str(self.root)], check=True)
        (self.root / "etc/machine-id").write_text(f"{secrets.token_hex(16)}\n")
        (self.root / "etc/hostname").write_text("web\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Boot, and wait until systemd says that it is up, with or without failed units."""
        argv = [
            *("systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={self.name}", "--register=no"),
            *("--keep-unit", "--console=pipe", "--resolv-conf=off", "--timezone=off", "--private-network"),
            *("--link-journal=no", *self._options, "--boot"),
        ]
        # Its own control group, or all such machines share one; a shell puts itself there and becomes nspawn.
        moves = "".join(f"echo $$ >{shlex.quote(str(group))}/cgroup.procs; " for group in self._groups())
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                ["sh", "-ec", f"{moves}exec {shlex.join(argv)}"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
            )
        deadline = time.monotonic() + 120
        while True:
            state = self.run(["systemctl", "is-system-running"]).stdout.strip() if self._leader() else b""
            if state in (b"running", b"degraded"):
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"systemd didn't come up: {self.console.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def run(self, argv: Sequence[str | Path], *, check: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Run a command in it as root."""
        leader = self._leader()
        if leader is None:
            raise RuntimeError("the machine isn't running")
        entered = ["nsenter", f"--target={leader}", *("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"), *_ENV]
        done = subprocess.run([*entered, *map(str, argv)], capture_output=True, timeout=200, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} exited {done.returncode}: {(done.stdout + done.stderr).decode()}")
        return done

    def text(self, argv: Sequence[str | Path]) -> str:
        """The stripped stdout of a command that must succeed."""
        return self.run(argv, check=True).stdout.decode().strip()

    def reboot(self) -> None:
        """A clean reboot."""
        self.run(["systemctl", "reboot"])
        code = self._ended()
        if code != _REBOOT:
            raise RuntimeError(f"the machine ended with {code} instead of a reboot")
        self.start()

    def cut_power(self) -> None:
        """All its processes end at once; `start` boots it again."""
        leader = self._leader()
        if leader is not None:
            os.kill(leader, signal.SIGKILL)
            self._ended()

    def close(self) -> None:
        """End it, and its mount."""
        self.cut_power()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        subprocess.run(["umount", "-l", str(self.root)], check=True)
        for group in self._groups(make=False):
            for folder in sorted(group.rglob("*"), reverse=True):
                if folder.is_dir():
                    with suppress(OSError):
                        folder.rmdir()
            with suppress(OSError):
                group.rmdir()

    def _ended(self) -> int:
        if self._process is None:
            raise RuntimeError("the machine isn't running")
        return self._process.wait(timeout=200)

    def _leader(self) -> int | None:
        """PID 1 of the machine, as this machine numbers it: nspawn's child."""
        if self._process is None or self._process.poll() is not None:
            return None
        pid = self._process.pid
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        return None

    def _groups(self, *, make: bool = True) -> Iterator[Path]:
        """Its control group in systemd's hierarchies: two where the kernel has the old kind, else one."""
        tops = [_CGROUPS / name for name in ("systemd", "unified") if (_CGROUPS / name).is_dir()] or [_CGROUPS]
        for top in tops:
            group = top / self.name
            if make:
                group.mkdir(exist_ok=True)
            if group.is_dir():
                yield group
