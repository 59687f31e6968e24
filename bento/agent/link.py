"""Reaching the server: the first of the trust file's servers that this host can use, and whether it still does."""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from bento.agent.host import Host
from bento.core import spool
from bento.errors import BentoError, InputError, Refused
from bento.models.trust import Server
from bento.names import HostName

_PAUSE = 2.0  # seconds between two probes
_LEAST = 1.0  # seconds that a probe gets, however late it is
MANIFEST = "release/manifest"


class Session(Protocol):
    """What a run reads a release from and puts reports into: a server's (adapters/sftp.py), or a push (receive.py)."""

    def read(self, path: str, limit: int) -> bytes:
        """A whole file of at most `limit` bytes."""

    def stream(self, path: str, limit: int, sink: Callable[[bytes], object]) -> None:
        """Hand a file of at most `limit` bytes to `sink` in pieces."""

    def put(self, path: str, data: bytes) -> None:
        """Write a file."""


def in_order(servers: tuple[Server, ...], host: HostName) -> tuple[Server, ...]:
    """This host's own order of the servers: always the same, and another for another host, so the load is spread.

    Each pair of host and server has a fixed rank, so a server that is added or taken away moves no other host.
    """

    def rank(server: Server) -> bytes:
        return hashlib.sha256(f"{host}\0{server.address}\0{server.port}".encode()).digest()

    return tuple(sorted(servers, key=rank))


@contextmanager
def connected(host: Host, within: float | None = None) -> Iterator[Session]:
    """A session with the first server, in this host's order, that can be used. `within`: seconds for all of it.

    A server that is away, shows a wrong key or refuses the login is passed over, and named. If none is left: raises
    Refused if one broke a trust rule, else what the last one did; InputError for an identity that none could accept.
    """
    from bento.adapters.sftp import connect

    servers = in_order(host.trust.servers, host.name)
    failed: list[BentoError] = []
    end = None if within is None else time.monotonic() + within
    with ExitStack() as stack:
        for number, server in enumerate(servers):
            share = None if end is None else max(_LEAST, (end - time.monotonic()) / (len(servers) - number))
            try:
                session = stack.enter_context(connect(server, host.name, host.settings.identities[0], share))
                break
            except InputError:
                raise
            except BentoError as error:
                failed.append(error)
                if number + 1 < len(servers):
                    host.say(error.message)
        else:
            raise _summed_up(failed)
        yield session


@contextmanager
def admitted(host: Host) -> Iterator[Session]:
    """`connected`, tried again after a pause where a server turns this host away: after a power cut all come at once.

    Raises as `connected` does.
    """
    from bento.adapters.sftp import TurnedAway

    number = 0
    with ExitStack() as stack:
        while True:
            number += 1
            try:
                session = stack.enter_context(connected(host))
                break
            except TurnedAway as error:
                seconds = spool.pause(number, random.random())  # noqa: S311 — spreads load, guards nothing
                if seconds is None:
                    raise
                host.say(f"{error.message}; trying again in {seconds:.1f} s")
                time.sleep(seconds)
        yield session


def _summed_up(failed: list[BentoError]) -> BentoError:
    if len(failed) == 1:
        return failed[0]
    worst = next((error for error in failed if isinstance(error, Refused)), failed[-1])
    hints = dict.fromkeys(hint for error in failed for hint in error.hints)
    return type(worst)("no server can be used: " + "; ".join(error.message for error in failed), *hints)


def reachable_within(host: Host, seconds: float) -> bool:
    """Whether a server lets this host in and shows a manifest before the deadline. Tries at least once.

    No probe outlasts the deadline, however slowly a server answers. Where it isn't the server who confirms, ask him.
    """
    if host.confirmation is not None:
        return host.confirmation.reached(seconds)
    from bento.models.limits import LIMITS

    deadline = time.monotonic() + seconds
    while True:
        try:
            with connected(host, max(_LEAST, deadline - time.monotonic())) as session:
                session.read(MANIFEST, LIMITS.manifest)
        except BentoError as error:
            host.say(f"not confirmed yet: {error.message}")
        else:
            return True
        if time.monotonic() + _PAUSE > deadline:
            return False
        time.sleep(_PAUSE)
