"""A publish target that is a folder on this machine: each host's chroot under it."""

import hashlib
import os
import pwd
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice
from pathlib import Path
from shlex import quote

from bento.adapters.files import busy_lock, read_capped, read_capped_at, store
from bento.adapters.stamps import Part, Sight, Stamps, stamp_at, stamp_of
from bento.adapters.transport import NONE, Objects, is_left_over, newest_first
from bento.errors import BentoError, EnvironmentFailed, WorkFailed
from bento.models.limits import LIMITS
from bento.names import Digest, HostName, listed
from bento_secrets.durable import fsync_dir

_PASSWD_FIELDS = 7  # name, password, user, group, description, home, shell


def account_group(host: HostName) -> int | None:
    """The group id of the host's account on this machine; None without an account."""
    try:
        return pwd.getpwnam(host).pw_gid
    except KeyError:
        return None


def local_groups(passwd: Path = Path("/etc/passwd")) -> dict[str, int]:
    """The group ids of the accounts in this machine's own file, by name; `account_group` knows others, too.

    But it looks through that file for each.
    """
    try:
        lines = passwd.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for line in lines:
        fields = line.split(":")
        if len(fields) == _PASSWD_FIELDS and fields[3].isascii() and fields[3].isdigit():
            found.setdefault(fields[0], int(fields[3]))
    return found


