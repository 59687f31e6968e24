"""Reading, writing and listing over a wire, with as many requests under way as is good, and no more."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from bento.adapters import protocol
from bento.adapters.protocol import Answer, Attributes, SaidNo, ServerAway
from bento.adapters.wire import Wire
from bento.models.limits import LIMITS

PIECE = 32 * 1024  # bytes that one read or write moves: what every server takes


def read_pieces(wire: Wire, handle: bytes, size: int) -> Iterator[bytes]:
    """An open file's first `size` bytes, in order; ends early where the file does. Raises SaidNo, ServerAway.

    Answers that came out of order wait here, never more than LIMITS.reads of them.
    """
    asked = at = 0
    under_way: deque[tuple[int, Answer]] = deque()
    while under_way or asked < size:
        while asked < size and len(under_way) < LIMITS.reads:
            length = min(PIECE, size - asked)
            under_way.append((length, wire.ask(protocol.READ, handle, protocol.u64(asked), protocol.u32(length))))
            asked += length
        length, answer = under_way.popleft()
        while length:
            try:
                data = protocol.expect(answer, protocol.DATA).text()
            except SaidNo as error:
                if error.code != protocol.EOF:
                    raise
                return
            if not 0 < len(data) <= length:
                raise ServerAway("the server doesn't speak SFTP: a read gave another number of bytes")
            yield data
            at, length = at + len(data), length - len(data)
            if length:  # less than was asked for: the rest by itself
                answer = wire.ask(protocol.READ, handle, protocol.u64(at), protocol.u32(length))


class TooLarge(SaidNo):
    """A file is larger than it may be."""


def read_small(wire: Wire, paths: Sequence[str], limit: int) -> list[bytes]:
    """Files, in two round trips if they are small. Raises SaidNo for one that can't be read, TooLarge, ServerAway."""
    found: list[bytes] = []
    for one in _read_each(wire, paths, limit):
        if isinstance(one, SaidNo):
            raise one
        found.append(one)
    return found


def read_plain(wire: Wire, paths: Sequence[str], limit: int) -> list[bytes | None]:
    """As `read_quietly`, of those that are plain files: a link of a host's would be followed as this user."""
    pace = wire.pace()
    plain: list[str] = []
    for path, answer in zip(paths, wire.ask_all([(protocol.LSTAT, protocol.text(one)) for one in paths]), strict=True):
        with suppress(SaidNo):
            if protocol.expect(answer, protocol.ATTRS).attributes().is_file:
                plain.append(path)
        pace()
    found = dict(zip(plain, read_quietly(wire, plain, limit), strict=True))
    return [found.get(path) for path in paths]


def read_quietly(wire: Wire, paths: Sequence[str], limit: int) -> list[bytes | None]:
    """As `read_small`, None for what can't be read. Raises ServerAway."""
    found = _read_each(wire, paths, limit)
    for number, one in enumerate(found):
        # Together they may be more than the server opens at once.
        if isinstance(one, SaidNo) and not isinstance(one, TooLarge) and len(paths) > 1:
            found[number] = _read_each(wire, [paths[number]], limit)[0]
    return [None if isinstance(one, SaidNo) else one for one in found]


def _read_each(wire: Wire, paths: Sequence[str], limit: int) -> list[bytes | SaidNo]:
    """Of each file what it holds, or why it can't be read."""
    pace = wire.pace()
    read = protocol.u32(protocol.FLAG_READ) + protocol.mode_only(0)
    asked: list[tuple[bytes, Answer, Answer] | SaidNo] = []
    for answer in wire.ask_all([(protocol.OPEN, protocol.text(path) + read) for path in paths]):
        try:
            handle = protocol.text(protocol.expect(answer, protocol.HANDLE).text())
        except SaidNo as error:
            asked.append(error)
            continue
        finally:
            pace()
        first = wire.ask(protocol.READ, handle, protocol.u64(0), protocol.u32(PIECE))
        asked.append((handle, wire.ask(protocol.FSTAT, handle), first))
    found: list[bytes | SaidNo] = []
    try:
        for one in asked:
            try:
                found.append(one if isinstance(one, SaidNo) else _content(wire, *one, limit, pace))
            except SaidNo as error:
                found.append(error)
    finally:
        for one in asked:
            if not isinstance(one, SaidNo):
                wire.ask(protocol.CLOSE, one[0])
    return found


def _content(wire: Wire, handle: bytes, stat: Answer, first: Answer, limit: int, pace: Callable[[], None]) -> bytes:
    size = protocol.expect(stat, protocol.ATTRS).attributes().size
    if size is None or size > limit:
        raise TooLarge("too large")
    if size == 0:
        return b""
    data = protocol.expect(first, protocol.DATA).text()
    pace()
    if len(data) >= size:
        return data[:size]
    pieces: list[bytes] = []
    for piece in read_pieces(wire, handle, size):
        pieces.append(piece)
        pace()
    return b"".join(pieces)


def begin_write(
    wire: Wire, handle: bytes, data: bytes, at_once: int, last: Callable[[], list[Answer]]
) -> Callable[[], None]:
    """Write an open file, up to `at_once` pieces under way, then do `last` and close. Call the result to see it done.

    Raises ServerAway; the result SaidNo too. Every answer is looked at: "disk full" comes with one of them.
    """
    failed: SaidNo | None = None
    under_way: deque[Answer] = deque()

    def settle(left: int) -> None:
        nonlocal failed
        while len(under_way) > left:
            try:
                protocol.done(under_way.popleft())
            except SaidNo as error:
                failed = failed or error

    for offset in range(0, len(data), PIECE):
        settle(at_once - 1)
        if failed is not None:
            break
        under_way.append(
            wire.ask(protocol.WRITE, handle, protocol.u64(offset), protocol.text(data[offset : offset + PIECE]))
        )
    under_way.extend([*(() if failed else last()), wire.ask(protocol.CLOSE, handle)])

    def finish() -> None:
        settle(0)
        if failed is not None:
            raise failed

    return finish


def list_folder(wire: Wire, path: str, most: int) -> dict[str, Attributes]:
    """What is in a folder, not followed through links; not more than about `most` names. Raises SaidNo, ServerAway."""
    handle = wire.handle(protocol.OPENDIR, protocol.text(path))
    found: dict[str, Attributes] = {}
    pace = wire.pace()
    for _ in range(most):  # each answer has a name at least; of a small folder the second is its end
        more = take_names(wire.ask_all([(protocol.READDIR, handle)] * 2), found)
        pace()
        if not more or len(found) >= most:
            break
    wire.ask(protocol.CLOSE, handle)
    return found


def take_names(answers: Sequence[Answer], found: dict[str, Attributes]) -> bool:
    """Add what such requests gave to `found`; whether there may be more. Raises SaidNo, ServerAway."""
    more = True
    for answer in answers:
        try:
            fields = protocol.expect(answer, protocol.NAME)
        except SaidNo as error:
            if error.code != protocol.EOF:
                raise
            more = False
            continue
        for _ in range(fields.u32()):
            raw = fields.text()
            if len(raw) > LIMITS.segment:  # a hundred thousand of them would fill this machine's memory
                raise ServerAway("the server doesn't speak SFTP: a file's name is too long")
            name = raw.decode("utf-8", "surrogateescape")
            fields.text()
            attributes = fields.attributes()
            if name not in (".", ".."):
                found[name] = attributes
    return more
