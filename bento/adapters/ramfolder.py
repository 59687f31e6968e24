"""A private folder in RAM for as long as a block runs: for a plaintext that a person edits."""

import ctypes
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bento.errors import EnvironmentFailed
from bento_secrets import ramdisk
from bento_secrets.errors import RuntimeUnsafe

_SIZE = 128 * 1024 * 1024  # bytes; the largest secret, and what an editor lays beside it
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True)
class RamFolder:
    """A folder of mode 0700. `warning` says why its content might reach a disk all the same."""

    path: Path
    warning: str | None


@contextmanager
def ram_folder() -> Iterator[RamFolder]:
    """A new folder on a tmpfs or ramfs, overwritten and removed at the end, also when a signal asks to end.

    Where that could be swapped out, root gets a tmpfs of its own without swap, which no other process sees. Raises
    EnvironmentFailed where there is no RAM filesystem.
    """
    with _ended_tidily():
        base, swappable = _find_base()
        path = Path(tempfile.mkdtemp(prefix="bento-", dir=base))
        mounted = False
        try:
            warning = None
            if swappable and ramdisk.read_has_swap():
                mounted = _mount_private(path)
                if not mounted:
                    warning = (
                        f"{base} may be swapped out: this machine has swap, and only root can make a tmpfs without"
                    )
            yield RamFolder(path, warning)
        finally:
            with _undisturbed():
                _wipe(path)
                if mounted:
                    _libc().umount2(os.fsencode(path), 0)
                with suppress(OSError):
                    path.rmdir()


def _find_base() -> tuple[str, bool]:
    """A folder in RAM that this user may write to, and whether it could be swapped out."""
    mounts = ramdisk.parse_mountinfo(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
    for named in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108 — it is asked for by its RAM
        if not named or not os.path.isdir(named) or not os.access(named, os.W_OK | os.X_OK):  # noqa: PTH112
            continue
        real = os.path.realpath(named)
        over = [mount for mount in mounts if f"{real}/".startswith(mount.path.rstrip("/") + "/")]
        mount = max(over, key=lambda mount: len(mount.path), default=None)
        status = os.stat(real)  # noqa: PTH116
        if mount is not None and mount.kind in ("tmpfs", "ramfs"):
            mount = [one for one in over if one.path == mount.path][-1]  # the last of one path is on top
        if mount is None or mount.device != (os.major(status.st_dev), os.minor(status.st_dev)):
            continue
        if mount.kind in ("tmpfs", "ramfs"):
            return real, mount.kind == "tmpfs" and "noswap" not in mount.super_options
    raise EnvironmentFailed(
        "there is no folder in RAM to edit the secret in: neither XDG_RUNTIME_DIR nor /dev/shm is a tmpfs",
        "mount one: mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm",
    )


def _mount_private(path: Path) -> bool:
    """Mount RAM without swap at `path`, seen by this process and its children only; whether that was possible."""
    libc = _libc()
    if os.geteuid() != 0 or libc.unshare(_CLONE_NEWNS) != 0:
        return False
    if libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None) != 0:
        return False
    try:
        ramdisk.mount(str(path), _SIZE)
    except RuntimeUnsafe:
        return False
    path.chmod(0o700)
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _wipe(folder: Path) -> None:
    """Overwrite and remove all that lies in it."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                descriptor = os.open(Path(parent, name), os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(bytes(os.fstat(descriptor).st_size))
    for entry in list(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C waits until all is wiped."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_ENDING, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ended_tidily() -> Iterator[None]:
    def end(number: int, _: FrameType | None) -> None:
        for one in _ENDING:  # a second one mustn't cut the tidying short
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
