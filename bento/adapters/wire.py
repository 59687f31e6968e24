"""SFTP version 3 over one channel: many requests under way at once, every answer bounded in size and in time.

paramiko's own client can't be bounded so, nor pipelined (docs/decisions/0013). The protocol:
draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL for the extensions.
"""

import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from bento.adapters.lean import paramiko
from bento.errors import EnvironmentFailed, WorkFailed
from bento.models.limits import LIMITS
from bento.names import visible

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT = 1, 2, 3, 4, 5, 6, 7, 8
SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, EXTENDED = 9, 10, 11, 12, 13, 14, 200
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
FLAG_READ, FLAG_WRITE, FLAG_CREATE, FLAG_TRUNCATE, FLAG_EXCLUSIVE = 0x01, 0x02, 0x08, 0x10, 0x20
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, UNSUPPORTED = 0, 1, 2, 3, 8
_WHY = {PERMISSION_DENIED: "the server doesn't allow it", UNSUPPORTED: "the server can't do that"}

_TICK = 0.1  # seconds between two looks at the clock
_READ = 64 * 1024  # bytes taken from the channel at once: many small answers
_VERSION = 3


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


class Fields:
    """An answer's body, taken apart from its front. Raises ServerAway where it is cut short."""

    def __init__(self, body: bytes) -> None:
        self._rest = memoryview(body)

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > len(self._rest):
            raise ServerAway("the server doesn't speak SFTP: an answer is cut short")
        taken, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return taken

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
        return len(self._rest)

    def __bool__(self) -> bool:
        return bool(self._rest)


Answer = Future[tuple[int, Fields]]
Request = tuple[int, bytes]  # its kind, and what follows its number


