"""Writes that survive a power cut: temporary file in the same folder, fsync, rename, fsync of the folder."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK = 1024 * 1024  # bytes


def write_atomic(path: Path, data: bytes, mode: int) -> None:
    """Put `data` at `path` with `mode`: the old file or the new one, never part of it; a symlink there is replaced.

    OSError if it fails, and then no temporary file stays behind.
    """
    with folder(path.parent) as descriptor:
        write_atomic_at(descriptor, path.name, data, mode)


def write_atomic_at(folder_fd: int, name: str, data: bytes, mode: int) -> None:
    """As write_atomic, for `name` in an open folder."""
    temporary = f".{secrets.token_hex(8)}.tmp"
    try:
        write_new_at(folder_fd, temporary, data, mode)
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except BaseException:
        # The first error is the one to tell.
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder_fd)
        raise
    os.fsync(folder_fd)


def write_new_at(folder_fd: int, name: str, data: bytes, mode: int) -> None:
    """Make `name`, which must not exist, in an open folder. Its content is then on the disk, its name not yet."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder_fd)
    try:
        write_all(descriptor, data)
        os.fchmod(descriptor, mode)  # whatever the umask
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """All of `data`: one write(2) may take less."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fsync_dir(path: Path) -> None:
    """Make the names in the folder `path` last."""
    with folder(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def folder(path: Path) -> Iterator[int]:
    """A descriptor of the folder at `path`, symlinks followed."""
    descriptor = os.open(path, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def folder_at(
    folder_fd: int, parts: tuple[str, ...], *, make: int | None = None, lasting: bool = True
) -> Iterator[int]:
    """A descriptor of the folder `parts` below an open one, no symlink followed.

    With `make`, missing folders are made with that mode, and their names last; unless `lasting` is false: then the
    caller fsyncs the folders that they are in.
    """
    current = os.dup(folder_fd)
    try:
        for part in parts:
            if make is not None:
                _make_at(current, part, make, lasting=lasting)
            deeper = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = deeper
        yield current
    finally:
        os.close(current)


def _make_at(folder_fd: int, name: str, mode: int, *, lasting: bool) -> None:
    try:
        os.mkdir(name, mode, dir_fd=folder_fd)
    except FileExistsError:
        return
    with folder_at(folder_fd, (name,)) as made:
        os.fchmod(made, mode)  # whatever the umask
    if lasting:
        os.fsync(folder_fd)


def read_at(folder_fd: int, name: str, limit: int) -> bytes | None:
    """At most `limit` + 1 bytes of the file `name` in an open folder, no symlink followed; None if there is none."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    try:
        wanted = (
            min(os.fstat(descriptor).st_size, limit) + 1
        )  # a buffer of the limit's size would cost more than to read
        content = os.read(descriptor, wanted)
        while len(content) <= limit and (more := os.read(descriptor, min(_CHUNK, limit + 1 - len(content)))):
            content += more
        return content
    finally:
        os.close(descriptor)
