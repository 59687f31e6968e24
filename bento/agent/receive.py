"""`bento-agent receive`: take a release that the admin pushes, by the same rules as one that was polled.

Only two things differ: the release is read from a stream, and it is the admin's coming back that confirms the switch.
"""

import os
import select
import time
from collections.abc import Callable
from dataclasses import replace

from bento.adapters.files import store
from bento.adapters.sftp import NotThere, ServerAway
from bento.agent.host import Confirmation, Host
from bento.agent.link import MANIFEST as MANIFEST_PATH
from bento.agent.run import Ran, run
from bento.errors import EnvironmentFailed, InputError, Refused
from bento.models.limits import LIMITS
from bento.models.push import MANIFEST, OPENING, parse_head
from bento.names import Serial

_CHUNK = 256 * 1024
_PAUSE = 0.1  # seconds between two looks for the admin


class Pushed:
    """The stream in place of a session with a server: it is read once, forwards, and never more than is wanted."""

    def __init__(self, descriptor: int, silence: float = LIMITS.push_silence) -> None:
        self._descriptor = descriptor
        self._silence = silence
        self._opened = False
        self._parts = 0

    def read(self, path: str, limit: int) -> bytes:
        """A whole part of at most `limit` bytes. Raises as `stream` does."""
        chunks: list[bytes] = []
        self.stream(path, limit, chunks.append)
        return b"".join(chunks)

    def stream(self, path: str, limit: int, sink: Callable[[bytes], object]) -> None:
        """Hand a part to `sink`; those before it are passed over.

        Raises NotThere where the stream hasn't got it, Refused for another form, ServerAway where it broke off.
        """
        wanted = MANIFEST if path == MANIFEST_PATH else path.rpartition("/")[2]
        while True:
            name, size = self._next()
            if name == wanted:
                if size > limit:
                    raise Refused(f"{wanted} in the pushed stream is larger than {limit} bytes")
                self._take(size, sink)
                return
            if size > LIMITS.config:
                raise Refused("a part of the pushed stream is too large")
            self._take(size, lambda _: None)

    def put(self, path: str, data: bytes) -> None:
        """Reports go to the server, not back this way. Raises EnvironmentFailed."""
        del path, data
        raise EnvironmentFailed("a push takes none; the next poll sends it")

    def _next(self) -> tuple[str, int]:
        if not self._opened:
            opening = self._line()
            if opening != OPENING:
                if OPENING.startswith(opening):
                    raise ServerAway("the pushed stream broke off")
                raise Refused("the pushed stream is not one that bento push writes")
            self._opened = True
        self._parts += 1
        if self._parts > LIMITS.secrets + 2:
            raise Refused("the pushed stream has too many parts")
        line = self._line()
        if not line:
            raise NotThere("the pushed stream has ended")
        if not line.endswith(b"\n") and len(line) < LIMITS.push_head:
            raise ServerAway("the pushed stream broke off")
        try:
            return parse_head(line)
        except InputError as error:
            raise Refused(error.message) from None

    def _line(self) -> bytes:
        line = b""
        while len(line) < LIMITS.push_head and not line.endswith(b"\n"):
            byte = self._some(1)
            if not byte:
                break
            line += byte
        return line

    def _take(self, size: int, sink: Callable[[bytes], object]) -> None:
        left = size
        while left:
            chunk = self._some(min(left, _CHUNK))
            if not chunk:
                raise ServerAway("the pushed stream broke off")
            left -= len(chunk)
            sink(chunk)

    def _some(self, size: int) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], self._silence)
        if not ready:
            raise ServerAway(f"the pushed stream stood still for {self._silence:.0f} seconds")
        return os.read(self._descriptor, size)


def receive(host: Host, descriptor: int, announce: Callable[[Serial], None]) -> Ran:
    """One run with what comes on `descriptor`. `announce` is called when the admin is to come back and confirm.

    Raises as `run` does.
    """

    def reached(seconds: float) -> bool:
        return _admin_comes(host, seconds, announce)

    asking = replace(host, confirmation=Confirmation(reached, "the admin did not come back"))
    return run(asking, Pushed(descriptor))


def _admin_comes(host: Host, seconds: float, announce: Callable[[Serial], None]) -> bool:
    """Wait for `confirm` (agent/control.py), which removes the file: whoever removes it decides."""
    floor = host.state.floor()
    if floor is None:
        raise AssertionError("a release is being taken, so there is a floor")
    store(host.state.awaiting, b"%d\n" % floor.serial, 0o600)
    announce(floor.serial)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not host.state.awaiting.exists():
            return True
        time.sleep(_PAUSE)
    try:
        host.state.awaiting.unlink()
    except FileNotFoundError:
        return True
    return False
