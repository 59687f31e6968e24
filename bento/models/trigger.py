"""A host's trigger socket: where it is, and what is said there. One line each: `GREETING`, `polling`, now and then
`RUNNING`, and `ended CODE: WORDS`, or `not started`. It says no more, and hears nothing.
"""

import re
from dataclasses import dataclass
from typing import Final

from bento.errors import InputError
from bento.models.trust import bracketed, parse_address
from bento.names import printable

GREETING: Final = "bento-trigger 1"
RUNNING: Final = "running"
# What `bento-agent run` exits with.
WORDS: Final = {
    0: "done, or nothing new",
    1: "failed, or its server is away",
    4: "degraded",
    5: "rolled back",
    6: "refused",
    75: "busy",
}
PORT: Final = 7374  # nix/agent-options.nix
_MOST = 65535
_PLACE = re.compile(r"tcp://([^/:\[\]@]+|\[[^/\[\]@]+\])(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class TriggerPlace:
    """Where a host's trigger socket listens: `tcp://address:port`."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{bracketed(self.address)}:{self.port}"


def parse_trigger(text: str) -> TriggerPlace:
    """`tcp://ADDRESS` or `tcp://ADDRESS:PORT`, IPv6 in brackets. Raises InputError."""
    found = _PLACE.fullmatch(text)
    port = int(found[2] or PORT) if found else 0
    if found is None or not 0 < port <= _MOST:
        raise InputError(f"'{printable(text, 120)}' is no trigger socket", 'write it as "tcp://10.0.0.7:7374"')
    return TriggerPlace(parse_address(found[1]), port)
