"""Objects that several hosts have: hosts of one flake share one file on each target."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

from bento.adapters.transport import PublishTarget
from bento.names import Digest, HostName


class Shares:
    """Which host of this run has an object already, by target. Hosts may be worked on at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[tuple[str, Digest], Future[HostName | None]] = {}

    def put(self, target: PublishTarget, digest: Digest, host: HostName, read: Callable[[], bytes]) -> None:
        """Link the object to another host's, or put it from the bytes that `read` gives. Waits for a host that does."""
        with self._lock:
            first = self._first.get((target.name, digest))
            if mine := first is None:
                first = self._first[target.name, digest] = Future()
        if not mine and (other := first.result()) is not None and target.share_object(host, digest, other):
            return
        try:
            target.put_objects(host, [(digest, read())])
        except BaseException:
            if mine:
                first.set_result(None)
            raise
        if mine:
            first.set_result(host)

    def has(self, target: PublishTarget, digest: Digest, host: HostName) -> None:
        """The host's object is known to be whole."""
        with self._lock:
            if (target.name, digest) not in self._first:
                self._first[target.name, digest] = Future()
                self._first[target.name, digest].set_result(host)
