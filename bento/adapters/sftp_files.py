"""Reading, writing and listing over a wire, with as many requests under way as is good, and no more."""

from collections import deque
from collections.abc import Callable, Iterator

from bento.adapters.wire import (
    CLOSE,
    DATA,
    EOF,
    NAME,
    OPENDIR,
    READ,
    READDIR,
    WRITE,
    Answer,
    Attributes,
    SaidNo,
    ServerAway,
    Wire,
    done,
    expect,
    text,
    u32,
    u64,
)
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
            under_way.append((length, wire.ask(READ, handle, u64(asked), u32(length))))
            asked += length
        length, answer = under_way.popleft()
        while length:
            try:
                data = expect(answer, DATA).text()
            except SaidNo as error:
                if error.code != EOF:
                    raise
                return
            if not 0 < len(data) <= length:
                raise ServerAway("the server doesn't speak SFTP: a read gave another number of bytes")
            yield data
            at, length = at + len(data), length - len(data)
            if length:  # less than was asked for: the rest by itself
                answer = wire.ask(READ, handle, u64(at), u32(length))


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
                done(under_way.popleft())
            except SaidNo as error:
                failed = failed or error

    for offset in range(0, len(data), PIECE):
        settle(at_once - 1)
        if failed is not None:
            break
        under_way.append(wire.ask(WRITE, handle, u64(offset), text(data[offset : offset + PIECE])))
    under_way.extend([*(() if failed else last()), wire.ask(CLOSE, handle)])

    def finish() -> None:
        settle(0)
        if failed is not None:
            raise failed

    return finish


def list_folder(wire: Wire, path: str, most: int) -> dict[str, Attributes]:
    """What is in a folder, not followed through links; not more than about `most` names. Raises SaidNo, ServerAway."""
    handle = wire.handle(OPENDIR, text(path))
    found: dict[str, Attributes] = {}
    more = True
    while more and len(found) < most:
        for answer in [wire.ask(READDIR, handle) for _ in range(2)]:  # of a small folder the second is its end
            try:
                fields = expect(answer, NAME)
            except SaidNo as error:
                if error.code != EOF:
                    raise
                more = False
                continue
            for _ in range(fields.u32()):
                name = fields.text().decode("utf-8", "surrogateescape")
                fields.text()
                found[name] = fields.attributes()
    wire.ask(CLOSE, handle)
    return {name: attributes for name, attributes in found.items() if name not in (".", "..")}
