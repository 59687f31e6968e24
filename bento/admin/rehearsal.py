"""Publishing without doing it: the very code of a deploy, on targets that are only read, and nothing is remembered."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from bento.adapters.transport import PublishTarget
from bento.admin.memory import Memory
from bento.names import Digest, HostName, Serial


class Rehearsal:
    """A PublishTarget (transport.py) over a real one. Once a host's folders would be made, its objects count as put."""

    def __init__(self, real: PublishTarget) -> None:
        self._real = real
        self._writing: set[HostName] = set()

    @property
    def name(self) -> str:
        """The real one's."""
        return self._real.name

    @property
    def at_once(self) -> int:
        """One: a rehearsal has no hurry."""
        return 1

    def opened(self) -> AbstractContextManager[None]:
        """As the real one."""
        return self._real.opened()

    def locked(self) -> AbstractContextManager[None]:
        """Nothing is written, so nobody is kept out."""
        return self._real.opened()

    def refresh(self) -> None:
        """Nothing to see to."""

    def ensure_host(self, host: HostName) -> None:
        """From here on a deploy would write."""
        self._writing.add(host)

    def complaints(self, hosts: Iterable[HostName]) -> tuple[str, ...]:
        """As the real one."""
        return self._real.complaints(hosts)

    def read_manifest(self, host: HostName) -> bytes | None:
        """As the real one."""
        return self._real.read_manifest(host)

    def read_object(self, host: HostName, digest: Digest, limit: int) -> bytes | None:
        """As the real one."""
        return self._real.read_object(host, digest, limit)

    def present(self, host: HostName, wanted: Mapping[Digest, int]) -> frozenset[Digest]:
        """As the real one, until a deploy would write."""
        return frozenset(wanted) if host in self._writing else self._real.present(host, wanted)

    def put_objects(self, host: HostName, objects: Sequence[tuple[Digest, bytes]]) -> None:
        """Nothing is written."""

    def share_object(self, host: HostName, digest: Digest, other: HostName) -> bool:  # noqa: ARG002 — as the real one's
        """Nothing is written."""
        return True

    def put_manifest(self, host: HostName, raw: bytes) -> None:
        """Nothing is written."""

    def drop_objects_except(self, host: HostName, keep: frozenset[Digest]) -> None:
        """Nothing is dropped."""

    def drop_reports_but(self, host: HostName, newest: int) -> None:
        """Nothing is dropped."""

    def read_reports(self, host: HostName) -> Iterator[bytes | None]:
        """As the real one."""
        return self._real.read_reports(host)

    def read_heartbeat(self, host: HostName) -> bytes | None:
        """As the real one."""
        return self._real.read_heartbeat(host)


class Recollection(Memory):
    """What was published from here before; this time nothing is added."""

    def will_publish(self, host: HostName, serial: Serial) -> None:
        """Nothing is."""

    def has_published(self, host: HostName, serial: Serial, line: Digest) -> None:
        """Nothing was."""
