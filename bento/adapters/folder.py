"""A publish target that is a folder on this machine: each host's chroot under it (design: Release)."""

import os
import pwd
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bento.adapters.files import busy_lock, read_capped, read_capped_at, store
from bento.errors import BentoError, EnvironmentFailed
from bento.models.limits import LIMITS
from bento.names import Digest, HostName
from bento_secrets.durable import fsync_dir

_REPORT_NAME = re.compile(r"[0-9]{20}\.report")


def account_group(host: HostName) -> int | None:
    """The group id of the host's account on this machine; None without an account."""
    try:
        return pwd.getpwnam(host).pw_gid
    except KeyError:
        return None


class PublishFolder:
    """`root` is what `publish.to` names; nothing is made before it is needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the publisher's lock. Raises Busy when another deploy has it, EnvironmentFailed without the folder."""
        if self.root.exists() and not self.root.is_dir():
            raise EnvironmentFailed(f"{self.root} is not a folder", "name another in bento.toml: [publish] to")
        if not self.root.is_dir():
            raise EnvironmentFailed(
                f"the publish folder {self.root} isn't there",
                f"make it: mkdir -p {self.root}",
                "or name another in bento.toml: [publish] to",
            )
        mine = self.root / ".publisher"
        try:
            mine.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"can't write to the publish folder {self.root}: {error.strerror}",
                f"publish as its owner, or to another: see ls -ld {self.root}, and [publish] to in bento.toml",
            ) from None
        with busy_lock(mine / "lock", f"another deploy to {self.root}"):
            yield

    def _release(self, host: HostName) -> Path:
        return self.root / host / "release"

    def ensure_host(self, host: HostName) -> None:
        """Make the host's folders with the design's owners and modes. Only root can give them away."""
        base, release, reports = self.root / host, self._release(host), self.root / host / "reports"
        try:
            for folder, mode in ((base, 0o755), (release, 0o755), (release / "objects", 0o755), (reports, 0o2770)):
                if not folder.is_dir():
                    folder.mkdir()
                    folder.chmod(mode)
                    fsync_dir(folder.parent)
            group = account_group(host)
            if os.geteuid() == 0 and group is not None and reports.stat().st_gid != group:
                os.chown(reports, -1, group, follow_symlinks=False)
                reports.chmod(0o2770)
        except OSError as error:
            raise EnvironmentFailed(f"can't make the folders of {host} under {self.root}: {error.strerror}") from None

    def read_manifest(self, host: HostName) -> bytes | None:
        """The published manifest's bytes; None before the first release."""
        return read_capped(self._release(host) / "manifest", LIMITS.manifest, f"the published manifest of {host}")

    def read_object(self, host: HostName, digest: Digest, limit: int) -> bytes | None:
        """An object's bytes, unchecked; None where it is missing."""
        return read_capped(self._release(host) / "objects" / digest, limit, f"an object of {host}")

    def has_object(self, host: HostName, digest: Digest) -> bool:
        """Whether the object is there. Objects are only ever made whole."""
        return (self._release(host) / "objects" / digest).is_file()

    def put_object(self, host: HostName, digest: Digest, data: bytes) -> None:
        """Make an object from its bytes, durably."""
        store(self._release(host) / "objects" / digest, data, 0o644)

    def share_object(self, host: HostName, digest: Digest, other: HostName) -> bool:
        """Make an object by a hard link to another host's; False where that can't be."""
        source, target = (self._release(name) / "objects" / digest for name in (other, host))
        try:
            target.hardlink_to(source)
        except FileExistsError:
            return True
        except OSError:
            return False
        fsync_dir(target.parent)
        return True

    def put_manifest(self, host: HostName, raw: bytes) -> None:
        """Publish: from here on readers see the new release."""
        store(self._release(host) / "manifest", raw, 0o644)

    def drop_objects_except(self, host: HostName, keep: frozenset[Digest]) -> None:
        """Garbage collection: objects not in `keep`, and what a publisher that died left behind."""
        with os.scandir(self._release(host) / "objects") as entries:
            unwanted = [entry.path for entry in entries if entry.name not in keep]
        for path in unwanted:
            Path(path).unlink(missing_ok=True)

    def read_reports(self, host: HostName) -> Iterator[bytes | None]:
        """The host's reports, newest first; None for one that can't be read. Everything there is the host's doing."""
        with self._reports(host) as folder:
            if folder is None:
                return
            # pathlib can't list an open descriptor
            names = sorted((name for name in os.listdir(folder) if _REPORT_NAME.fullmatch(name)), reverse=True)  # noqa: PTH208
            for name in names[: LIMITS.reports]:
                yield self._quietly(folder, name)

    def read_heartbeat(self, host: HostName) -> bytes | None:
        """The host's sign of life; None where there is none or it can't be read."""
        with self._reports(host) as folder:
            return None if folder is None else self._quietly(folder, "heartbeat")

    @staticmethod
    def _quietly(folder: int, name: str) -> bytes | None:
        try:
            return read_capped_at(folder, name, LIMITS.report, "a report")
        except BentoError:
            return None

    @contextmanager
    def _reports(self, host: HostName) -> Iterator[int | None]:
        path = self.root / host / "reports"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise EnvironmentFailed(f"can't read the reports in {path}: {error.strerror}") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)
