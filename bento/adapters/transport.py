"""What a publish target is: a place with the hosts' chroots, here (folder.py) or reached by SFTP (sftp_target.py)."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Final, Protocol

from bento.adapters.stamps import Part
from bento.names import Digest, HostName

Objects = Mapping[HostName, Iterable[Digest] | None]  # of each host; None: all there are
NONE: Final[Objects] = MappingProxyType({})
REPORT_NAME = re.compile(r"[0-9]{20}\.report")


def is_left_over(name: str) -> bool:
    """Whether a file is a temporary one; with the lock held, one of a publisher that died."""
    return name.startswith(".") and name.endswith(".tmp")


def newest_first(names: Iterable[str]) -> Iterator[str]:
    """The reports among the names in a host's folder, newest first. Their names are all that is believed of them."""
    return filter(REPORT_NAME.fullmatch, sorted(names, reverse=True))


class PublishTarget(Protocol):
    """One place to publish to.

    All raise EnvironmentFailed where the place isn't there, and WorkFailed where it doesn't do what it is asked.
    """

    @property
    def name(self) -> str:
        """As bento.toml names it."""

    @property
    def writes_at_once(self) -> int:
        """How many hosts are best written at once."""

    def approached(self) -> AbstractContextManager[None]:
        """Begin, beside what is done in the block, what `opened` or `locked` in it would have to wait for.

        Raises EnvironmentFailed where it is known at once that it isn't there.
        """

    def opened(self) -> AbstractContextManager[None]:
        """Be ready for reading. Raises EnvironmentFailed where it can't be reached."""

    def locked(self, ahead: Objects = NONE) -> AbstractContextManager[None]:
        """Be ready for writing, and keep every other publisher out. Raises Busy besides.

        `ahead` is what `look_ahead` would be told first.
        """

    def refresh(self) -> None:
        """After a long pause inside `locked`: see that all is as it was. Raises Busy where the lock was broken."""

    def look_ahead(self, hosts: Objects, reports: int = 0) -> None:
        """Say which hosts' manifests, given objects and so many newest reports will be asked for

        next: a network's round trips are shared then. What can't be had this way is asked for by itself, and then says
        why.
        """

    def hear(self, hosts: Sequence[HostName]) -> None:
        """Say whose sign of life will be asked for next, as the first that `read_words` gives; as `look_ahead`."""

    def ensure_host(self, host: HostName) -> None:
        """Make the host's folders with their owners and modes, as far as may be."""

    def complaints(self, hosts: Iterable[HostName]) -> tuple[str, ...]:
        """Sentences on what keeps published hosts from using it."""

    def read_manifest(self, host: HostName) -> bytes | None:
        """The published manifest's bytes; None before the first release. Raises InputError for what can't be one."""

    def read_object(self, host: HostName, digest: Digest, limit: int) -> bytes | None:
        """An object's bytes, unchecked; None where it is missing."""

    def present(self, host: HostName, wanted: Mapping[Digest, int]) -> frozenset[Digest]:
        """Which objects, given with their sizes in bytes, are there whole, as far as is told without a transfer."""

    def parts(self, host: HostName, objects: Sequence[Digest]) -> list[Part] | None:
        """How everything stands that `read_manifest`, `present` for these objects, and `ensure_host` go by.

        None where something isn't there, or can't be told as cheaply.
        """

    def put_objects(
        self, host: HostName, objects: Sequence[tuple[Digest, bytes]], manifest: bytes | None = None
    ) -> None:
        """Make objects from their bytes, durably, each whole or not at all; a damaged one is replaced.

        The `manifest` that is to be put next may be laid ready beside them, where no reader looks.
        """

    def share_object(self, host: HostName, digest: Digest, other: HostName) -> bool:
        """Make an object by a hard link to another host's; False where that can't be."""

    def put_manifest(self, host: HostName, raw: bytes) -> None:
        """Publish: from here on readers see the new release."""

    def old_objects(self, host: HostName, than: int) -> frozenset[str]:
        """Names in the objects' folder: all that may be older `than` that (UTC seconds), left-overs, perhaps more."""

    def drop_objects(self, host: HostName, names: Iterable[str]) -> None:
        """Garbage collection: these objects, and what a publisher that died left behind."""

    def drop_reports_but(self, host: HostName, newest: int) -> None:
        """Delete the host's reports except so many; only what is named as a report."""

    def read_words(self, host: HostName) -> Iterator[bytes | None]:
        """The host's sign of life, None where there is none; then its reports, newest first, each read when asked for.

        None for what can't be read, too. Everything there is the host's doing.
        """
