"""What was found in files when they were last read, for as long as they are as they were: then none is read again.

A file counts as it was if device, inode, size, mtime and ctime are all the same. Its mtime anybody can set, and a size
stays easily; ctime is the kernel's. But two changes within one tick of the file system's clock have the same: so what
is younger than that is read again the next time, as git does it. docs/performance.md says what may be missed.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bento.adapters.files import publish_text
from bento.errors import BentoError

Stamp = tuple[int, int, int, int, int]  # device, inode, size in bytes, mtime and ctime in nanoseconds
Value = tuple[str | int, ...]
Part = tuple[str, Stamp | None]  # a word, and the stamp of the file that it is on

_FORMAT: Final = 3
_TICK: Final = 2_000_000_000  # nanoseconds: FAT counts in two seconds, ext4 in ten milliseconds at most
_LARGEST: Final = 256 << 20  # bytes


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def stamp_at(path: str) -> Stamp | None:
    """The stamp of what lies at a path, links not followed; None where nothing does."""
    try:
        return stamp_of(os.lstat(path))
    except OSError:
        return None


@dataclass(frozen=True)
class Sight:
    """How files stood when they were looked at. One that isn't `settled` may change again without a trace."""

    what: str
    fingerprint: str
    settled: bool


class Stamps:
    """Lies in one file, which may be lost or damaged: then everything is read once more.

    `rules` says what the values follow from besides the files; with others nothing is remembered. `now` gives
    nanoseconds since 1970. With `trusting` false nothing is recalled, but what is found is remembered.
    """

    def __init__(self, path: Path, rules: str, *, trusting: bool = True, now: Callable[[], int] = time.time_ns) -> None:
        self.now = now
        self._path = path
        self._rules = rules
        self._trusting = trusting
        self._old = _read(path, rules)
        self._kept = dict(self._old)  # what the file says
        self._new: dict[str, tuple[str, Value]] = {}

    def sight(self, what: str, parts: Iterable[Part], began: int) -> Sight:
        """Of files, each with a word on it, looked at since `began` (as `now` gives it); their order counts.

        None stands for what has no content, as a folder.
        """
        seen = tuple(parts)
        youngest = max([stamp[-1] for _, stamp in seen if stamp is not None], default=0)
        return Sight(what, _sum(repr(seen).encode("utf-8", "surrogateescape")), youngest < began - _TICK)

    def recall(self, sight: Sight) -> Value | None:
        """What was found when these files stood as they do now; None where they have to be read."""
        found = self._old.get(sight.what)
        if found is None or found[0] != sight.fingerprint or not self._trusting:
            return None
        self._new[sight.what] = found
        return found[1]

    def keep(self, what: str) -> None:
        """It wasn't looked at in this run, and still counts."""
        if what in self._old and what not in self._new:
            self._new[what] = self._old[what]

    def remember(self, sight: Sight, value: Value) -> None:
        """This is what is in them."""
        self._new.pop(sight.what, None)
        if sight.settled:
            self._new[sight.what] = (sight.fingerprint, value)
        else:
            self._old.pop(sight.what, None)

    def save(self, *, whole: bool) -> None:
        """Keep it. `whole`: all there is was looked at in this run, and the rest is forgotten. A failure costs time."""
        seen = self._new if whole else {**self._old, **self._new}
        if seen == self._kept:
            return
        said = json.dumps({"format": _FORMAT, "rules": self._rules, "seen": seen}, separators=(",", ":"))
        try:
            publish_text(self._path, f"{_sum(said.encode())}\n{said}")
        except BentoError:
            with suppress(OSError):
                self._path.unlink()


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path, rules: str) -> dict[str, tuple[str, Value]]:
    try:
        if path.stat().st_size > _LARGEST:
            return {}
        checksum, _, said = path.read_bytes().partition(b"\n")
        if checksum.decode("ascii") != _sum(said):
            return {}
        known = json.loads(said)
        if (known["format"], known["rules"]) != (_FORMAT, rules):
            return {}
        return {what: (fingerprint, tuple(value)) for what, (fingerprint, value) in known["seen"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged, or by another version
        return {}
