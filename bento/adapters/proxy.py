"""The way to a server: by TCP, or through the program that its `proxy_command` names. Nothing on it is trusted."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from bento.adapters.process import Beside
from bento.adapters.protocol import ServerAway, plain
from bento.errors import EnvironmentFailed
from bento.models.trust import Server

_LAST = 0.5  # seconds in which a program that has closed the connection says why
_BY_HAND = "run it by hand: it should print the server's greeting, SSH-2.0-…"


class Way:
    """An open connection; `heard` is to be set once the server has greeted, so that `aside` can tell who is silent."""

    def __init__(self, connection: socket.socket, proxy: Beside | None, name: str) -> None:
        self.connection = connection
        self.heard = False
        self._proxy, self._name = proxy, name

    def aside(self) -> str:
        """What is to be added to an error: of the proxy command, its end, and what it said. Nothing without one."""
        if self._proxy is None:
            return ""
        done = self._proxy.so_far(_LAST)
        if done is not None:
            words = done.words()
            how = f"was killed by signal {-done.code}" if done.code < 0 else f"ended with exit code {done.code}"
            return f"; the {self._name} {how}" + (f": {words}" if words else "")
        return f"; it goes through the {self._name}" if self.heard else f"; the {self._name} says nothing"

    @property
    def direct(self) -> bool:
        """Whether no program is in between."""
        return self._proxy is None

    @property
    def hints(self) -> tuple[str, ...]:
        """What to do where the server wasn't heard."""
        return () if self._proxy is None or self.heard else (_BY_HAND,)


@contextmanager
def opened(server: Server, seconds: float, advice: str) -> Iterator[Way]:
    """Connect within so many seconds. Raises ServerAway with `advice` as its hint.

    A proxy command is started, and ended with all that it started when the block is left.
    """
    if not server.proxy_command:
        try:
            connection = socket.create_connection((server.address, server.port), timeout=seconds)
        except OSError as error:
            why = error.strerror or plain(str(error))
            raise ServerAway(f"can't reach the server {server.where}: {why}", advice) from None
        with connection:
            # Else a small request waits for the server's receipt of the one before it, which servers like to hold back.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield Way(connection, None, "")
        return
    name = f"proxy command {plain(server.proxy_command[0])}"
    try:
        proxy = Beside(server.proxy_argv)
    except EnvironmentFailed as error:
        raise ServerAway(
            f"can't reach the server {server.where} through the {name}: {error.message}",
            "its first word is the program, as a path or as it is found on the PATH",
        ) from None
    try:
        yield Way(proxy.connection, proxy, name)
    finally:
        proxy.end()
