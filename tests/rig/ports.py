"""Ports for servers that somebody else binds, and that keep theirs while they are stopped."""

import random
import socket
from pathlib import Path

_TRIES = 100


def free_port(address: str = "127.0.0.1") -> int:
    """A port of `address` that nobody listens on, below those that the kernel gives out by itself.

    One of the kernel's may go to any connection before the server has bound it, or between its stop and its start.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(_TRIES):
        port = random.randrange(lowest // 2, lowest)  # noqa: S311 — several sessions at once need different ones
        with socket.socket(family) as probe:
            try:
                probe.bind((address, port))
            except OSError as error:
                last = error
                continue
        return port
    raise RuntimeError(f"no port of {address} is free: {last}")
