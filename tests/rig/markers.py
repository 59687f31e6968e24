"""Looks for a secret where it mustn't be, also encoded or compressed."""

import base64
import bz2
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_DEPTH = 3  # how many compressions inside each other are opened
_LARGEST = 64 * 2**20  # bytes of one stream that are unpacked
_SHORTEST = 8  # a shorter marker would be found by chance


def _unpack_zlib(window: int) -> Callable[[bytes], bytes]:
    return lambda packed: zlib.decompressobj(window).decompress(packed, _LARGEST)


# What a stream starts with, and how to open it. A wrong guess fails at once.
_STREAMS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b\x08", _unpack_zlib(31)),
    *((b"\x78" + level, _unpack_zlib(15)) for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")),
    (b"BZh", lambda packed: bz2.BZ2Decompressor().decompress(packed, _LARGEST)),
    (b"\xfd7zXZ\x00", lambda packed: lzma.LZMADecompressor().decompress(packed, _LARGEST)),
)


def hits(marker: bytes, *folders: Path) -> list[Path]:
    """The files, links and folders below `folders` that hold the marker in content, link target or name; sorted.

    Found raw, in hex, in base64 (any alignment, wrapped, URL-safe), and inside gzip, zlib, bzip2 and xz streams. Raises
    FileNotFoundError for a folder that isn't there: a search of nothing would find nothing.
    """
    needles = _needles(marker)
    found = set()
    for folder in folders:
        folder.lstat()
        for path in (folder, *_walk(folder)):
            if any(_holds(text, needles) for text in _texts(path)):
                found.add(path)
    return sorted(found)


def inside(marker: bytes, data: bytes) -> bool:
    """Whether bytes hold the marker, by the same rules."""
    return _holds(data, _needles(marker))


def _needles(marker: bytes) -> tuple[bytes, ...]:
    if len(marker) < _SHORTEST:
        raise ValueError("the marker is too short to mean anything")
    needles = [marker, marker.hex().encode(), marker.hex().upper().encode()]
    for offset in range(3):
        # Characters that depend on what stands before or after the marker are cut off.
        whole = base64.b64encode(b"\0" * offset + marker)
        bits = (offset + len(marker)) * 8
        middle = whole[(0, 2, 3)[offset] : bits // 6]
        needles += [middle, middle.translate(bytes.maketrans(b"+/", b"-_"))]
    return tuple(dict.fromkeys(needles))


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent, name)


def _texts(path: Path) -> Iterator[bytes]:
    yield os.fsencode(path.name)
    with suppress(FileNotFoundError):  # it may go while we look
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield os.fsencode(path.readlink())
        elif stat.S_ISREG(mode):
            yield path.read_bytes()


def _holds(data: bytes, needles: tuple[bytes, ...], depth: int = _DEPTH) -> bool:
    unwrapped = data.translate(None, b"\r\n")
    if any(needle in data or needle in unwrapped for needle in needles):
        return True
    return depth > 0 and any(_holds(opened, needles, depth - 1) for opened in _streams(data))


def _streams(data: bytes) -> Iterator[bytes]:
    for magic, unpack in _STREAMS:
        at = data.find(magic)
        while at >= 0:
            with suppress(zlib.error, lzma.LZMAError, OSError, EOFError):
                yield unpack(data[at:])
            at = data.find(magic, at + 1)
