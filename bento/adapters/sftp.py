"""The one SFTP module: a host's session with its server. Imported only when it connects: paramiko is slow."""

import logging
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import paramiko

from bento.errors import EnvironmentFailed, InputError, Refused, WorkFailed
from bento.models.trust import Server
from bento.names import HostName

# paramiko still offers these to any server that asks (facts: hmac-md5, hmac-sha1, 3des).
_WEAK = {
    "macs": ["hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"],
    "ciphers": ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"],
}
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
_CHUNK = 256 * 1024

# Its transport thread reports to a logger of its own; what matters comes to us as an exception.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class ServerAway(EnvironmentFailed):
    """The server can't be reached, or the connection broke: try again later."""


class NotThere(WorkFailed):
    """The server has no such file."""


class Session:
    """An SFTP session inside this host's chroot."""

    def __init__(self, sftp: paramiko.SFTPClient) -> None:
        self._sftp = sftp

    def read(self, path: str, limit: int) -> bytes:
        """A whole file of at most `limit` bytes. Raises NotThere, Refused when it is larger, ServerAway."""
        chunks: list[bytes] = []
        self.stream(path, limit, chunks.append)
        return b"".join(chunks)

    def stream(self, path: str, limit: int, sink: Callable[[bytes], object]) -> None:
        """Hand a file to `sink` in pieces, at most `limit` bytes. Raises as `read` does, and what `sink` raises."""
        for chunk in self._chunks(path, limit):
            sink(chunk)  # outside `_translated`: what fails in here is this machine's trouble, not the server's

    def _chunks(self, path: str, limit: int) -> Iterator[bytes]:
        doing = f"reading {path}"
        with ExitStack() as stack:
            with _translated(doing):
                file = stack.enter_context(self._sftp.open(path, "rb"))
                status = file.stat()
                if status.st_mode is not None and not stat.S_ISREG(status.st_mode):
                    raise Refused(f"{path} on the server is not a plain file")
                if (status.st_size or 0) > limit:
                    raise Refused(f"{path} on the server is larger than {limit} bytes")
                if (status.st_size or 0) > _CHUNK:
                    file.prefetch(status.st_size)
            got = 0
            while True:
                with _translated(doing):
                    chunk = file.read(_CHUNK)
                got += len(chunk)
                if got > limit:
                    raise Refused(f"{path} on the server is larger than {limit} bytes")
                if not chunk:
                    return
                yield chunk

    def put(self, path: str, data: bytes) -> None:
        """Write a file, 0644, so that a reader sees all of it or nothing: temp name, then rename."""
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.tmp"
        with _translated(f"writing {path}"):
            with self._sftp.open(temporary, "wb") as file:
                file.write(data)  # not pipelined: paramiko then drops the server's "disk full"
            self._sftp.chmod(temporary, 0o644)
            self._sftp.posix_rename(temporary, path)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotThere(f"{doing}: not there") from None
    except PermissionError:
        raise WorkFailed(f"{doing}: the server doesn't allow it") from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise ServerAway(f"{doing}: {_plain(error)}") from None


def _plain(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "".join(char if char.isprintable() else "?" for char in text)[:200]


@contextmanager
def connect(server: Server, login: HostName, identity: Path) -> Iterator[Session]:
    """Log in at `server` with the private key at `identity`; the server must prove to be one of its pinned keys.

    Raises ServerAway, Refused for another host key, InputError for an unusable identity.
    """
    where = f"{server.address}:{server.port}"
    key = _identity(identity)
    try:
        sock = socket.create_connection((server.address, server.port), timeout=server.timeout)
    except OSError as error:
        raise ServerAway(
            f"can't reach the server {where}: {error.strerror or _plain(error)}",
            "the address and port are those of [[servers]] in the trust file",
        ) from None
    try:
        transport = paramiko.Transport(sock, disabled_algorithms=_WEAK)
    except (OSError, paramiko.SSHException) as error:
        sock.close()
        raise ServerAway(f"can't reach the server {where}: {_plain(error)}") from None
    try:
        _prove(transport, server, where)
        try:
            transport.auth_publickey(login, key)
        except paramiko.AuthenticationException:
            raise WorkFailed(
                f"the server {where} doesn't let {login} in",
                "on the server: is this host's public key in that account's authorized_keys?",
                f"this host's public key: ssh-keygen -y -f {identity}",
            ) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ServerAway(f"the connection to {where} broke: {_plain(error)}") from None
        transport.set_keepalive(15)
        yield Session(_open_sftp(transport, server, where))
    finally:
        transport.close()


def _prove(transport: paramiko.Transport, server: Server, where: str) -> None:
    kinds = [kind for key in server.host_keys for kind in (_RSA if key.kind == "ssh-rsa" else (key.kind,))]
    try:
        # Ask for the kinds that are pinned: the server would else show its favourite.
        transport.get_security_options().key_types = tuple(dict.fromkeys(kinds))
        transport.start_client(timeout=server.timeout)
        shown = transport.get_remote_server_key().asbytes()
    except ValueError:
        raise InputError(f"no pinned key of {where} is of a kind that can be used here") from None
    except paramiko.ssh_exception.IncompatiblePeer:
        raise Refused(f"the server {where} has no host key of a kind that is pinned") from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise ServerAway(f"the server {where} doesn't speak: {_plain(error)}") from None
    if shown not in {key.blob for key in server.host_keys}:
        raise Refused(
            f"the server {where} shows another host key than the one in trust.toml",
            "if the server was renewed, put its new key into utils/trust.toml on the host",
        )


def _open_sftp(transport: paramiko.Transport, server: Server, where: str) -> paramiko.SFTPClient:
    try:
        sftp = paramiko.SFTPClient.from_transport(transport)
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise ServerAway(f"the server {where} gives no SFTP: {_plain(error)}") from None
    channel = sftp.get_channel() if sftp is not None else None
    if sftp is None or channel is None:
        raise ServerAway(f"the server {where} gives no SFTP")
    channel.settimeout(server.timeout)
    return sftp


def _identity(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except OSError as error:
        raise InputError(f"can't read the host key {path}: {error.strerror}", "see identities in agent.toml") from None
    except (ValueError, paramiko.SSHException):
        raise InputError(
            f"the host key {path} can't be used to log in", "it must be a private key without passphrase"
        ) from None
