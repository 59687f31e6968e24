"""An SFTP server on loopback for the demo and the tests, made of paramiko's server side. It is no server for a fleet.

What sshd's chroot and file modes do for a real one, it does itself, because it runs as the user who started it: a login
sees its own folder as `/`, reads in it, writes below `/reports` only, and gets through no symlink.
"""

import ipaddress
import logging
import os
import posixpath
import socket
import socketserver
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, OPEN_SUCCEEDED
from paramiko.sftp import SFTP_FAILURE, SFTP_OK, SFTP_PERMISSION_DENIED

from bento.errors import InputError
from bento_secrets.durable import folder, folder_at
from bento_secrets.ssh_keys import SshPublicKey

Accounts = Mapping[str, Sequence[SshPublicKey]]  # by login; also the name of its folder

_WRITABLE = "reports"
_LONGEST_READ = 256 * 1024  # bytes that one request gets at most; clients ask again for the rest
_PATIENCE = 30.0  # seconds for a key exchange, and for a login

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

P = ParamSpec("P")
R = TypeVar("R")

logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


@dataclass(frozen=True)
class Server:
    """A running server."""

    address: str
    port: int


@contextmanager
def serving(
    root: Path, accounts: Accounts, host_key: Path, *, address: str = "127.0.0.1", port: int = 0
) -> Iterator[Server]:
    """Serve ROOT/LOGIN to each login, on a thread, until the block ends. Port 0: any free one.

    Raises InputError for an address that isn't loopback, OSError where it can't listen.
    """
    family = _family(address)
    key = paramiko.PKey.from_path(host_key)
    with _Listener(family, (address, port), root, accounts, key) as listener:
        # The default, half a second, is what stopping would take.
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield Server(address, listener.server_address[1])
        finally:
            listener.shutdown()
            thread.join()
            listener.drop_sessions()


def _family(address: str) -> socket.AddressFamily:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise InputError(f"'{address}' is no IP address", "use 127.0.0.1") from None
    if parsed in ipaddress.ip_network("127.0.0.0/8"):
        return socket.AF_INET
    if parsed == ipaddress.ip_address("::1"):
        return socket.AF_INET6
    raise InputError(f"the embedded server listens on loopback only, not on {address}", "use 127.0.0.1")


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self,
        family: socket.AddressFamily,
        where: tuple[str, int],
        root: Path,
        accounts: Accounts,
        host_key: paramiko.PKey,
    ) -> None:
        self.address_family = family
        self._root = root
        self._blobs = {login: frozenset(key.blob for key in keys) for login, keys in accounts.items()}
        self._host_key = host_key
        self._sessions: set[paramiko.Transport] = set()
        super().__init__(where, socketserver.BaseRequestHandler)

    def finish_request(self, request: object, client_address: object) -> None:  # noqa: ARG002 — socketserver's interface
        """One connection, from key exchange to its end. Runs on a thread of its own."""
        if not isinstance(request, socket.socket):
            return
        transport = paramiko.Transport(request)
        self._sessions.add(transport)
        try:
            transport.add_server_key(self._host_key)
            transport.auth_timeout = transport.handshake_timeout = _PATIENCE
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files)
            transport.start_server(server=_Login(transport, self._root, self._blobs))
            transport.join()
        except (OSError, EOFError, paramiko.SSHException):
            pass  # the client went, or didn't speak SSH
        finally:
            transport.close()
            self._sessions.discard(transport)

    def drop_sessions(self) -> None:
        """End the connections that are still open."""
        for transport in tuple(self._sessions):
            transport.close()


class _Login(paramiko.ServerInterface):
    """Who may log in: the accounts with their own keys, to a session that is SFTP and nothing else."""

    def __init__(self, transport: paramiko.Transport, root: Path, blobs: Mapping[str, frozenset[bytes]]) -> None:
        self._transport = transport
        self._root = root
        self._blobs = blobs

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002 — paramiko's interface
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL if key.asbytes() in self._blobs.get(username, ()) else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002 — paramiko's interface
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def chroot(self) -> Path:
        """The folder of who has logged in."""
        login = self._transport.get_username()
        if login is None or login not in self._blobs:
            raise PermissionError("nobody has logged in")
        return self._root / login