class Wire:
    """One SFTP session. Any thread may ask; whoever asked waits for its own answer.

    `silence`: seconds without a whole answer while one is owed, after which the connection counts as broken. `aside`
    gives what is to be added to the reason why it broke.
    """

    def __init__(
        self,
        transport: paramiko.Transport,
        channel: paramiko.Channel,
        silence: float,
        aside: Callable[[], str] = lambda: "",
    ) -> None:
        self._transport, self._channel, self._silence, self._aside = transport, channel, silence, aside
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._owed: dict[int, Answer] = {}
        self._number = 0
        self._heard = time.monotonic()
        self._moved = 0  # bytes that bring the work on, both ways; see `pace`
        self._deadline: float | None = None
        self._broken: str | None = None
        self._come = bytearray()  # what was read of the channel and not yet taken
        self._over = threading.Event()
        channel.settimeout(None)  # the watch below ends what takes too long, reading or writing
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._watch)]
        self._greeted: Future[frozenset[bytes]] = Future()
        self.extensions: frozenset[bytes] = frozenset()

    def start(self) -> None:
        """Agree on the version, and learn the server's extensions. Raises ServerAway."""
        with self._lock:
            self._heard = time.monotonic()
        for thread in self._threads:
            thread.start()
        self._send(u32(5) + bytes([INIT]) + u32(_VERSION))
        self.extensions = self._greeted.result()

    def close(self) -> None:
        """End the session; what is still owed fails."""
        self._break("the session is over")
        for thread in self._threads:
            thread.join(1)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Give all that is asked in the block so many seconds; then the connection is cut."""
        before = self._deadline
        new = time.monotonic() + seconds
        self._deadline = new if before is None else min(new, before)
        try:
            yield
        finally:
            self._deadline = before

    def pace(self) -> Callable[[], None]:
        """What to call after each answer of work that the server can draw out, answering in time and saying little.

        It cuts the connection and raises ServerAway where more time went than the silence that is borne and what came
        and went on this connection since, by whomever, at LIMITS.slowest.
        """
        began, before = time.monotonic(), self._moved

        def check() -> None:
            if time.monotonic() > began + self._silence + (self._moved - before) / LIMITS.slowest:
                self._fail("the server takes too long")
                raise ServerAway(self._broken or "the server takes too long")

        return check

    def ask(self, kind: int, *fields: bytes) -> Answer:
        """Send a request. Its answer comes to the future: (kind, body), or SaidNo for a status that isn't OK."""
        return self.ask_all([(kind, b"".join(fields))])[0]

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Send requests, together: of small ones hundreds fit into one packet of SSH's."""
        answers: list[Answer] = [Future() for _ in requests]
        packets: list[bytes] = []
        with self._lock:
            if self._broken is not None:
                raise ServerAway(self._broken)
            if not self._owed:
                self._heard = time.monotonic()
            for answer, (kind, body) in zip(answers, requests, strict=True):
                self._number = (self._number + 1) & 0xFFFFFFFF
                self._owed[self._number] = answer
                packets.append(struct.pack(">IBI", len(body) + 5, kind, self._number) + body)
                if kind not in (READ, READDIR):  # how often these are asked is the server's will
                    self._moved += len(body)
        if packets:
            self._send(b"".join(packets))
        return answers

    def do(self, kind: int, *fields: bytes) -> None:
        """A request whose answer is a status. Raises SaidNo, ServerAway."""
        done(self.ask(kind, *fields))

    def extended(self, name: str, *fields: bytes) -> Answer:
        """A request of one of the server's extensions."""
        return self.ask(EXTENDED, text(name), *fields)

    def handle(self, kind: int, *fields: bytes) -> bytes:
        """Open a file or folder: its handle, ready to be sent."""
        return text(expect(self.ask(kind, *fields), HANDLE).text())

    def _send(self, packets: bytes) -> None:
        try:
            with self._sending:
                self._channel.sendall(packets)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._fail(plain(str(error)) or "the connection broke")
            raise ServerAway(self._broken or "the connection broke") from None

    def _fail(self, why: str) -> None:
        """Break, and say all that is known of why."""
        self._break(why if self._broken is not None else why + self._aside())

    def _break(self, why: str) -> None:
        """Nothing more comes: the first reason is what everybody gets who waits or asks."""
        with self._lock:
            self._broken = self._broken or why
            owed: list[Future[Any]] = [*self._owed.values()]
            self._owed = {}
            if not self._greeted.done():
                owed.append(self._greeted)
        self._over.set()
        self._transport.close()
        for answer in owed:
            answer.set_exception(ServerAway(self._broken))

    def _watch(self) -> None:
        """A thread of its own: the one that listens, or one that sends, may hang at the server's will."""
        while not self._over.wait(_TICK):
            now, deadline = time.monotonic(), self._deadline
            waiting = bool(self._owed) or not self._greeted.done()
            if deadline is not None and now > deadline:
                self._fail("the server takes too long")
            elif waiting and now > self._heard + self._silence:
                self._fail("the server doesn't answer")
            elif max(len(self._channel.in_buffer), len(self._channel.in_stderr_buffer)) > LIMITS.buffer:
                self._fail("the server sends what wasn't asked for")

    def _listen(self) -> None:
        try:
            kind, fields = self._packet()
            if kind != VERSION or fields.u32() != _VERSION:
                raise ServerAway("the server doesn't speak SFTP version 3")
            names = []
            while fields:
                names.append(fields.text())
                fields.text()
            with self._lock:
                if self._broken is None:
                    self._greeted.set_result(frozenset(names))
            while True:
                kind, fields = self._packet()
                self._deliver(fields.u32(), kind, fields)
        except ServerAway as error:
            self._fail(error.message)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._fail(plain(str(error)) or "the connection broke")

    def _deliver(self, number: int, kind: int, fields: Fields) -> None:
        with self._lock:
            answer = self._owed.pop(number, None)
            self._heard = time.monotonic()
            self._moved += max(0, fields.left - 4)  # a file's data, for example, without the number before it
        if answer is None:
            raise ServerAway("the server sends what wasn't asked for")
        if kind == STATUS and (code := fields.u32()) != OK:
            answer.set_exception(_said_no(code, fields))
        else:
            answer.set_result((kind, fields))

    def _packet(self) -> tuple[int, Fields]:
        size = int.from_bytes(self._exactly(4), "big")
        if not 0 < size <= LIMITS.packet:
            raise ServerAway("the server doesn't speak SFTP: an answer is too large")
        packet = self._exactly(size)
        return packet[0], Fields(packet[1:])

    def _exactly(self, size: int) -> bytes:
        """The next bytes. What came after them waits, never more than one read."""
        while len(self._come) < size:
            more = self._channel.recv(_READ)
            if not more:
                raise ServerAway("the server closed the connection")
            self._come += more
        taken = bytes(self._come[:size])
        del self._come[:size]
        return taken


def _said_no(code: int, fields: Fields) -> SaidNo:
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
