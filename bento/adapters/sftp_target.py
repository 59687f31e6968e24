"""A publish target that is reached by SFTP, as a user who needs no root there (docs/decisions/0013).

Requests of many hosts are under way on one connection at once, so that a deploy costs bandwidth and not round trips.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import islice, takewhile
from zlib import crc32

from bento.adapters import protocol, sftp_ahead, sftp_files, sftp_lock, sftp_put
from bento.adapters.files import Busy
from bento.adapters.protocol import Answer, Attributes, NotThere, SaidNo, ServerAway
from bento.adapters.sftp_ahead import Ahead, Wanted
from bento.adapters.sftp_lock import Locking
from bento.adapters.sftp_login import LogIn, Login
from bento.adapters.stamps import Part
from bento.adapters.transport import NONE, Objects, is_left_over, newest_first
from bento.adapters.wire import Wire
from bento.errors import BentoError, EnvironmentFailed, InputError
from bento.models.limits import LIMITS
from bento.models.targets import SftpPlace
from bento.names import Digest, HostName

_PAUSE = 5.0  # seconds since the lock was seen: before, nothing is looked at anew; an answer itself may take longer
_SELDOM = 17  # hours, in one of which a host's old reports are dropped: prime, so that a deploy a day comes to each
_BATCH = 20  # reports read at once: as many as `status` looks at


class SftpTarget:
    """A PublishTarget (transport.py). `log_in` gives a session with the server; `locking` is for writing."""

    writes_at_once = 64

    def __init__(self, place: SftpPlace, log_in: LogIn, locking: Locking) -> None:
        self._place = place
        self._log_in = log_in
        self._locking = locking
        self._coming: Login | None = None
        self._session: Wire | None = None
        self._stack = ExitStack()
        self._without_reports: set[HostName] = set()
        self._seen = 0.0  # when the lock was seen last, by the monotonic clock
        self._ahead: dict[str, Ahead] = {}  # by host's folder; of none that was written since
        self._before: dict[str, dict[str, dict[str, Attributes] | None]] = {}  # what was in its folders before that
        self._words: dict[HostName, bytes | None] = {}  # signs of life that were read together
        self._ready: dict[HostName, tuple[str, bytes]] = {}  # manifests laid ready, and where

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
    def approached(self) -> Iterator[None]:
        """Begin to log in, for `opened` or `locked` in the block, which raise what becomes of it."""
        login = self._coming = Login(self._log_in)
        try:
            yield
        finally:
            self._coming = None
            login.leave()

    def opened(self) -> AbstractContextManager[None]:
        """Log in. Raises ServerAway, Refused for another host key, WorkFailed where it isn't let in, InputError."""
        return self._opened(_nothing)

    @contextmanager
    def _opened(self, first: Callable[[Wire], None]) -> Iterator[None]:
        self._ahead, self._before, self._words, self._ready = {}, {}, {}, {}
        coming, self._coming = self._coming, None
        with ExitStack() as self._stack:
            self._session = self._stack.enter_context(coming.taken(first) if coming else self._log_in(first))
            try:
                yield
            finally:
                self._session = None

    @contextmanager
    def locked(self, ahead: Objects = NONE) -> Iterator[None]:
        """Log in and take the lock. Raises Busy, and WorkFailed where the clocks differ, besides."""
        how, root = self._locking, self._place.path
        owner = how.owner()
        opened: list[Answer] = []
        with self._opened(lambda wire: opened.append(sftp_lock.reach_for(wire, root))):
            self._seen = time.monotonic()
            with self._doing("taking the lock"):
                make_sure = sftp_lock.take(self._wire, root, opened[0], owner, how, self.name, self._place.user)
            try:
                with self._doing("taking the lock"):
                    self.look_ahead(ahead)
                    make_sure()
                yield
            finally:
                # Gone with the connection? Then it stays, and the next deploy from here knows it for its own.
                with suppress(BentoError):
                    sftp_lock.release(self._wire, root, owner)

    def refresh(self) -> None:
        """After a long pause: see that the connection stands, or make another, and that the lock is still ours."""
        began = time.monotonic()
        if began < self._seen + _PAUSE:
            return
        owner, root = self._locking.owner(), self._place.path
        self._ahead, self._before, self._words = {}, {}, {}
        with self._doing("looking at the lock"):
            try:
                held = sftp_lock.is_held(self._wire, root, owner)
            except ServerAway:
                self._session = self._stack.enter_context(self._log_in(_nothing))
                held = sftp_lock.is_held(self._wire, root, owner)
        if not held:
            raise Busy(
                f"somebody broke this deploy's lock on {self.name}", "see who publishes there, then deploy again"
            )
        self._seen = began

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (SaidNo, ServerAway) as error:
            protocol.rethrow(error, f"{self.name}: {what}")

    def _host(self, host: HostName) -> str:
        return f"{self._place.path.rstrip('/')}/{host}"

    def look_ahead(self, hosts: Objects, reports: int = 0) -> None:
        """Ask for what many hosts have, with their requests under way at once; what was asked before is forgotten,

        but of hosts that the same is wanted of: with the lock held nobody else writes them.
        """
        hour = self._locking.clock() // 3600
        wanted = [
            self._wanted(host, objects, tidy=reports > 0 or (hour + crc32(host.encode())) % _SELDOM == 0)
            for host, objects in hosts.items()
        ]
        before = {} if reports else self._ahead
        known = {one.base: its for one in wanted if (its := before.get(one.base)) and its.asked == one}
        self._ahead, self._before, self._words = known, {}, {}
        asked = (one for one in wanted if one.base not in known)
        with suppress(ServerAway):  # what is asked next says so
            self._ahead.update(sftp_ahead.look(self._wire, asked, reports))

    def _wanted(self, host: HostName, objects: Iterable[Digest] | None, *, tidy: bool) -> Wanted:
        base, release = self._host(host), f"{self._host(host)}/release"
        if objects is None:
            return Wanted(base, (), (f"{base}/reports", f"{release}/objects", release))
        stats = [f"{release}/objects/{one}" for one in objects]
        return Wanted(base, stats, (f"{base}/reports",)) if tidy else Wanted(base, [*stats, f"{base}/reports"], ())

    def _known(self, host: HostName) -> Ahead:
        return self._ahead.get(self._host(host)) or Ahead()

    def _forget(self, host: HostName) -> None:
        """It is about to change."""
        self._words.pop(host, None)
        known = self._ahead.pop(self._host(host), None)
        if known is not None:
            self._before[self._host(host)] = known.folders

    def _object(self, host: HostName, digest: Digest) -> str:
        return f"{self._host(host)}/release/objects/{digest}"

    def ensure_host(self, host: HostName) -> None:
        """Make the host's folders where this user may; a `reports` that is the host's too only root can make."""
        base = self._host(host)
        folders = [base, f"{base}/release", f"{base}/release/objects", f"{base}/reports"]
        known = self._known(host)
        if known.has(folders[-2]) and known.has(folders[-1]) is not None:
            if not known.has(folders[-1]):
                self._without_reports.add(host)
            return
        self._forget(host)
        with self._doing(f"looking at the folders of {host}"):
            there = [
                _succeeds(answer)
                for answer in [self._wire.ask(protocol.LSTAT, protocol.text(path)) for path in folders]
            ]
        if not there[-1]:
            self._without_reports.add(host)
        try:
            for path, present in zip(folders[:-1], there[:-1], strict=True):
                if not present:
                    self._wire.do(protocol.MKDIR, protocol.text(path), protocol.mode_only(0o755))
                    self._wire.do(
                        protocol.SETSTAT, protocol.text(path), protocol.mode_only(0o755)
                    )  # whatever the umask there
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
        path, known = f"{self._host(host)}/release/manifest", self._known(host)
        if path in known.files:
            return known.files[path]
        return self._read(path, LIMITS.manifest, f"the published manifest of {host}")

    def read_object(self, host: HostName, digest: Digest, limit: int) -> bytes | None:
        """An object's bytes, unchecked; None where it is missing."""
        return self._read(self._object(host, digest), limit, f"an object of {host}")

    def _read(self, path: str, limit: int, what: str) -> bytes | None:
        with self._doing(f"reading {what}"):
            try:
                return sftp_files.read_small(self._wire, [path], limit)[0]
            except NotThere:
                return None
            except sftp_files.TooLarge:
                raise InputError(f"{what} is larger than {limit} bytes") from None

    def present(self, host: HostName, wanted: Mapping[Digest, int]) -> frozenset[Digest]:
        """Those of the objects that are there with their size; their content would have to be fetched to be told."""
        known, folder = self._known(host), f"{self._host(host)}/release/objects"
        stats = dict(known.stats)
        paths = {digest: self._object(host, digest) for digest in wanted}
        if folder in known.folders:
            listed = known.folders[folder] or {}
            stats.update((path, listed.get(digest)) for digest, path in paths.items())
        asked = [path for path in paths.values() if path not in stats]
        with self._doing(f"looking at the objects of {host}"):
            answers = self._wire.ask_all([(protocol.LSTAT, protocol.text(path)) for path in asked])
            for path, answer in zip(asked, answers, strict=True):
                with suppress(SaidNo):
                    stats[path] = protocol.expect(answer, protocol.ATTRS).attributes()
        found = ((digest, stats.get(path)) for digest, path in paths.items())
        return frozenset(one for one, its in found if its is not None and its.is_file and its.size == wanted[one])

    def parts(self, host: HostName, objects: Sequence[Digest]) -> list[Part] | None:
        """The manifest's sha256 and the objects' sizes, of a host that was looked at ahead."""
        known, base = self._known(host), self._host(host)
        manifest = known.files.get(f"{base}/release/manifest")
        stats = [known.stats.get(self._object(host, one)) for one in objects]
        if manifest is None or not all(stats) or not known.has(f"{base}/reports"):
            return None
        said = " ".join(f"{its.is_file} {its.size}" for its in stats if its is not None)
        return [(f"manifest {hashlib.sha256(manifest).hexdigest()} objects {said}", None)]

    def put_objects(
        self, host: HostName, objects: Sequence[tuple[Digest, bytes]], manifest: bytes | None = None
    ) -> None:
        """Make objects from their bytes, durably, each whole or not at all; a damaged one is replaced."""
        self._forget(host)
        later = [(f"{self._host(host)}/release/manifest", manifest)] if manifest is not None else []
        with self._doing(f"writing objects of {host}"):
            files = [(self._object(host, digest), data) for digest, data in objects]
            for name, (_, raw) in zip(sftp_put.put(self._wire, files, later), later, strict=True):
                self._ready[host] = (name, raw)

    def put_manifest(self, host: HostName, raw: bytes) -> None:
        """Publish: from here on readers see the new release."""
        self._forget(host)
        path = f"{self._host(host)}/release/manifest"
        name, ready = self._ready.pop(host, ("", b""))
        with self._doing(f"publishing the manifest of {host}"):
            if name and ready == raw:
                sftp_put.show(self._wire, [(name, path)])
            else:
                sftp_put.put(self._wire, [(path, raw)])

    def share_object(self, host: HostName, digest: Digest, other: HostName) -> bool:
        """Make an object by a hard link to another host's; False where that can't be."""
        source, target = self._object(other, digest), self._object(host, digest)
        temporary = sftp_put.temporary(target)
        self._forget(host)
        with self._doing(f"linking an object of {host}"):
            # If the first fails so does the second. The name stays where both are the same file already: the third.
            linked = self._wire.extended("hardlink@openssh.com", protocol.text(source), protocol.text(temporary))
            renamed = sftp_put.rename(self._wire, temporary, target)
            removed = self._wire.ask(protocol.REMOVE, protocol.text(temporary))
            done = [_succeeds(answer) for answer in (linked, renamed, removed)]
        return done[0] and done[1]

    def old_objects(self, host: HostName, than: int) -> frozenset[str]:
        """What may go if no release needs it: by the server's times, for which it keeps its own clock's word."""
        folder = f"{self._host(host)}/release/objects"
        with self._doing(f"dropping old objects of {host}"):
            there = self._folder(host, folder)
        return frozenset(
            name for name, its in there.items() if is_left_over(name) or its.mtime is None or its.mtime < than
        )

    def drop_objects(self, host: HostName, names: Iterable[str]) -> None:
        """Garbage collection, also of what a publisher that died left behind. What can't be removed stays."""
        release = f"{self._host(host)}/release"
        with self._doing(f"dropping old objects of {host}"):
            beside = self._folder(host, release)
            self._before.pop(self._host(host), None)
            old = [f"{release}/objects/{name}" for name in names]
            sftp_put.drop(self._wire, [*old, *(f"{release}/{name}" for name in beside if is_left_over(name))])

    def drop_reports_but(self, host: HostName, newest: int) -> None:
        """Delete the host's reports except the newest; now and then, of a host that nothing is written for."""
        folder, known = f"{self._host(host)}/reports", self._known(host)
        if folder in known.stats and folder not in known.folders:
            return  # to list what all hosts said, each time, would be most of a deploy
        with self._doing(f"dropping old reports of {host}"):
            old = [*newest_first(self._reports(host))][newest:]
            if old:
                self._forget(host)
                sftp_put.drop(self._wire, [f"{self._host(host)}/reports/{name}" for name in old])

    def _reports(self, host: HostName) -> Mapping[str, Attributes]:
        """What is in the host's folder of reports; nothing where there is no such folder."""
        folder = f"{self._host(host)}/reports"
        try:
            return self._folder(host, folder)
        except NotThere:
            return {}

    def _folder(self, host: HostName, path: str) -> Mapping[str, Attributes]:
        """What was in one of the host's folders when it was looked at. Raises SaidNo, ServerAway."""
        for known in (self._known(host).folders, self._before.get(self._host(host), {})):
            if path in known:
                return known[path] or {}
        return sftp_files.list_folder(self._wire, path, LIMITS.entries)

    def read_words(self, host: HostName) -> Iterator[bytes | None]:
        """The host's sign of life, None where there is none; then its reports, newest first, each read when asked for.

        None for what can't be read, too. Everything there is the host's doing.
        """
        yield self._heartbeat(host)
        folder, known = f"{self._host(host)}/reports", self._known(host).files
        with self._doing(f"reading the reports of {host}"):
            there = self._reports(host)
        names = [*islice(newest_first(there), LIMITS.reports)]
        ahead = [*takewhile(lambda name: f"{folder}/{name}" in known, names)]
        yield from (known[f"{folder}/{name}"] for name in ahead)
        del names[: len(ahead)]
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            # Nothing but plain files is opened: a link of the host's would be followed as this user.
            plain = [name for name in batch if there[name].is_file]
            with self._doing(f"reading the reports of {host}"):
                read = sftp_files.read_quietly(self._wire, [f"{folder}/{name}" for name in plain], LIMITS.report)
            found = dict(zip(plain, read, strict=True))
            yield from (found.get(name) for name in batch)

    def hear(self, hosts: Sequence[HostName]) -> None:
        """Read these hosts' signs of life together; those that were read before are forgotten: they may be large."""
        paths = [f"{self._host(host)}/reports/heartbeat" for host in hosts]
        with suppress(ServerAway):  # what is asked next says so
            self._words = {}
            self._words = dict(zip(hosts, sftp_files.read_plain(self._wire, paths, LIMITS.report), strict=True))

    def _heartbeat(self, host: HostName) -> bytes | None:
        folder, known = f"{self._host(host)}/reports", self._known(host)
        path = f"{folder}/heartbeat"
        if host in self._words:
            return self._words[host]
        if path in known.files:
            return known.files[path]
        if "heartbeat" not in (known.folders.get(folder, {"heartbeat"}) or ()):
            return None
        with self._doing(f"reading the heartbeat of {host}"):
            return sftp_files.read_plain(self._wire, [path], LIMITS.report)[0]


def _nothing(_: Wire) -> None:
    """To be sent first."""


def _succeeds(answer: Answer) -> bool:
    """Whether the server did it. Raises ServerAway."""
    try:
        answer.result()
    except SaidNo:
        return False
    return True
