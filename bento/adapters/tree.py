"""A configuration as one deterministic tar: the same tree gives the same bytes, and unpacks to the same tree."""

import hashlib
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from shlex import quote
from typing import IO, NamedTuple

from bento.adapters.files import read_whole
from bento.adapters.stamps import Stamp
from bento.errors import InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.names import Digest, printable

# One time for everything: a `path:` flake's lastModified follows file times, so both sides need the same.
MTIME = 315_532_800  # 1980-01-01, the oldest that zip tools can hold too
BLOCK = 1024 * 1024
_NAME = 100  # bytes at the beginning of a header; what is shorter ends with a NUL
# Nearly every name: one look instead of a look at each letter. None is "." or "..", or has two slashes side by side.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")

_SIZE = re.compile(rb"([0-7]{11})\0")  # a header's field, as write_tar's tarfile writes it
# The one pax record that is needed: a name that is long, or not ASCII. It begins with its own length.
_NAMED = re.compile(rb"([0-9]{1,4}) path=[^\0\n]+\n")
_LONGEST_RECORD = LIMITS.path + len("1234 path=\n")


class Entry(NamedTuple):
    """One file or folder of a configuration. `name` is its path in the tree; `place` is where its bytes lie.

    A file's `stamp` says how it stood when the tree was collected.
    """

    name: str
    place: str | Path
    is_folder: bool
    executable: bool
    stamp: Stamp | None = None

    @property
    def source(self) -> Path:
        """Where its bytes lie."""
        return Path(self.place)


def write_tar(entries: Iterable[Entry], out: IO[bytes]) -> tuple[Digest, int]:
    """Write the tar and return its sha256 and size. Entries are sorted here. Raises InputError for too large a tree."""
    hashing = _Hashing(out)
    for entry in sorted(entries, key=lambda entry: entry.name.encode()):
        _add(hashing, entry)
        if hashing.size > LIMITS.config:
            raise InputError(
                f"{entry.place}: with it the configuration is larger than {LIMITS.config} bytes",
                "keep large files elsewhere",
                f"see what is large: du -ah {quote(str(Path(entry.place).parent))} | sort -h | tail",
            )
    end = hashing.size + 2 * tarfile.BLOCKSIZE
    hashing.write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))
    return Digest(hashing.sha.hexdigest()), hashing.size


class _Hashing:
    """A file that hashes and counts what goes through it."""

    def __init__(self, out: IO[bytes]) -> None:
        self.sha = hashlib.sha256()
        self.size = 0
        self._out = out

    def write(self, data: bytes) -> None:
        self.sha.update(data)
        self.size += len(data)
        self._out.write(data)


def _add(out: _Hashing, entry: Entry) -> None:
    """A header and a file's bytes, in one go: tarfile's own stream takes much longer for small files."""
    if entry.is_folder:
        out.write(_tarfile_s(entry.name, tarfile.DIRTYPE, 0o755))
        return
    try:
        data = read_whole(entry.place)  # so that a file that changes meanwhile can't make the header lie
    except OSError as error:
        raise InputError(
            f"can't read {entry.place}: {error.strerror}", f"see whose it is: ls -ld {quote(str(entry.place))}"
        ) from None
    header = _header(entry.name, 0o755 if entry.executable else 0o644, len(data))
    out.write(b"".join((header, data, bytes(-len(data) % tarfile.BLOCKSIZE))))


def _header(name: str, mode: int, size: int) -> bytes:
    """A file's. Nearly all differ in name and size alone, and tarfile takes fifteen times as long."""
    if len(name) >= _NAME or not name.isascii():
        return _tarfile_s(name, tarfile.REGTYPE, mode, size)
    middle, after, end, total = _around(mode)
    raw, digits = name.encode(), b"%011o" % size
    total += sum(raw) + sum(digits)
    return b"%b%b%b%b%b%06o%b" % (raw, bytes(_NAME - len(raw)), middle, digits, after, total, end)


@cache
def _around(mode: int) -> tuple[bytes, bytes, bytes, int]:
    """What is around name, size and checksum in a header; and the sum of that, the checksum counted as spaces."""
    whole = _tarfile_s("", tarfile.REGTYPE, mode)
    middle, after, end = whole[_NAME:124], whole[135:148], whole[154:]
    return middle, after, end, sum(middle) + sum(after) + sum(b" " * 8) + sum(end[2:])


