"""A host's trigger socket, heard from the admin's side. Whoever answers there is unknown."""

import socket
import time
from collections.abc import Iterator

from bento.errors import EnvironmentFailed
from bento.models.limits import LIMITS
from bento.models.trigger import TriggerPlace

_CONNECT = 10.0  # seconds
_PIECE = 4096  # bytes


def lines(place: TriggerPlace) -> Iterator[str]:
    """Connect, send nothing, and give each line without its end, as it came: control characters and all.

    Ends with the connection, and with what is too long, too much or too late. Raises EnvironmentFailed where nobody
    listens, or where he is silent for too long.
    """
    try:
        connection = socket.create_connection((place.address, place.port), timeout=_CONNECT)
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise EnvironmentFailed(
            f"can't reach {place}: {why}",
            "is services.bento.trigger.enable on there, and is its port open to this machine?",
        ) from None
    deadline = time.monotonic() + LIMITS.trigger_time
    left, rest = LIMITS.trigger, b""
    with connection:
        while left > 0 and (wait := min(LIMITS.trigger_silence, deadline - time.monotonic())) > 0:
            connection.settimeout(wait)
            try:
                piece = connection.recv(min(_PIECE, left))
            except TimeoutError:
                raise EnvironmentFailed(f"{place} doesn't answer", "see how the host is: bento status") from None
            except OSError:
                break  # cut off: what was said so far stands
            if not piece:
                break
            left -= len(piece)
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
