"""A server and a host in network namespaces of their own, and a cable between them that can be pulled out."""

import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

SERVER, HOST = "192.0.2.1", "192.0.2.2"  # documentation's own (RFC 5737): they lead nowhere else
_CLONE_NEWNET = 0x40000000


class Cable:
    """`server` and `host` are the namespaces' files. Nothing leads out of either."""

    def __init__(self) -> None:
        name = f"bt{secrets.token_hex(3)}"
        self._names = (f"{name}s", f"{name}h")
        self.server, self.host = (Path("/run/netns", one) for one in self._names)
        for one in self._names:
            _ip("netns", "add", one)
        far, near = self._names
        _ip("-n", far, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", near)
        for one, address in ((far, SERVER), (near, HOST)):
            _ip("-n", one, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", one, "link", "set", "lo", "up")
            _ip("-n", one, "link", "set", "cable", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._names:
            _ip("netns", "delete", one)

    def rate(self, rate: str) -> None:
        """What the server sends comes at this rate from now on, as tc writes it."""
        words = f"tc qdisc replace dev cable root tbf rate {rate} burst 16k limit 64k"
        _ip("netns", "exec", self._names[0], *words.split())

    def cut(self) -> None:
        """Pull it out at the server's end: the host hears nothing any more, not even that."""
        _ip("-n", self._names[0], "link", "set", "cable", "down")

    def mend(self) -> None:
        """Plug it in again. What the two had found out meanwhile, that nobody is there, is forgotten."""
        _ip("-n", self._names[0], "link", "set", "cable", "up")
        for one in self._names:
            _ip("-n", one, "neighbour", "flush", "dev", "cable", "nud", "all")

    @contextmanager
    def at_the_server(self) -> Iterator[None]:
        """What this thread opens, and each thread that it starts, is in the server's namespace."""
        here, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(self.server, os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(here)
            os.close(here)
            os.close(there)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
