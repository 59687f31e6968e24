"""Which signed documents were verified before: of the same bytes and the same keys the verdict is the same for good.

So nothing here ever becomes false, whatever happens to the files that the bytes were read from. Only what was found in
order is kept: what was not is looked at again each time.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from bento.adapters.files import publish_text
from bento.errors import BentoError

_MOST: Final = 100_000  # verdicts: 6.5 MB in the file; a host has four or five
_LINE: Final = 65  # bytes


class Verdicts:
    """Lies in one file, which may be lost or damaged, or not be written: then everything is verified once more.

    `rules` says what a verdict follows from besides the documents and their keys.
    """

    def __init__(self, path: Path, rules: str) -> None:
        self._path = path
        self._rules = rules
        self._old = _read(path)
        self._new: dict[str, None] = {}
        self._more = False

    def about(self, *asked: str) -> "About":
        """For documents about which this is asked: whom they have to be from and about, and whose keys count."""
        return About(self, repr((self._rules, asked)).encode("utf-8", "backslashreplace"))

    def has(self, mark: str) -> bool:
        """Whether it was found in order before."""
        if mark in self._old:
            self._new[mark] = None
        return mark in self._new

    def add(self, mark: str) -> None:
        """It is in order."""
        self._new[mark] = None
        self._more = True
        if len(self._new) > _MOST:
            self._new.pop(next(iter(self._new)), None)

    def save(self, *, whole: bool) -> None:
        """Keep it, where there is anything new. `whole`: what wasn't asked for is of no more use. A failure costs time.

        The folder must be there: who only looks leaves none behind.
        """
        if not self._more:
            return
        kept = list(self._new if whole else {**self._new, **self._old})  # what is left out is the oldest
        said = "".join(f"{mark}\n" for mark in kept[:_MOST])
        with suppress(BentoError):
            publish_text(self._path, f"{_sum(said.encode())}\n{said}")
            self._more = False


class About:
    """The verdicts on documents of one host, of any kind (one word): the same question was asked about all of them."""

    def __init__(self, verdicts: Verdicts, asked: bytes) -> None:
        self._verdicts = verdicts
        self._asked = asked  # one line, whatever is in it

    def has(self, kind: str, document: bytes) -> bool:
        """Whether it was found in order before."""
        return self._verdicts.has(self._mark(kind, document))

    def add(self, kind: str, document: bytes) -> None:
        """It is in order."""
        self._verdicts.add(self._mark(kind, document))

    def _mark(self, kind: str, document: bytes) -> str:
        return hashlib.sha256(b"%b %b\n%b" % (kind.encode(), self._asked, document)).hexdigest()


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> dict[str, None]:
    try:
        if path.stat().st_size > (_MOST + 1) * _LINE:
            return {}
        checksum, _, said = path.read_bytes().partition(b"\n")
        if checksum.decode("ascii") != _sum(said):
            return {}
        return dict.fromkeys(said.decode("ascii").split())
    except (OSError, ValueError):
        return {}