def _tarfile_s(name: str, kind: bytes, mode: int, size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime = kind, mode, size, MTIME
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def check_name(name: str) -> str:
    """A tree path: relative, normal, UTF-8, printable, within limits. Returns it or raises InputError."""
    if _PLAIN.fullmatch(name) and len(name) <= LIMITS.segment:
        return name
    parts = name.split("/")
    try:
        raw = name.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"the file name '{printable(name)}' is not UTF-8", "rename it") from None
    if len(raw) > LIMITS.path or any(len(part.encode()) > LIMITS.segment for part in parts):
        raise InputError(f"the file name '{printable(name)}' is too long", "rename it")
    if any(part in ("", ".", "..") for part in parts) or any(ord(char) < 32 or ord(char) == 127 for char in name):  # noqa: PLR2004 — ASCII's control characters
        raise InputError(f"'{printable(name)}' is no file name for a configuration", "rename it")
    return name


def _check_headers(archive: Path) -> None:
    """Raise WorkFailed for headers that `write_tar` doesn't write, and for more files or bytes than a host takes.

    tarfile believes what headers say: of a megabyte of pax records before many files it makes gigabytes, a chain of
    them ends in a RecursionError, and sizes may be negative. So it gets to see plain files, folders and long names.
    """
    entries = total = 0
    named = False  # by the pax record before
    with archive.open("rb") as file:
        while len(header := file.read(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE and any(header):
            kind, said = header[156:157], _SIZE.fullmatch(header[124:136])
            if said is None:
                raise WorkFailed("the configuration's archive is damaged: a size that is no octal number")
            size = int(said[1], 8)
            if kind == tarfile.XHDTYPE and not named and size <= _LONGEST_RECORD:
                record = _NAMED.fullmatch(file.read(size))
                named = record is not None and int(record[1]) == size
                if not named:
                    raise WorkFailed("the configuration's archive is damaged: a record that is no file's name")
            elif kind == tarfile.REGTYPE or (kind == tarfile.DIRTYPE and not size):
                named = False
                entries, total = entries + 1, total + size
                if entries > LIMITS.tree_entries or total > LIMITS.tree_bytes:
                    raise WorkFailed("the configuration has more files or bytes than a host takes")
                file.seek(size, os.SEEK_CUR)
            else:
                raise WorkFailed("the configuration's archive holds what is neither file nor folder")
            file.seek(-size % tarfile.BLOCKSIZE, os.SEEK_CUR)


def unpack(archive: Path, into: Path) -> None:
    """Unpack into `into`, which must not exist. Plain files and folders only. Raises WorkFailed, leaving nothing.

    Every name, type and size is checked here before anything is written for it; tarfile only parses headers that were
    looked at before. A name that comes twice fails on O_EXCL or mkdir.
    """
    try:
        into.mkdir(mode=0o755)
    except OSError as error:
        raise WorkFailed(
            f"can't unpack the configuration: {error.strerror}", "see whether the disk is full: df -h"
        ) from None
    folders = {"."}
    try:
        _check_headers(archive)
        with tarfile.open(archive, mode="r:") as tar:
            for member in tar:
                _check_member(member, folders)
                _write_member(tar, member, into)
        for folder, _, _ in os.walk(into, topdown=False):
            os.utime(folder, (MTIME, MTIME))
    except BaseException as error:
        shutil.rmtree(into, ignore_errors=True)
        if isinstance(error, OSError):
            raise WorkFailed(
                f"can't unpack the configuration: {error.strerror}", "see whether the disk is full: df -h"
            ) from None
        if isinstance(error, InputError | tarfile.TarError | EOFError | ValueError):
            raise WorkFailed(f"the configuration's archive is damaged: {printable(str(error), 200)}") from None
        raise


def _check_member(member: tarfile.TarInfo, folders: set[str]) -> None:
    name = check_name(member.name)
    parent = name.rpartition("/")[0] or "."
    if not (member.isreg() or member.isdir()):
        raise WorkFailed(f"'{printable(name)}' in the configuration's archive is neither file nor folder")
    if parent not in folders:
        raise WorkFailed(f"'{printable(name)}' in the configuration's archive has no folder")
    if member.isdir():
        folders.add(name)


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    path = into / member.name
    if member.isdir():
        path.mkdir(mode=0o755)
        return
    source = tar.extractfile(member)
    if source is None:
        raise WorkFailed(f"'{printable(member.name)}' in the configuration's archive has no content")
    mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        while block := source.read(BLOCK):
            file.write(block)
        os.fchmod(descriptor, mode)
    os.utime(path, (MTIME, MTIME))
