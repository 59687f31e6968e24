"""paramiko's transport, with a bound on what the other side may send: paramiko itself takes packets of 4 GiB.

Anybody on the way can send them, before any key was shown. And with no wait for receipts while it logs in.
"""

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from bento.adapters.lean import paramiko
from bento.models.limits import LIMITS

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Packets(paramiko.packet.Packetizer):
    """What is read of the connection. Until `logged_in` all of it together is bounded, afterwards each packet."""

    _left: int | None = LIMITS.login
    connection: socket.socket

    def logged_in(self) -> None:
        """From here on the session's own bounds hold (wire.py)."""
        self._left = None

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 — paramiko's
        """As paramiko does it. Raises SSHException for too much."""
        if n > LIMITS.ssh_packet:
            raise paramiko.SSHException("a packet is too large")
        self._spend(n)
        return super().read_all(n, check_rekey)

    def write_all(self, out: "ReadableBuffer") -> None:
        """As paramiko does it."""
        super().write_all(out)
        # sshd holds its next small packet back until it has a receipt for the one before, which the kernel would
        # send up to 40 ms later. It forgets again that it is to send receipts at once.
        if self._left is not None and hasattr(socket, "TCP_QUICKACK"):  # Linux has it
            with suppress(OSError):  # a proxy command's connection is no TCP
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

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
    packets = cast("Packets", transport.packetizer)
    packets.connection = connection
    return transport, packets
