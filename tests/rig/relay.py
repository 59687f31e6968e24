"""A TCP relay that a link's troubles can be put into: delay, and a cut after so many bytes."""

import queue
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self


class _Turns:
    """How often a client waited for an answer to what it had sent last, before it sent more."""

    def __init__(self) -> None:
        self.count = 0
        self._told = self._answered = -1  # the turn that the server was last told something of, and a client

    def comes(self, *, up: bool) -> int:
        """Something comes from the client (`up`) or the server; of which turn it is."""
        if up and self._answered == self.count:
            self.count += 1
        return self.count if up else self._told

    def goes(self, turn: int, *, up: bool) -> None:
        """It has arrived at the other side."""
        if up:
            self._told = turn
        else:
            self._answered = turn


class Relay:
    """Passes connections on to `address`:`to`. `delay` in seconds, each way; `cut_after`: bytes sent, then all ends."""

    def __init__(self, to: int, *, delay: float = 0, cut_after: int | None = None, address: str = "127.0.0.1") -> None:
        self._to, self._delay, self._cut_after = (address, to), delay, cut_after
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0  # bytes that clients have sent
        self.received = 0  # and got
        self._turns = _Turns()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.cut()

    @property
    def turns(self) -> int:
        """Round trips that came one after the other. Without a delay, what is under way at once drifts apart."""
        return self._turns.count

    def cut(self) -> None:
        """End every connection."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to)
                self._open += [client, server]
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pass(client, server, counted=True)
                self._pass(server, client, counted=False)

    def _pass(self, source: socket.socket, target: socket.socket, *, counted: bool) -> None:
        pieces: queue.Queue[tuple[float, int, bytes]] = queue.Queue()

        def read() -> None:
            data = b"x"
            while data:
                data = b""
                with suppress(OSError):
                    data = source.recv(65536)
                    # A link delays; it isn't this machine's kernel that holds receipts back, for which servers wait.
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                pieces.put((time.monotonic() + self._delay, self._turns.comes(up=counted), data))

        def write() -> None:
            while True:
                due, turn, data = pieces.get()
                time.sleep(max(0.0, due - time.monotonic()))
                self._turns.goes(turn, up=counted)
                if counted and self._cut_after is not None:
                    left = self._cut_after - self.sent
                    if left < len(data):
                        with suppress(OSError):
                            target.sendall(data[: max(0, left)])
                        self.cut()
                        return
                if counted:
                    self.sent += len(data)
                else:
                    self.received += len(data)
                try:
                    if not data:
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.sendall(data)
                except OSError:
                    return

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()
