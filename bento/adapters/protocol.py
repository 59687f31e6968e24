"""SFTP version 3 as it is sent: its numbers, how values are written, and how a server's answers are taken apart.

draft-ietf-secsh-filexfer-02. What a server says is untrusted: nothing is believed to be as long as it says it is.
"""

import stat
import struct
import threading
from dataclasses import dataclass
from typing import NoReturn

from bento.errors import EnvironmentFailed, WorkFailed
from bento.models.limits import LIMITS
from bento.names import visible

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT = 1, 2, 3, 4, 5, 6, 7, 8
SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, EXTENDED = 9, 10, 11, 12, 13, 14, 200
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
FLAG_READ, FLAG_WRITE, FLAG_CREATE, FLAG_TRUNCATE, FLAG_EXCLUSIVE = 0x01, 0x02, 0x08, 0x10, 0x20
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, UNSUPPORTED = 0, 1, 2, 3, 8
_WHY = {PERMISSION_DENIED: "the server doesn't allow it", UNSUPPORTED: "the server can't do that"}


class ServerAway(EnvironmentFailed):
    """The server can't be reached, or the connection broke, or took too long: try again later."""


class TurnedAway(ServerAway):
    """The server is there, and hung up before a word: too many came at once. Try again in a moment."""


class SaidNo(WorkFailed):
    """The server answered a request with an error. `code` is SFTP's."""

    def __init__(self, message: str, *hints: str, code: int = 4) -> None:
        super().__init__(message, *hints)
        self.code = code


class NotThere(SaidNo):
    """The server has no such file."""


def plain(text: str) -> str:
    """What a server said, without what could reach a terminal raw."""
    return visible(text[: LIMITS.words])


def text(value: str | bytes) -> bytes:
    """A string as SFTP sends it."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(raw)) + raw


def u32(value: int) -> bytes:
    """A number as SFTP sends it."""
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    """An offset as SFTP sends it."""
    return struct.pack(">Q", value)


def mode_only(mode: int) -> bytes:
    """Attributes that set a file's mode and nothing else."""
    return u32(4) + u32(mode)


@dataclass(frozen=True)
class Attributes:
    """What a server says of a file. `mtime` in UTC seconds; None is what it doesn't say."""

    size: int | None
    mode: int | None
    mtime: int | None

    @property
    def is_file(self) -> bool:
        """A plain file; also where the server doesn't say, for then opening it tells."""
        return self.mode is None or stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        """A folder; also where the server doesn't say."""
        return self.mode is None or stat.S_ISDIR(self.mode)


class Fields:
    """An answer's body, taken apart from its front. Raises ServerAway where it is cut short."""

    __slots__ = ("_at", "_body")

    def __init__(self, body: bytes, at: int = 0) -> None:
        self._body, self._at = body, at

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        at, end = self._at, self._at + size
        if end > len(self._body):
            raise ServerAway("the server doesn't speak SFTP: an answer is cut short")
        self._at = end
        return self._body[at:end]

    def u32(self) -> int:
        """The next number."""
        return int.from_bytes(self.take(4), "big")

    def text(self) -> bytes:
        """The next string."""
        return self.take(self.u32())

    def attributes(self) -> Attributes:
        """The next file attributes."""
        flags = self.u32()
        size = int.from_bytes(self.take(8), "big") if flags & 1 else None
        if flags & 2:
            self.take(8)
        mode = self.u32() if flags & 4 else None
        mtime = struct.unpack(">II", self.take(8))[1] if flags & 8 else None
        for _ in range(self.u32() if flags & 0x80000000 else 0):
            self.text()
            self.text()
        return Attributes(size, mode, mtime)

    @property
    def left(self) -> int:
        """How many bytes there are still."""
        return len(self._body) - self._at

    def __bool__(self) -> bool:
        return self.left > 0


class Answer:
    """What a server answers to a request, or will. Of thousands hardly any is waited for: only those get an event."""

    __slots__ = ("_bell", "_error", "_guard", "_said")

    def __init__(self, guard: threading.Lock) -> None:
        self._guard = guard  # of all answers of a wire
        self._said: tuple[int, Fields] | None = None
        self._error: SaidNo | ServerAway | None = None
        self._bell: threading.Event | None = None

    def done(self) -> bool:
        """Whether it is there."""
        return self._said is not None or self._error is not None

    def exception(self) -> SaidNo | ServerAway | None:
        """Wait for it. SaidNo for a status that isn't OK, ServerAway where none comes."""
        if not self.done():
            self._wait()
        return self._error

    def result(self) -> tuple[int, Fields]:
        """Wait for it: its kind and its body. Raises SaidNo, ServerAway."""
        if (error := self.exception()) is not None:
            raise error
        assert self._said is not None  # noqa: S101 — it is one or the other
        return self._said

    def _wait(self) -> None:
        with self._guard:
            if self.done():
                return
            if self._bell is None:
                self._bell = threading.Event()
        self._bell.wait()

    def settle(self, come: tuple[int, Fields] | SaidNo | ServerAway) -> threading.Event | None:
        """It has come. To be called with the guard held; what to set afterwards, where somebody waits."""
        if isinstance(come, tuple):
            self._said = come
        else:
            self._error = come
        return self._bell


Request = tuple[int, bytes]  # its kind, and what follows its number


def said_no(code: int, fields: Fields) -> SaidNo:
    """What a status that isn't OK says. Raises ServerAway where it is cut short."""
    if code == NO_SUCH_FILE:
        return NotThere("not there", code=code)
    said = plain(fields.text().decode("utf-8", "replace")) if fields else ""
    return SaidNo(_WHY.get(code) or f"the server says: {said or code}", code=code)


def expect(answer: Answer, kind: int) -> Fields:
    """An answer's body, if it is of that kind. Raises SaidNo, ServerAway."""
    got, fields = answer.result()
    if got != kind:
        raise ServerAway("the server doesn't speak SFTP: an answer is of another kind")
    return fields


def done(answer: Answer) -> None:
    """Wait for a status. Raises SaidNo, ServerAway."""
    expect(answer, STATUS)


def rethrow(error: SaidNo | ServerAway, doing: str) -> NoReturn:
    """The same error, saying what was being done."""
    if isinstance(error, SaidNo):
        raise type(error)(f"{doing}: {error.message}", *error.hints, code=error.code) from None
    raise ServerAway(f"{doing}: {error.message}", *error.hints) from None
