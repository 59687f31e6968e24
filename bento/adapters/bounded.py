"""paramiko's transport, with a bound on what the other side may send: paramiko itself takes packets of 4 GiB.

Anybody on the way can send them, before any key was shown.
"""

import socket
from collections.abc import Mapping, Sequence
from typing import cast

from bento.adapters.lean import paramiko
from bento.models.limits import LIMITS


class Packets(paramiko.packet.Packetizer):
    """What is read of the connection. Until `logged_in` all of it together is bounded, afterwards each packet."""

    _left: int | None = LIMITS.login

    def logged_in(self) -> None:
        """From here on the session's own bounds hold (wire.py)."""
        self._left = None

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 — paramiko's
        """As paramiko does it. Raises SSHException for too much."""
        if n > LIMITS.ssh_packet:
            raise paramiko.SSHException("a packet is too large")
        self._spend(n)
        return super().read_all(n, check_rekey)

    def _read_timeout(self, timeout: float) -> bytes:
        # A piece of the greeting; of paramiko's types it isn't known.
        piece: bytes = super()._read_timeout(timeout)  # type: ignore[misc]
        self._spend(len(piece))
        return piece

    def _spend(self, size: int) -> None:
        if self._left is None:
            return
        self._left -= size
        if self._left < 0:
            raise paramiko.SSHException("it sends too much before a login")


def transport_over(
    connection: socket.socket, disabled: Mapping[str, Sequence[str]] | None = None
) -> tuple[paramiko.Transport, Packets]:
    """A transport, and its bounds. `disabled` are algorithms by kind. Raises OSError, SSHException."""
    transport = paramiko.Transport(connection, disabled_algorithms=disabled, packetizer_class=Packets)
    return transport, cast("Packets", transport.packetizer)
