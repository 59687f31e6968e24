"""SFTP version 3 over one channel: many requests under way at once, every answer bounded in size and in time.

paramiko's own client can't be bounded so, nor pipelined (docs/decisions/0013). The protocol: protocol.py, and OpenSSH's
PROTOCOL for the extensions.
"""

import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from bento.adapters import protocol
from bento.adapters.lean import paramiko
from bento.adapters.protocol import Answer, Fields, Request, ServerAway, plain
from bento.models.limits import LIMITS

_TICK = 0.1  # seconds between two looks at the clock
_READ = 64 * 1024  # bytes taken from the channel at once: many small answers
_VERSION = 3
_SIZE = 4  # bytes before a packet that say how large it is


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
        self._greeted = Answer(self._lock)
        self.extensions: frozenset[bytes] = frozenset()

    def start(self) -> None:
        """Say hello; requests may follow. Raises ServerAway."""
        with self._lock:
            self._heard = time.monotonic()
        for thread in self._threads:
            thread.start()
        self._send(protocol.u32(5) + bytes([protocol.INIT]) + protocol.u32(_VERSION))

    def greet(self) -> None:
        """Hear what the server says to that: agree on the version, and learn its extensions. Raises ServerAway."""
        kind, fields = self._greeted.result()
        if kind != protocol.VERSION or fields.u32() != _VERSION:
            raise ServerAway("the server doesn't speak SFTP version 3")
        names = []
        while fields:
            names.append(fields.text())
            fields.text()
        self.extensions = frozenset(names)

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
        """Send a request. Its answer will be (kind, body), or SaidNo for a status that isn't OK."""
        return self.ask_all([(kind, b"".join(fields))])[0]

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Send requests, together: of small ones hundreds fit into one packet of SSH's."""
        answers = [Answer(self._lock) for _ in requests]
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
                if kind not in (protocol.READ, protocol.READDIR):  # how often these are asked is the server's will
                    self._moved += len(body)
        if packets:
            self._send(b"".join(packets))
        return answers

    def do(self, kind: int, *fields: bytes) -> None:
        """A request whose answer is a status. Raises SaidNo, ServerAway."""
        protocol.done(self.ask(kind, *fields))

    def extended(self, name: str, *fields: bytes) -> Answer:
        """A request of one of the server's extensions."""
        return self.ask(protocol.EXTENDED, protocol.text(name), *fields)

    def handle(self, kind: int, *fields: bytes) -> bytes:
        """Open a file or folder: its handle, ready to be sent."""
        return protocol.text(protocol.expect(self.ask(kind, *fields), protocol.HANDLE).text())

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
            owed = [*self._owed.values(), *(() if self._greeted.done() else (self._greeted,))]
            self._owed = {}
        self._over.set()
        self._transport.close()
        with self._lock:
            bells = [answer.settle(ServerAway(self._broken)) for answer in owed]
        _ring(bells)

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
            with self._lock:
                bell = self._greeted.settle((kind, fields)) if self._broken is None else None
            _ring([bell])
            while True:
                self._deliver()
        except ServerAway as error:
            self._fail(error.message)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._fail(plain(str(error)) or "the connection broke")

    def _deliver(self) -> None:
        """Wait for an answer, and hand out all that have come with it: who waits is woken once for many."""
        come = [self._packet()]
        while self._whole():
            come.append(self._packet())
        bells = []
        try:
            with self._lock:
                self._heard = time.monotonic()
                for kind, fields in come:
                    number = fields.u32()
                    answer = self._owed.get(number)
                    if answer is None:
                        raise ServerAway("the server sends what wasn't asked for")
                    self._moved += max(0, fields.left - 4)  # a file's data, for example, without the number before it
                    bad = kind == protocol.STATUS and (code := fields.u32()) != protocol.OK
                    bells.append(answer.settle(protocol.said_no(code, fields) if bad else (kind, fields)))
                    del self._owed[number]  # not before: what is cut short breaks all that is owed, this one too
        finally:
            _ring(bells)

    def _whole(self) -> bool:
        """Whether another packet is there without waiting."""
        return len(self._come) > _SIZE and len(self._come) >= _SIZE + int.from_bytes(self._come[:_SIZE], "big")

    def _packet(self) -> tuple[int, Fields]:
        size = int.from_bytes(self._exactly(_SIZE), "big")
        if not 0 < size <= LIMITS.packet:
            raise ServerAway("the server doesn't speak SFTP: an answer is too large")
        packet = self._exactly(size)
        return packet[0], Fields(packet, 1)

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


def _ring(bells: Iterable[threading.Event | None]) -> None:
    for bell in bells:
        if bell is not None:
            bell.set()
