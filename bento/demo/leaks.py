"""Looks for plaintext where it mustn't be: raw, in hex and in base64."""

import base64
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

_PLANT = "planted-by-the-demo"


def traces(plaintexts: Sequence[bytes], folders: Sequence[Path], text: str = "") -> list[str]:
    """Where below `folders` a plaintext is found, in content, link target or name, and whether `text` has one.

    Mounts that others have inside these folders aren't seen: only what is on the disk.
    """
    needles = tuple(needle for plaintext in plaintexts for needle in _needles(plaintext))
    found = [
        str(path)
        for folder in folders
        for path in _walk(folder)
        if _holds(os.fsencode(path.name), needles) or _holds(_content(path), needles)
    ]
    if _holds(text.encode(), needles):
        found.append("what the commands said")
    return found


@contextmanager
def planted(plaintext: bytes, folders: Sequence[Path]) -> Iterator[list[str]]:
    """Puts the plaintext into each folder for a while and gives the files: the search must find each of them."""
    with ExitStack() as plants:
        files = []
        for number, folder in enumerate(folders):
            # a different offset each time, so that each of base64's three alignments is tried
            path = folder / _PLANT
            plants.callback(path.unlink, missing_ok=True)
            path.write_bytes(base64.b64encode(b"." * number + plaintext))
            files.append(str(path))
        yield files


def _needles(plaintext: bytes) -> Iterator[bytes]:
    yield plaintext
    yield plaintext.hex().encode()
    for offset in range(3):
        # The characters that depend on what stands before or after are cut off.
        whole = base64.b64encode(b"\0" * offset + plaintext)
        yield whole[(0, 2, 3)[offset] : (offset + len(plaintext)) * 8 // 6]


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent, name)


def _content(path: Path) -> bytes:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return path.read_bytes()
    return os.fsencode(path.readlink()) if stat.S_ISLNK(mode) else b""


def _holds(data: bytes, needles: Sequence[bytes]) -> bool:
    return any(needle in data for needle in needles)
