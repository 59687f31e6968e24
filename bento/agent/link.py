"""Reaching the server: the first of the trust file's servers that answers, and whether it still does."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bento.agent.host import Host
from bento.errors import BentoError

if TYPE_CHECKING:  # paramiko is imported only when a connection is wanted
    from bento.adapters.sftp import Session

_PAUSE = 2.0  # seconds between two probes
MANIFEST = "release/manifest"


@contextmanager
def connected(host: Host) -> "Iterator[Session]":
    """A session with the first server that answers, in the trust file's order. Raises what the last one did."""
    from bento.adapters.sftp import ServerAway, connect

    servers = host.trust.servers
    with ExitStack() as stack:
        for number, server in enumerate(servers):
            try:
                session = stack.enter_context(connect(server, host.name, host.settings.identities[0]))
                break
            except ServerAway as error:
                if number + 1 == len(servers):
                    raise
                host.say(error.message)
        yield session


def reachable_within(host: Host, seconds: float) -> bool:
    """Whether the server lets this host in and shows a manifest before the deadline. Tries at least once."""
    from bento.models.limits import LIMITS

    deadline = time.monotonic() + seconds
    while True:
        try:
            with connected(host) as session:
                session.read(MANIFEST, LIMITS.manifest)
        except BentoError as error:
            host.say(f"not confirmed yet: {error.message}")
        else:
            return True
        if time.monotonic() + _PAUSE > deadline:
            return False
        time.sleep(_PAUSE)
