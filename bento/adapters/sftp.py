"""The one way to an SFTP server: logging in, and a host's session. Imported only to connect: paramiko is slow."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from bento.adapters import protocol, proxy, sftp_files, ssh_at_once
from bento.adapters.bounded import transport_over
from bento.adapters.lean import paramiko
from bento.adapters.protocol import NotThere, SaidNo, ServerAway, TurnedAway, plain
from bento.adapters.wire import Wire
from bento.errors import InputError, Refused, WorkFailed
from bento.models.limits import LIMITS
from bento.models.trust import Server
from bento.names import HostName

__all__ = ["NotThere", "ServerAway", "Session", "TurnedAway", "connect", "logged_in"]

# paramiko still offers these to any server that asks.
_WEAK = {
    "macs": ["hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"],
    "ciphers": ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"],
}
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
_KEEPALIVE = 15  # seconds
_LOGIN = 2  # times the server's timeout: what key exchange, login and opening SFTP may take together
_SENT_AT_ONCE = 2  # pieces of a report under way: a slow uplink must not look like a server that is silent

# Its transport thread reports to a logger of its own; what matters comes to us as an exception.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

Authenticate = Callable[[paramiko.Transport], None]  # raises paramiko.AuthenticationException, or what connect raises


@dataclass(frozen=True)
class Advice:
    """What to look at when the server isn't found, or shows a key that isn't pinned."""

    address: str
    renewed: str


_TO_HOSTS = Advice(
    "the address and port are those of [[servers]] in the trust file",
    "if the server was renewed, put its new key into utils/trust.toml on the host",
)


class Session:
    """An SFTP session inside this host's chroot. `timeout`: seconds that a small request may take."""

    def __init__(self, wire: Wire, timeout: float) -> None:
        self._wire = wire
        self._timeout = timeout

    def read(self, path: str, limit: int) -> bytes:
        """A whole file of at most `limit` bytes. Raises NotThere, Refused when it is larger, ServerAway."""
        chunks: list[bytes] = []
        self.stream(path, limit, chunks.append)
        return b"".join(chunks)

    def stream(self, path: str, limit: int, sink: Callable[[bytes], object]) -> None:
        """Hand a file to `sink` in pieces, at most `limit` bytes. Raises as `read` does, and what `sink` raises."""
        for chunk in self._chunks(path, limit):
            sink(chunk)  # outside `_doing`: what fails in here is this machine's trouble, not the server's

    def _chunks(self, path: str, limit: int) -> Iterator[bytes]:
        doing = f"reading {path}"
        with _doing(doing), self._wire.within(self._timeout):
            handle = self._wire.handle(
                protocol.OPEN, protocol.text(path), protocol.u32(protocol.FLAG_READ), protocol.mode_only(0)
            )
            found = protocol.expect(self._wire.ask(protocol.FSTAT, handle), protocol.ATTRS).attributes()
        if not found.is_file:
            raise Refused(f"{path} on the server is not a plain file")
        size = limit + 1 if found.size is None else found.size
        if found.size is not None and size > limit:
            raise Refused(f"{path} on the server is larger than {limit} bytes")
        got = 0
        with self._wire.within(self._timeout + size / LIMITS.slowest):
            pieces = sftp_files.read_pieces(self._wire, handle, size)
            while True:
                with _doing(doing):
                    piece = next(pieces, None)
                if piece is None:
                    break
                got += len(piece)
                if got > limit:
                    raise Refused(f"{path} on the server is larger than {limit} bytes")
                yield piece
        with _doing(doing), self._wire.within(self._timeout):
            self._wire.do(protocol.CLOSE, handle)

    def put(self, path: str, data: bytes) -> None:
        """Write a file, 0644, so that a reader sees all of it or nothing. Raises WorkFailed, ServerAway."""
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.tmp"
        flags = protocol.FLAG_WRITE | protocol.FLAG_CREATE | protocol.FLAG_TRUNCATE
        with _doing(f"writing {path}"), self._wire.within(self._timeout + len(data) / LIMITS.slowest):
            handle = self._wire.handle(
                protocol.OPEN, protocol.text(temporary), protocol.u32(flags), protocol.mode_only(0o644)
            )
            mode = protocol.mode_only(0o644)
            sftp_files.begin_write(
                self._wire, handle, data, _SENT_AT_ONCE, lambda: [self._wire.ask(protocol.FSETSTAT, handle, mode)]
            )()
            protocol.done(
                self._wire.extended("posix-rename@openssh.com", protocol.text(temporary), protocol.text(path))
            )


@contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except (SaidNo, ServerAway) as error:
        protocol.rethrow(error, what)


