"""Which host keys an SSH server shows: nobody logs in, and nothing is trusted."""

import socket
from collections.abc import Sequence

from bento.adapters import sftp as _sftp  # noqa: F401 — paramiko's thread is quiet once that module is there
from bento.adapters.bounded import transport_over
from bento.adapters.lean import paramiko
from bento.errors import EnvironmentFailed, InputError
from bento.models.trust import bracketed
from bento_secrets.ssh_keys import SshPublicKey

KINDS = ("ssh-ed25519", "ssh-rsa")  # what a host key may be: age can seal to these (secrets/README.md)
_NAMES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # as a server offers them


def shown_keys(address: str, port: int, timeout: float, kinds: Sequence[str] = KINDS) -> tuple[SshPublicKey, ...]:
    """The server's key of each kind that it has, in the order of `kinds`. `timeout` in seconds, for each kind.

    Raises EnvironmentFailed where no SSH server answers.
    """
    found = []
    for kind in kinds:
        key = _shown(address, port, timeout, kind)
        if key is not None:
            found.append(key)
    return tuple(found)


def _shown(address: str, port: int, timeout: float, kind: str) -> SshPublicKey | None:
    where = f"{bracketed(address)}:{port}"
    try:
        connection = socket.create_connection((address, port), timeout=timeout)
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise EnvironmentFailed(f"can't reach {where}: {why}", "look at the address, and at the network") from None
    transport = None
    try:
        transport, _ = transport_over(connection)
        transport.banner_timeout = timeout
        transport.get_security_options().key_types = _NAMES.get(kind, (kind,))
        transport.start_client(timeout=timeout)
        key = transport.get_remote_server_key()
        return SshPublicKey.parse(f"{key.get_name()} {key.get_base64()}")
    except (paramiko.ssh_exception.IncompatiblePeer, ValueError):
        return None  # it has none of this kind; or paramiko doesn't know the kind
    except InputError as error:
        raise EnvironmentFailed(
            f"{where} shows a key that is none: {error.message}", "see what it shows: ssh-keyscan ADDRESS"
        ) from None
    except (OSError, EOFError, paramiko.SSHException):
        raise EnvironmentFailed(f"{where} doesn't speak SSH", "look at the port: --scan ADDRESS:PORT") from None
    finally:
        if transport is not None:
            transport.close()
        connection.close()