def _answering(function: Callable[P, R]) -> Callable[P, R | int]:
    """An OSError, or a path that can't be one, becomes the status that SFTP has for it."""

    @wraps(function)
    def answer(*args: P.args, **kwargs: P.kwargs) -> R | int:
        try:
            return function(*args, **kwargs)
        except PermissionError:
            return SFTP_PERMISSION_DENIED
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        except ValueError:
            return SFTP_FAILURE

    return answer


class _Files(paramiko.SFTPServerInterface):
    """One login's files. What isn't here (links, folders to make or remove) SFTP answers with "not supported"."""

    def __init__(self, server: paramiko.ServerInterface) -> None:
        super().__init__(server)
        if not isinstance(server, _Login):
            raise TypeError("this is no session of ours")
        self._root = server.chroot()

    @contextmanager
    def _at(self, path: str, *, writing: bool = False) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that `path` is in, and its name there. No symlink is followed on the way.

        Raises PermissionError where the login may not write.
        """
        parts = _parts(path)
        if writing and not (len(parts) > 1 and parts[0] == _WRITABLE):
            raise PermissionError
        with folder(self._root) as top, folder_at(top, parts[:-1]) as parent:
            yield parent, parts[-1] if parts else "."

    @_answering
    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle:  # noqa: ARG002 — SFTP's
        writing = flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND) != os.O_RDONLY
        safe = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._at(path, writing=writing) as (parent, name):
            descriptor = os.open(name, flags | safe, 0o644, dir_fd=parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PermissionError
        return _File(descriptor)

    @_answering
    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes]:
        with folder(self._root) as top, folder_at(top, _parts(path)) as here, os.scandir(here) as entries:
            return [
                paramiko.SFTPAttributes.from_stat(entry.stat(follow_symlinks=False), entry.name) for entry in entries
            ]

    @_answering
    def lstat(self, path: str) -> paramiko.SFTPAttributes:
        with self._at(path) as (parent, name):
            return paramiko.SFTPAttributes.from_stat(os.stat(name, dir_fd=parent, follow_symlinks=False))

    @_answering
    def stat(self, path: str) -> paramiko.SFTPAttributes:
        with self._at(path) as (parent, name):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise PermissionError
        return paramiko.SFTPAttributes.from_stat(status)

    @_answering
    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        with self._at(path, writing=True) as (parent, name):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            return _change(descriptor, attr)

    @_answering
    def remove(self, path: str) -> int:
        with self._at(path, writing=True) as (parent, name):
            os.unlink(name, dir_fd=parent)
        return SFTP_OK

    @_answering
    def posix_rename(self, oldpath: str, newpath: str) -> int:
        with self._at(oldpath, writing=True) as (source, old), self._at(newpath, writing=True) as (target, new):
            os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
        return SFTP_OK

    @_answering
    def rename(self, oldpath: str, newpath: str) -> int:
        """SFTP's own rename, which replaces nothing."""
        with self._at(oldpath, writing=True) as (source, old), self._at(newpath, writing=True) as (target, new):
            os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            os.unlink(old, dir_fd=source)
        return SFTP_OK


def _parts(path: str) -> tuple[str, ...]:
    """A client's path from its `/` on, with `..` taken at its word and never above `/`."""
    return tuple(part for part in posixpath.normpath("/" + path).split("/") if part)


def _change(descriptor: int, attr: paramiko.SFTPAttributes) -> int:
    """Set the mode, closing the descriptor. Owners and times are the server's."""
    try:
        if attr.st_mode is not None:
            os.fchmod(descriptor, attr.st_mode & 0o777)
    finally:
        os.close(descriptor)
    return SFTP_OK


class _File(paramiko.SFTPHandle):
    """An open file."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)

    @_answering
    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, min(length, _LONGEST_READ), offset)

    @_answering
    def write(self, offset: int, data: "ReadableBuffer") -> int:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
        return SFTP_OK

    @_answering
    def stat(self) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self._descriptor))

    @_answering
    def chattr(self, attr: paramiko.SFTPAttributes) -> int:
        return _change(os.dup(self._descriptor), attr)