class PublishFolder:
    """`root` is what `publish.to` names; nothing is made before it is needed. A PublishTarget (transport.py).

    With `stamps`, objects that were whole and haven't changed are not read again.
    """

    writes_at_once = 8  # what several wait for, a file system writes in one go; more of them only wait for each other

    def __init__(self, root: Path, stamps: Stamps | None = None) -> None:
        self.root = root
        self.name = str(root)
        self._stamps = stamps
        self._groups: dict[HostName, int | None] = {}
        self._local: dict[str, int] | None = None
        self._hashed: dict[tuple[int, ...], str] = {}  # what shared objects' content was, in this run

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Raise EnvironmentFailed without the folder: a mirror that isn't mounted is away, not empty."""
        self._check_there()
        yield

    @contextmanager
    def locked(self, _ahead: Objects = NONE) -> Iterator[None]:
        """Hold the publisher's lock. Raises Busy when another deploy has it, EnvironmentFailed without the folder."""
        self._check_there()
        mine = self.root / ".publisher"
        try:
            mine.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"can't write to the publish folder {self.root}: {error.strerror}",
                f"publish as its owner: ls -ld {quote(str(self.root))}",
                "or name another in bento.toml: [publish] to",
            ) from None
        with busy_lock(mine / "lock", f"another deploy to {self.root}"):
            yield

    def _check_there(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise EnvironmentFailed(f"{self.root} is not a folder", "name another in bento.toml: [publish] to")
        if not self.root.is_dir():
            raise EnvironmentFailed(
                f"the publish folder {self.root} isn't there",
                f"make it: mkdir -p {quote(str(self.root))}",
                "or name another in bento.toml: [publish] to",
            )

    def approached(self) -> AbstractContextManager[None]:
        """It is there, or it isn't."""
        return self.opened()

    def refresh(self) -> None:
        """Nothing to do: the lock is the kernel's."""

    def look_ahead(self, hosts: Objects, reports: int = 0) -> None:
        """Nothing to do: a disk's cache is as quick for one host after the other."""

    def hear(self, hosts: Sequence[HostName]) -> None:
        """Nothing to do, either."""

    def _release(self, host: HostName) -> Path:
        return self.root / host / "release"

    def ensure_host(self, host: HostName) -> None:
        """Make the host's folders with their owners and modes. Only root can give them away."""
        base = f"{self.name}/{host}"
        objects, reports = f"{base}/release/objects", f"{base}/reports"
        try:
            if not os.path.isdir(objects) or not os.path.isdir(reports):
                self._make(base)
            if os.geteuid() != 0:
                return
            group = self._group(host)
            if group is not None and os.stat(reports).st_gid != group:
                os.chown(reports, -1, group, follow_symlinks=False)
                os.chmod(reports, 0o2770)  # noqa: S103 — the host writes there
        except OSError as error:
            raise EnvironmentFailed(
                f"can't make the folders of {host} under {self.root}: {error.strerror}",
                f"publish as root, or make them: mkdir -p {quote(str(self.root / host / 'release'))}",
            ) from None

    @staticmethod
    def _make(base: str) -> None:
        release = f"{base}/release"
        grown: dict[str, None] = {}
        for folder, mode in (
            (base, 0o755),
            (release, 0o755),
            (f"{release}/objects", 0o755),
            (f"{base}/reports", 0o2770),
        ):
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
            else:
                os.chmod(folder, mode)
                grown[os.path.dirname(folder)] = None
        for folder in grown:  # each once, outermost first
            fsync_dir(Path(folder))

    def _group(self, host: HostName) -> int | None:
        """The group of the host's account, asked for once: accounts may come from a server."""
        if self._local is None:
            self._local = local_groups()
        if host not in self._groups:
            self._groups[host] = self._local[host] if host in self._local else account_group(host)
        return self._groups[host]

    def read_manifest(self, host: HostName) -> bytes | None:
        """The published manifest's bytes; None before the first release."""
        return read_capped(f"{self.name}/{host}/release/manifest", LIMITS.manifest, f"the published manifest of {host}")

    def read_object(self, host: HostName, digest: Digest, limit: int) -> bytes | None:
        """An object's bytes, unchecked; None where it is missing."""
        return read_capped(self._release(host) / "objects" / digest, limit, f"an object of {host}")

    def present(self, host: HostName, wanted: Mapping[Digest, int]) -> frozenset[Digest]:
        """Those of the objects, given with their sizes in bytes, that are there whole: read and hashed."""
        sight = self._sight(host, wanted)
        if self._stamps is None or sight is None:
            return self._read_whole(host, wanted)
        if self._stamps.recall(sight) is not None:
            return frozenset(wanted)
        found = self._read_whole(host, wanted)
        if found == wanted.keys():
            self._stamps.remember(sight, ())
        return found

    def _read_whole(self, host: HostName, wanted: Mapping[Digest, int]) -> frozenset[Digest]:
        return frozenset(digest for digest, size in wanted.items() if self._is_whole(host, digest, size))

    def _sight(self, host: HostName, wanted: Iterable[Digest]) -> Sight | None:
        """How the objects stand; None where one isn't there."""
        if self._stamps is None:
            return None
        began, objects = self._stamps.now(), f"{self.name}/{host}/release/objects"
        try:
            parts = [(digest, stamp_of(os.lstat(f"{objects}/{digest}"))) for digest in wanted]
        except OSError:
            return None
        return self._stamps.sight(f"objects {objects}", parts, began)

    def _is_whole(self, host: HostName, digest: Digest, size: int) -> bool:
        path = self._release(host) / "objects" / digest
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                    return False
                # Hosts of one flake share one file: it is read once.
                key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
                if key not in self._hashed:
                    self._hashed[key] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return False
        return self._hashed[key] == digest

    def parts(self, host: HostName, objects: Sequence[Digest]) -> list[Part] | None:
        """The stamps of manifest and objects; whose the reports' folder is, and should be."""
        base = f"{self.name}/{host}"
        release = f"{base}/release"
        parts: list[Part] = [("manifest", stamp_at(f"{release}/manifest"))]
        parts += ((digest, stamp_at(f"{release}/objects/{digest}")) for digest in objects)
        try:
            reports = os.lstat(f"{base}/reports")
        except OSError:
            return None
        whose = f"{reports.st_mode} {reports.st_uid} {reports.st_gid}"
        parts.append((f"reports {whose} {self._group(host)} {os.geteuid() == 0}", None))  # only root gives them away
        if self._stamps is not None:
            self._stamps.keep(f"objects {release}/objects")  # for a look that isn't taken here
        return None if any(stamp is None for _, stamp in parts[:-1]) else parts

    def put_objects(
        self, host: HostName, objects: Sequence[tuple[Digest, bytes]], manifest: bytes | None = None
    ) -> None:
        """Make objects from their bytes, durably; a damaged one is replaced."""
        del manifest  # nothing is gained by laying it ready
        for digest, data in objects:
            store(self._release(host) / "objects" / digest, data, 0o644)

    def share_object(self, host: HostName, digest: Digest, other: HostName) -> bool:
        """Make an object by a hard link to another host's; False where that can't be."""
        source, target = (self._release(name) / "objects" / digest for name in (other, host))
        temporary = target.with_name(f".{digest}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.hardlink_to(source)
            temporary.replace(target)  # a damaged one that stands there goes
        except OSError:
            return False
        finally:
            with suppress(OSError):
                temporary.unlink()  # it stays where both are the same file already
        fsync_dir(target.parent)
        return True

    def put_manifest(self, host: HostName, raw: bytes) -> None:
        """Publish: from here on readers see the new release."""
        store(self._release(host) / "manifest", raw, 0o644)

    def old_objects(self, host: HostName, than: int) -> frozenset[str]:
        """All that are there: to read what the last releases need is quick."""
        del than
        return frozenset(os.listdir(self._release(host) / "objects"))

    def drop_objects(self, host: HostName, names: Iterable[str]) -> None:
        """Garbage collection, also of what a publisher that died left behind."""
        release = self._release(host)
        with os.scandir(release) as beside:
            left = [entry.name for entry in beside if is_left_over(entry.name)]
        for path in (*(release / "objects" / name for name in names), *(release / name for name in left)):
            path.unlink(missing_ok=True)

    def complaints(self, hosts: Iterable[HostName]) -> tuple[str, ...]:
        """Hosts without an account here."""
        missing = [host for host in hosts if self._group(host) is None]
        if not missing:
            return ()
        said = f"no account on this machine, so they can't log in here: {listed(missing)}"
        return (f"{said}; to make what lacks: bento server apply",)

    def drop_reports_but(self, host: HostName, newest: int) -> None:
        """Delete the host's reports except the newest. What can't be deleted stays."""
        folder = self._open_reports(host)
        if folder is None:
            return
        try:
            for name in islice(newest_first(self._names(folder, host)), newest, None):
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)

    def read_words(self, host: HostName) -> Iterator[bytes | None]:
        """The host's sign of life, None where there is none; then its reports, newest first, each read when asked for.

        None for what can't be read, too. Everything there is the host's doing.
        """
        folder = self._open_reports(host)
        if folder is None:
            yield None
            return
        try:
            names = self._names(folder, host)
            yield self._quietly(folder, "heartbeat") if "heartbeat" in names else None
            for name in islice(newest_first(names), LIMITS.reports):
                yield self._quietly(folder, name)
        finally:
            os.close(folder)

    @staticmethod
    def _quietly(folder: int, name: str) -> bytes | None:
        try:
            return read_capped_at(folder, name, LIMITS.report, "a report")
        except BentoError:
            return None

    def _names(self, folder: int, host: HostName) -> list[str]:
        try:
            return os.listdir(folder)  # pathlib can't list an open descriptor
        except OSError as error:
            raise self._unreadable(f"{self.name}/{host}/reports", error) from None

    @staticmethod
    def _unreadable(path: str, error: OSError) -> WorkFailed:
        return WorkFailed(
            f"can't read the reports in {path}: {error.strerror}", f"see whose it is: ls -ld {quote(path)}"
        )

    def _open_reports(self, host: HostName) -> int | None:
        path = f"{self.name}/{host}/reports"
        try:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(path, error) from None
