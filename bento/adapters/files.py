"""Files: durable writes, locks, capped reads of what others wrote."""

import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shlex import quote

from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento_secrets.durable import fsync_dir, write_all, write_atomic

__all__ = [
    "WaitingLock",
    "busy_lock",
    "fsync_dir",
    "holder",
    "publish_text",
    "read_capped",
    "read_capped_at",
    "read_whole",
    "sign_lock",
    "store",
    "sweep",
    "write_atomic",
]

_AGAIN = 0.05  # seconds
_PIECE = 64 * 1024  # bytes
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_OLD = 3600  # seconds


class Busy(EnvironmentFailed):
    """Somebody else holds the lock."""


def store(path: Path, data: bytes, mode: int) -> None:
    """`write_atomic`, with a full or broken disk as EnvironmentFailed; what was there before is still there."""
    try:
        write_atomic(path, data, mode)
    except OSError as error:
        raise EnvironmentFailed(
            f"can't write {path}: {error.strerror}", f"see the disk: df -h {quote(str(path.parent))}"
        ) from None


def sweep(folder: Path) -> None:
    """Remove what kills in mid-`store` left in a folder; what is young may be another's that is being written."""
    for path in folder.glob(".*.tmp"):
        if path.lstat().st_mtime < time.time() - _OLD:
            path.unlink(missing_ok=True)


def publish_text(path: Path, text: str) -> None:
    """Put a text where others read it, 0644, whole or not at all; it needn't survive a power cut, so no disk waits.

    Raises EnvironmentFailed.
    """
    temporary = f"{path.parent}/.{path.name}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(descriptor, text.encode())
            os.fchmod(descriptor, 0o644)  # whatever the umask
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 — a deploy notes what it built of a thousand hosts
    except OSError as error:
        with suppress(OSError):
            Path(temporary).unlink()
        raise EnvironmentFailed(
            f"can't write {path}: {error.strerror}",
            f"see whose it is, and how full: ls -ld {quote(str(path.parent))}; df -h {quote(str(path.parent))}",
        ) from None


@contextmanager
def busy_lock(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on `path` (made 0600). Raises Busy, naming `what`, when it is held already."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EnvironmentFailed(
            f"can't lock {path}: {error.strerror}", f"see whose it is: ls -ld {quote(str(path.parent))}"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{what} is under way already", "wait for it to end") from None
        yield
    finally:
        os.close(descriptor)


def sign_lock(path: Path) -> None:
    """Write this process into a lock that it holds, for `holder`. On a full disk it is left out.

    Always as many bytes, over those of the one before: what has its place on the disk needs no more room.
    """
    with suppress(OSError), path.open("r+b") as file:
        file.write(f"{os.getpid():<10}\n".encode("ascii"))


def holder(path: Path) -> int | None:
    """The process that wrote itself into the lock at `path` last; None where none did."""
    text = read_capped(path, 100, f"the lock {path}")
    word = b"" if text is None else text.strip()
    return int(word) if word.isdigit() and int(word) > 1 else None


class WaitingLock:
    """An exclusive lock on the file at `path` (made 0600) for which others wait, `patience` seconds at most.

    The process that has it may take it again. Children don't inherit it. `say` gets a line if there is a wait. Raises
    Busy, naming `what` holds it, and EnvironmentFailed.
    """

    def __init__(self, path: Path, what: str, patience: float, say: Callable[[str], None]) -> None:
        self._path = path
        self._what = what
        self._patience = patience
        self._say = say
        self._held = ExitStack()
        self._depth = 0

    def __enter__(self) -> None:
        if self._depth == 0:
            self._wait()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._held.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + self._patience
        told = False
        while True:
            try:
                self._held.enter_context(busy_lock(self._path, self._what))
            except Busy:
                if time.monotonic() > deadline:
                    raise Busy(f"{self._what} doesn't end", f"see what it is: fuser -v {self._path}") from None
            else:
                return
            if not told:
                self._say(f"waiting for {self._what}")
                told = True
            time.sleep(_AGAIN)


def read_capped(path: Path | str, limit: int, what: str) -> bytes | None:
    """A plain file of at most `limit` bytes, not followed through a link; None where there is none."""
    return read_capped_at(None, str(path), limit, what)


def read_capped_at(folder: int | None, name: str, limit: int, what: str) -> bytes | None:
    """`read_capped` relative to an open folder. Raises InputError for anything but a plain file of that size.

    And WorkFailed where the disk doesn't give it.
    O_NONBLOCK: a FIFO that somebody put there must not hang the reader.
    """
    try:
        descriptor = os.open(name, _READING, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        kind = WorkFailed if error.errno == errno.EIO else InputError  # the disk's fault, or what lies there
        raise kind(f"can't read {what}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{what} is not a plain file")
        if status.st_size > limit:
            raise InputError(f"{what} is larger than {limit} bytes")
        data = os.read(descriptor, min(limit, status.st_size + 1))
        return data if len(data) == status.st_size else data + _rest(descriptor, limit - len(data))
    except OSError as error:
        raise WorkFailed(f"can't read {what}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def read_whole(path: Path | str) -> bytes:
    """A whole file, a link followed; in fewer system calls than Python's own. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        return data if len(data) == size else data + _rest(descriptor, sys.maxsize)
    finally:
        os.close(descriptor)


def _rest(descriptor: int, limit: int) -> bytes:
    """What comes after a first read that gave another number of bytes than the file was said to have."""
    parts: list[bytes] = []
    while limit > 0 and (part := os.read(descriptor, min(limit, _PIECE))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)
