"""Objects that several hosts have: hosts of one flake share one file on each target."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from bento.adapters.transport import PublishTarget
from bento.names import Digest, HostName


class Shares:
    """Which host of this run has an object already, by target. Hosts may be worked on at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[tuple[str, Digest], Future[HostName | None]] = {}  # who puts it in this run
        self._there: dict[tuple[str, Digest], HostName] = {}  # who had it before

    @contextmanager
    def turn(self, target: PublishTarget, digest: Digest, host: HostName) -> Iterator[bool]:
        """Whether the object was linked to another host's; else to be put in the block. Waits for a host that does."""
        there = self._there.get((target.name, digest))
        if there is not None:
            yield target.share_object(host, digest, there)
            return
        with self._lock:
            first = self._first.get((target.name, digest))
            if mine := first is None:
                first = self._first[target.name, digest] = Future()
        other = None if mine else first.result()
        try:
            yield other is not None and target.share_object(host, digest, other)
        except BaseException:
            if mine:
                first.set_result(None)
            raise
        if mine:
            first.set_result(host)

    def has(self, target: PublishTarget, digest: Digest, host: HostName) -> None:
        """The host's object is known to be whole."""
        self._there.setdefault((target.name, digest), host)