@contextmanager
def connect(server: Server, login: HostName, identity: Path, within: float | None = None) -> Iterator[Session]:
    """Log in at `server` with the private key at `identity`; the server must prove to be one of its pinned keys.

    `within`: seconds for the login and everything after it; without it only each request is bounded. Raises ServerAway,
    Refused for another host key, WorkFailed where it isn't let in, InputError for an unusable identity.
    """
    key = _identity(identity)
    where = server.where

    def authenticate(transport: paramiko.Transport) -> None:
        try:
            ssh_at_once.auth_publickey(transport, login, key)
        except paramiko.AuthenticationException:
            if not transport.is_active():
                raise
            raise WorkFailed(
                f"the server {where} doesn't let {login} in",
                "on the server: is this host's public key in that account's authorized_keys?",
                f"this host's public key: ssh-keygen -y -f {quote(str(identity))}",
            ) from None

    with logged_in(server, authenticate, server.timeout, within) as wire:
        yield Session(wire, server.timeout)


@contextmanager
def logged_in(
    server: Server,
    authenticate: Authenticate,
    silence: float,
    within: float | None = None,
    advice: Advice = _TO_HOSTS,
    first: Callable[[Wire], None] = lambda _: None,
) -> Iterator[Wire]:
    """An SFTP session with a server that has proved to be the pinned one. Raises as `connect` does.

    `silence`: seconds after which a server that owes an answer counts as away. `first` may send the first requests, and
    wait for nothing.
    """
    where = server.where
    began = time.monotonic()
    login = server.timeout * _LOGIN if within is None else min(within, server.timeout * _LOGIN)
    with proxy.opened(server, min(server.timeout, login), advice.address) as way:
        try:
            transport, packets = transport_over(way.connection, _WEAK)
        except (OSError, paramiko.SSHException) as error:
            raise ServerAway(f"can't reach the server {where}: {plain(str(error))}") from None
        # paramiko waits for some answers without any limit: closing the connection is what ends that.
        alarm = threading.Timer(login, transport.close)
        alarm.daemon = True
        alarm.start()
        try:
            with _broken_to(where, way, transport, began + login):
                # The alarm comes first: a login that takes too long must not look like one that was refused.
                transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = 2 * login
                _prove(transport, server, login, advice, way)
                authenticate(transport)
                transport.set_keepalive(_KEEPALIVE)
                channel = transport.open_session(timeout=login)
                ssh_at_once.start_sftp(transport, channel)
                packets.logged_in()
                wire = Wire(transport, channel, silence, way.aside)
                wire.start()
                first(wire)
                wire.greet()
            alarm.cancel()
            try:
                with wire.within(began + within - time.monotonic() if within is not None else threading.TIMEOUT_MAX):
                    yield wire
            finally:
                wire.close()
        finally:
            alarm.cancel()
            transport.close()


@contextmanager
def _broken_to(where: str, way: proxy.Way, transport: paramiko.Transport, late: float) -> Iterator[None]:
    try:
        yield
    except ServerAway as error:
        raise ServerAway(f"the server {where} gives no SFTP: {error.message}", *error.hints) from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        if way.direct and not transport.remote_version and time.monotonic() < late:
            raise TurnedAway(
                f"the server {where} hung up at once: it takes no more logins just now, or is no SSH server",
                "if it happens often: MaxStartups of its sshd must be above the number of hosts",
            ) from None
        why = (plain(str(error)) or "it was closed") + way.aside()
        raise ServerAway(f"the connection to {where} broke: {why}", *way.hints) from None


def _prove(transport: paramiko.Transport, server: Server, seconds: float, advice: Advice, way: proxy.Way) -> None:
    where = server.where
    kinds = [kind for key in server.host_keys for kind in (_RSA if key.kind == "ssh-rsa" else (key.kind,))]
    try:
        # Ask for the kinds that are pinned: the server would else show its favourite.
        transport.get_security_options().key_types = tuple(dict.fromkeys(kinds))
        try:
            transport.start_client(timeout=seconds)
        finally:
            way.heard = bool(transport.remote_version)
        shown = transport.get_remote_server_key().asbytes()
    except ValueError:
        raise WorkFailed(
            f"no pinned key of {where} is of a kind that can be used here", "pin the server's ssh-ed25519 key"
        ) from None
    except paramiko.ssh_exception.IncompatiblePeer:
        raise Refused(f"the server {where} has no host key of a kind that is pinned") from None
    if shown not in {key.blob for key in server.host_keys}:
        raise Refused(f"the server {where} shows another host key than the one that is pinned", advice.renewed)


def _identity(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except OSError as error:
        raise InputError(f"can't read the host key {path}: {error.strerror}", "see identities in agent.toml") from None
    except (ValueError, paramiko.SSHException):
        raise InputError(
            f"the host key {path} can't be used to log in", "it must be a private key without passphrase"
        ) from None
