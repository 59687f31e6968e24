"""A publish target that is reached by SFTP, as a user who needs no root there (design: Release; docs/decisions/0013).

Requests of many hosts are under way on one connection at once, so that a deploy costs bandwidth and not round trips.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from bento.adapters import sftp_files, sftp_lock
from bento.adapters import wire as sftp
from bento.adapters.files import Busy
from bento.adapters.transport import is_left_over, newest_first
from bento.adapters.wire import Answer, NotThere, SaidNo, ServerAway, Wire
from bento.errors import BentoError, EnvironmentFailed, InputError
from bento.models.limits import LIMITS
from bento.models.targets import SftpPlace
from bento.names import Digest, HostName

_FILES = 32  # files of one host open at once: the server may have few descriptors
_WRITES = 64  # pieces of one file under way
_BATCH = 20  # reports read at once: as many as `status` looks at

LogIn = Callable[[], AbstractContextManager[Wire]]


@dataclass(frozen=True)
class Locking:
    """How to take the lock: as whom, by which clock (UTC seconds), and whether over another's."""

    owner: Callable[[], sftp_lock.Owner]  # asked only when the lock is wanted
    clock: Callable[[], int]
    break_lock: bool = False


class SftpTarget:
    """A PublishTarget (transport.py). `log_in` gives a session with the server; `locking` is for writing."""

    looks_at_once = writes_at_once = 64

    def __init__(self, place: SftpPlace, log_in: LogIn, locking: Locking) -> None:
        self._place = place
        self._log_in = log_in
        self._locking = locking
        self._session: Wire | None = None
        self._stack = ExitStack()
        self._without_reports: set[HostName] = set()

    @property
    def name(self) -> str:
        """The URL."""
        return str(self._place)

    @property
    def _wire(self) -> Wire:
        if self._session is None:
            raise AssertionError("a target is used inside opened() or locked()")
        return self._session

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Log in. Raises ServerAway, Refused for another host key, WorkFailed where it isn't let in, InputError."""
        with ExitStack() as self._stack:
            self._session = self._stack.enter_context(self._log_in())
            try:
                yield
            finally:
                self._session = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Log in and take the lock. Raises Busy, and WorkFailed where the clocks differ, besides."""
        how, root = self._locking, self._place.path
        owner = how.owner()
        with self.opened():
            with self._doing("taking the lock"):
                sftp_lock.take(
                    self._wire, root, owner, how.clock, self.name, self._place.user, break_lock=how.break_lock
                )
            try:
                yield
            finally:
                # Gone with the connection? Then it stays, and the next deploy from here knows it for its own.
                with suppress(BentoError):
                    sftp_lock.release(self._wire, root, owner)

    def refresh(self) -> None:
        """After a long pause: see that the connection stands, or make another, and that the lock is still ours."""
        owner, root = self._locking.owner(), self._place.path
        with self._doing("looking at the lock"):
            try:
                held = sftp_lock.is_held(self._wire, root, owner)
            except ServerAway:
                self._session = self._stack.enter_context(self._log_in())
                held = sftp_lock.is_held(self._wire, root, owner)
        if not held:
            raise Busy(
                f"somebody broke this deploy's lock on {self.name}", "see who publishes there, then deploy again"
            )

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (SaidNo, ServerAway) as error:
            sftp.rethrow(error, f"{self.name}: {what}")

    def _host(self, host: HostName) -> str:
        return f"{self._place.path.rstrip('/')}/{host}"

    def _object(self, host: HostName, digest: Digest) -> str:
        return f"{self._host(host)}/release/objects/{digest}"

    def ensure_host(self, host: HostName) -> None:
        """Make the host's folders where this user may; a `reports` that is the host's too only root can make."""
        base = self._host(host)
        folders = [base, f"{base}/release", f"{base}/release/objects", f"{base}/reports"]
        with self._doing(f"looking at the folders of {host}"):
            there = [_succeeds(answer) for answer in [self._wire.ask(sftp.LSTAT, sftp.text(path)) for path in folders]]
        if not there[-1]:
            self._without_reports.add(host)
        try:
            for path, present in zip(folders[:-1], there[:-1], strict=True):
                if not present:
                    self._wire.do(sftp.MKDIR, sftp.text(path), sftp.mode_only(0o755))
                    self._wire.do(sftp.SETSTAT, sftp.text(path), sftp.mode_only(0o755))  # whatever the umask there
        except SaidNo as error:
            raise EnvironmentFailed(
                f"{self.name}: can't make the folders of {host}: {error.message}", *self._hints(host)
            ) from None

    def _hints(self, host: HostName) -> tuple[str, ...]:
        base, user = self._host(host), self._place.user
        return (
            (
                f"on the server, as root: install -d -m 755 {base} && install -d -m 755 -o {user} {base}/release"
                f" && install -d -m 2770 -o {user} -g {host} {base}/reports"
            ),
        )

    def complaints(self, hosts: Iterable[HostName]) -> tuple[str, ...]:
        """Hosts without a folder for their reports."""
        lacking = [host for host in hosts if host in self._without_reports]
        if not lacking:
            return ()
        return (f"{self.name} has no reports folder for {', '.join(lacking)}; {self._hints(lacking[0])[0]}",)

    def read_manifest(self, host: HostName) -> bytes | None:
        """The published manifest's bytes; None before the first release. Raises InputError for what can't be one."""
        what = f"the published manifest of {host}"
        return self._read(f"{self._host(host)}/release/manifest", LIMITS.manifest, what)

    def read_object(self, host: HostName, digest: Digest, limit: int) -> bytes | None:
        """An object's bytes, unchecked; None where it is missing."""
        return self._read(self._object(host, digest), limit, f"an object of {host}")

    def _read(self, path: str, limit: int, what: str) -> bytes | None:
        with self._doing(f"reading {what}"):
            try:
                return self._read_all([path], limit)[0]
            except NotThere:
                return None
            except _TooLarge:
                raise InputError(f"{what} is larger than {limit} bytes") from None

    def _read_all(self, paths: Sequence[str], limit: int) -> list[bytes]:
        """Files, in two round trips if they are small. Raises SaidNo for one that can't be read, _TooLarge."""
        read = sftp.u32(sftp.FLAG_READ) + sftp.mode_only(0)
        opened = [self._wire.ask(sftp.OPEN, sftp.text(path), read) for path in paths]
        asked: list[tuple[bytes, Answer, Answer]] = []
        failed: SaidNo | None = None
        for answer in opened:
            try:
                handle = sftp.text(sftp.expect(answer, sftp.HANDLE).text())
            except SaidNo as error:
                failed = failed or error
                continue
            first = self._wire.ask(sftp.READ, handle, sftp.u64(0), sftp.u32(sftp_files.PIECE))
            asked.append((handle, self._wire.ask(sftp.FSTAT, handle), first))
        found: list[bytes] = []
        try:
            if failed is not None:
                raise failed
            for handle, stat, first in asked:
                found.append(self._content(handle, stat, first, limit))
        finally:
            for handle, _, _ in asked:
                self._wire.ask(sftp.CLOSE, handle)
        return found

    def _content(self, handle: bytes, stat: Answer, first: Answer, limit: int) -> bytes:
        size = sftp.expect(stat, sftp.ATTRS).attributes().size
        if size is None or size > limit:
            raise _TooLarge("too large")
        if size == 0:
            return b""
        data = sftp.expect(first, sftp.DATA).text()
        if len(data) >= size:
            return data[:size]
        return b"".join(sftp_files.read_pieces(self._wire, handle, size))

    def present(self, host: HostName, wanted: Mapping[Digest, int]) -> frozenset[Digest]:
        """Those of the objects that are there with their size; their content would have to be fetched to be told."""
        found: set[Digest] = set()
        with self._doing(f"looking at the objects of {host}"):
            asked = {digest: self._wire.ask(sftp.LSTAT, sftp.text(self._object(host, digest))) for digest in wanted}
            for digest, answer in asked.items():
                with suppress(SaidNo):
                    attributes = sftp.expect(answer, sftp.ATTRS).attributes()
                    if attributes.is_file and attributes.size == wanted[digest]:
                        found.add(digest)
        return frozenset(found)

    def put_objects(self, host: HostName, objects: Sequence[tuple[Digest, bytes]]) -> None:
        """Make objects from their bytes, durably, each whole or not at all; a damaged one is replaced."""
        with self._doing(f"writing objects of {host}"):
            for start in range(0, len(objects), _FILES):
                self._put([(self._object(host, digest), data) for digest, data in objects[start : start + _FILES]])

    def put_manifest(self, host: HostName, raw: bytes) -> None:
        """Publish: from here on readers see the new release."""
        with self._doing(f"publishing the manifest of {host}"):
            self._put([(f"{self._host(host)}/release/manifest", raw)])

    def _put(self, files: Sequence[tuple[str, bytes]]) -> None:
        """In three round trips: open temporary files; write, sync and close them; then, if all went well, rename."""
        names = [(_temporary(path), path) for path, _ in files]
        try:
            handles = self._create([name for name, _ in names])
            writes = [
                sftp_files.begin_write(self._wire, handle, data, _WRITES, partial(self._settled, handle))
                for handle, (_, data) in zip(handles, files, strict=True)
            ]
            for finish in writes:
                finish()
            for renamed in [self._rename(name, path) for name, path in names]:
                sftp.done(renamed)
        except SaidNo:
            self._remove([name for name, _ in names])
            raise

    def _create(self, paths: Sequence[str]) -> list[bytes]:
        """New files, 0644; their handles. Raises SaidNo, and then none is open."""
        flags = sftp.FLAG_WRITE | sftp.FLAG_CREATE | sftp.FLAG_EXCLUSIVE
        how = sftp.u32(flags) + sftp.mode_only(0o644)
        handles: list[bytes] = []
        failed: SaidNo | None = None
        for answer in [self._wire.ask(sftp.OPEN, sftp.text(path), how) for path in paths]:
            try:
                handles.append(sftp.text(sftp.expect(answer, sftp.HANDLE).text()))
            except SaidNo as error:
                failed = failed or error
        if failed is not None:
            for handle in handles:
                self._wire.ask(sftp.CLOSE, handle)
            raise failed
        return handles

    def _settled(self, handle: bytes) -> list[Answer]:
        """The mode whatever the umask there, and the content on the disk where the server can do that."""
        asked = [self._wire.ask(sftp.FSETSTAT, handle, sftp.mode_only(0o644))]
        if b"fsync@openssh.com" in self._wire.extensions:
            asked.append(self._wire.extended("fsync@openssh.com", handle))
        return asked

    def _rename(self, old: str, new: str) -> Answer:
        return self._wire.extended("posix-rename@openssh.com", sftp.text(old), sftp.text(new))

    def share_object(self, host: HostName, digest: Digest, other: HostName) -> bool:
        """Make an object by a hard link to another host's; False where that can't be."""
        source, target = self._object(other, digest), self._object(host, digest)
        temporary = _temporary(target)
        with self._doing(f"linking an object of {host}"):
            # If the first fails so does the second. The name stays where both are the same file already: the third.
            linked = self._wire.extended("hardlink@openssh.com", sftp.text(source), sftp.text(temporary))
            renamed = self._rename(temporary, target)
            removed = self._wire.ask(sftp.REMOVE, sftp.text(temporary))
            done = [_succeeds(answer) for answer in (linked, renamed, removed)]
        return done[0] and done[1]

    def drop_objects_except(self, host: HostName, keep: frozenset[Digest]) -> None:
        """Garbage collection: objects not in `keep`, and what a publisher that died left behind."""
        release = f"{self._host(host)}/release"
        with self._doing(f"dropping old objects of {host}"):
            objects = sftp_files.list_folder(self._wire, f"{release}/objects", LIMITS.entries)
            beside = sftp_files.list_folder(self._wire, release, LIMITS.entries)
            self._remove([f"{release}/objects/{name}" for name in objects if name not in keep])
            self._remove([f"{release}/{name}" for name in beside if is_left_over(name)])

    def drop_reports_but(self, host: HostName, newest: int) -> None:
        """Delete the host's reports except the newest."""
        folder = f"{self._host(host)}/reports"
        with self._doing(f"dropping old reports of {host}"), suppress(NotThere):
            names = newest_first(sftp_files.list_folder(self._wire, folder, LIMITS.entries))
            self._remove([f"{folder}/{name}" for name in names[newest:]])

    def _remove(self, paths: list[str]) -> None:
        """What can't be removed stays, for the next time."""
        for answer in [
            self._wire.ask(sftp.REMOVE, sftp.text(path.encode("utf-8", "surrogateescape"))) for path in paths
        ]:
            _succeeds(answer)

    def read_reports(self, host: HostName) -> Iterator[bytes | None]:
        """The host's reports, newest first; None for one that can't be read. Everything there is the host's doing."""
        folder = f"{self._host(host)}/reports"
        with self._doing(f"reading the reports of {host}"):
            try:
                there = sftp_files.list_folder(self._wire, folder, LIMITS.entries)
            except NotThere:
                return
        names = newest_first(there)[: LIMITS.reports]
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            # Nothing but plain files is opened: a link of the host's would be followed as this user.
            plain = [name for name in batch if there[name].is_file]
            found = dict(zip(plain, self._quietly([f"{folder}/{name}" for name in plain]), strict=True))
            yield from (found.get(name) for name in batch)

    def read_heartbeat(self, host: HostName) -> bytes | None:
        """The host's sign of life; None where there is none or it can't be read."""
        path = f"{self._host(host)}/reports/heartbeat"
        with self._doing(f"reading the heartbeat of {host}"):
            try:
                found = sftp.expect(self._wire.ask(sftp.LSTAT, sftp.text(path)), sftp.ATTRS).attributes()
            except SaidNo:
                return None
        return self._quietly([path])[0] if found.is_file else None

    def _quietly(self, paths: list[str]) -> list[bytes | None]:
        """Files of a host's, None for what can't be read. Raises ServerAway."""
        with self._doing("reading reports"):
            try:
                return [*self._read_all(paths, LIMITS.report)]
            except SaidNo:
                if len(paths) == 1:
                    return [None]
        return [self._quietly([path])[0] for path in paths]  # one of them: each by itself


class _TooLarge(SaidNo):
    """A file is larger than it may be."""


def _temporary(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"


def _succeeds(answer: Answer) -> bool:
    """Whether the server did it. Raises ServerAway."""
    try:
        answer.result()
    except SaidNo:
        return False
    return True
