"""What a server has of many hosts, read ahead: they share round trips and packets, and one thread asks."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from bento.adapters import protocol, sftp_files
from bento.adapters.protocol import Answer, Attributes, Fields, NotThere, Request, SaidNo
from bento.adapters.sftp_files import PIECE
from bento.adapters.transport import newest_first
from bento.adapters.wire import Wire

_OPEN = 768  # files at once: a server may have a thousand descriptors
_STEP = 64  # hosts whose answers are waited for together: what they are asked next goes in few packets
_NAMES = 5000  # in a folder; one with more is listed by itself
_ALL_NAMES = (
    400_000  # of all hosts: a thousand with as many reports as are kept have half of that; it is 250 MB at worst
)
_AT_ONCE = 2  # times a folder is asked what is in it: of a small one the second answer is its end

# A host's requests: it yields some, and goes on with their answers when all are there. Nobody waits for the last ones.
_Talk = Generator[list[Request], list[Answer], list[Request]]


@dataclass(frozen=True)
class Wanted:
    """What is asked for of the host at the folder `base`: its manifest, these stats, and what is in these folders."""

    base: str
    stats: Sequence[str]
    folders: Sequence[str]


@dataclass
class Ahead:
    """What was found of one host that was `asked`, by path; None for what isn't there.

    What was out of the ordinary (large, many, not allowed) is in none of them: it is to be asked for by itself.
    """

    asked: Wanted | None = None
    files: dict[str, bytes | None] = field(default_factory=dict)
    stats: dict[str, Attributes | None] = field(default_factory=dict)
    folders: dict[str, dict[str, Attributes] | None] = field(default_factory=dict)

    def has(self, folder: str) -> bool | None:
        """Whether there is such a folder; None where that isn't known."""
        if folder in self.folders:
            return self.folders[folder] is not None
        if folder in self.stats:
            its = self.stats[folder]
            return its is not None and its.is_folder
        inside = any(its is not None and path.startswith(f"{folder}/") for path, its in self.stats.items())
        return True if inside else None


@dataclass
class _Room:
    """For so many names more there is room."""

    left: int


class _Talking:
    """A host that is asked. `files` are as many as it may have open."""

    def __init__(self, host: Wanted, reports: int, room: _Room) -> None:
        self.base, self.found = host.base, Ahead(host)
        self.files = max(1 + len(host.folders), reports + 1 if reports else 0)
        self.answers: list[Answer] = []
        self._talk = _of_host(host, reports, room, self.found)

    def begin(self) -> list[Request]:
        """What to ask it first."""
        return next(self._talk)

    def go_on(self, pace: Callable[[], None]) -> tuple[list[Request], bool]:
        """Wait for its answers; what to ask it next, and whether that is the last, for which nobody waits."""
        for answer in self.answers:
            answer.exception()  # the talk looks at what it is
            pace()
        try:
            return self._talk.send(self.answers), False
        except StopIteration as end:
            last: list[Request] = end.value
            return last, True


def look(wire: Wire, hosts: Iterable[Wanted], reports: int) -> Iterator[tuple[str, Ahead]]:
    """What is wanted of each host, by its folder, and so many of its newest reports. Raises ServerAway."""
    waiting, pace, files, room = deque(hosts), wire.pace(), 0, _Room(_ALL_NAMES)
    under_way: deque[_Talking] = deque()
    while waiting or under_way:
        asked: list[tuple[_Talking, list[Request]]] = []
        last: list[Request] = []
        for _ in range(min(_STEP, len(under_way))):
            host = under_way.popleft()
            requests, over = host.go_on(pace)
            if over:
                last += requests
                files -= host.files
                yield host.base, host.found
            else:
                asked.append((host, requests))
        while waiting and (files < _OPEN or not (asked or under_way)):
            host = _Talking(waiting.popleft(), reports, room)
            files += host.files
            asked.append((host, host.begin()))
        requests = [request for _, its in asked for request in its]
        answers = iter(wire.ask_all([*last, *requests])[len(last) :])
        for host, its in asked:
            host.answers = [*islice(answers, len(its))]
            under_way.append(host)


def _of_host(host: Wanted, reports: int, room: _Room, found: Ahead) -> _Talk:
    manifest = f"{host.base}/release/manifest"
    opened, *others = yield [
        _opening(manifest),
        *((protocol.OPENDIR, protocol.text(path)) for path in host.folders),
        *((protocol.LSTAT, protocol.text(path)) for path in host.stats),
    ]
    if _is_gone(opened):
        found.files[manifest] = None
    file = _handle(opened)
    handles = {}
    for path, answer in zip(host.folders, others, strict=False):
        if _is_gone(answer):
            found.folders[path] = None
        elif (handle := _handle(answer)) is not None:
            handles[path] = handle
    for path, answer in zip(host.stats, others[len(host.folders) :], strict=True):
        if _is_gone(answer):
            found.stats[path] = None
        elif (fields := _fields(answer, protocol.ATTRS)) is not None:
            found.stats[path] = fields.attributes()
    answers = yield [*_reading(file), *_listing(handles.values())]
    if file is not None:
        _keep(found, manifest, answers[0])
        del answers[:2]
    closing = yield from _names(handles, answers, room, found)
    return (yield from _reports(f"{host.base}/reports", reports, closing, found)) if reports else closing


def _names(handles: dict[str, bytes], answers: list[Answer], room: _Room, found: Ahead) -> _Talk:
    """What is in open folders, the first `answers` of which are there; what is to be asked for to close them.

    The names in a folder of reports are the host's doing.
    """
    there: dict[str, dict[str, Attributes]] = {path: {} for path in handles}
    asked, closing = 0, list[Request]()
    while handles:
        asked += 1
        for path, handle in [*handles.items()]:
            some, answers = answers[:_AT_ONCE], answers[_AT_ONCE:]
            names, before = there[path], len(there[path])
            try:
                more = sftp_files.take_names(some, names)
            except SaidNo:
                pass
            else:
                room.left -= len(names) - before
                if more and room.left > 0 and max(len(names), asked) < _NAMES:  # each answer has a name at least
                    continue
                if not more and room.left > 0:
                    found.folders[path] = names
            closing.append((protocol.CLOSE, handle))
            del handles[path]
        if handles:
            answers = yield [*_listing(handles.values()), *closing]
            closing.clear()
    return closing


def _reports(folder: str, newest: int, closing: list[Request], found: Ahead) -> _Talk:
    """The newest reports, and with them the host's heartbeat."""
    there = found.folders.get(folder) or {}
    # Nothing but plain files is opened: a link of the host's would be followed as this user.
    wanted = [*islice(newest_first(there), newest), "heartbeat"]
    paths = [f"{folder}/{name}" for name in wanted if name in there and there[name].is_file]
    if not paths:
        return closing
    opened = yield [*map(_opening, paths), *closing]
    files = [(path, file) for path, answer in zip(paths, opened, strict=False) if (file := _handle(answer)) is not None]
    answers = yield [request for _, file in files for request in _reading(file)]
    for (path, _), answer in zip(files, answers[::2], strict=True):
        _keep(found, path, answer)
    return []


def _opening(path: str) -> Request:
    return protocol.OPEN, protocol.text(path) + protocol.u32(protocol.FLAG_READ) + protocol.mode_only(0)


def _reading(handle: bytes | None) -> list[Request]:
    if handle is None:
        return []
    return [(protocol.READ, handle + protocol.u64(0) + protocol.u32(PIECE)), (protocol.CLOSE, handle)]


def _listing(handles: Iterable[bytes]) -> list[Request]:
    return [(protocol.READDIR, handle) for handle in handles for _ in range(_AT_ONCE)]


def _keep(found: Ahead, path: str, answer: Answer) -> None:
    """A file's content, unless there may be more of it than one read gives."""
    try:
        data = protocol.expect(answer, protocol.DATA).text()
    except SaidNo as error:
        if error.code == protocol.EOF:
            found.files[path] = b""
        return
    if len(data) < PIECE:
        found.files[path] = data


def _fields(answer: Answer, kind: int) -> Fields | None:
    """An answer's body; None where the server said no."""
    try:
        return protocol.expect(answer, kind)
    except SaidNo:
        return None


def _handle(answer: Answer) -> bytes | None:
    fields = _fields(answer, protocol.HANDLE)
    return None if fields is None else protocol.text(fields.text())


def _is_gone(answer: Answer) -> bool:
    return isinstance(answer.exception(), NotThere)
