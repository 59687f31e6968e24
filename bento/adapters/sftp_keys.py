"""How a publisher logs in: with the key that is named, else with what an ssh-agent or the home folder offers."""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from bento.adapters import ssh_at_once
from bento.adapters.lean import paramiko
from bento.adapters.sftp import Authenticate
from bento.errors import InputError, WorkFailed
from bento_secrets.ssh_keys import SshPublicKey

_USUAL = ("id_ed25519", "id_rsa")
_MOST = 5  # tries: OpenSSH lets go after six


def publisher(user: str, where: str, identity: Path | None) -> Authenticate:
    """Log in as `user` at the server `where`. The result raises InputError without a key, WorkFailed if refused."""

    def authenticate(transport: paramiko.Transport) -> None:
        tried = 0
        for key in _offered(identity):
            tried += 1
            try:
                ssh_at_once.auth_publickey(transport, user, key)
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    raise
            else:
                return
            if tried == _MOST:
                break
        if not tried:
            raise InputError(
                f"there is no key to log in at {where} with",
                "load one into an ssh-agent: ssh-add",
                'or name one in bento.local.toml: [publish] identity = "~/.ssh/id_ed25519"',
            )
        raise WorkFailed(
            f"the server {where} doesn't let {user} in",
            f"try it: ssh-copy-id {user}@…, or name the right key in bento.local.toml: [publish] identity",
        )

    return authenticate


def _offered(identity: Path | None) -> Iterator[paramiko.PKey]:
    if identity is not None:
        yield _named(identity)
        return
    yield from _agent_keys()
    for name in _USUAL:
        try:
            yield paramiko.PKey.from_path(Path.home() / ".ssh" / name)
        except (OSError, ValueError, paramiko.SSHException):
            continue  # not there, or with a passphrase: then it is the agent's to offer


def _agent_keys() -> tuple[paramiko.AgentKey, ...]:
    try:
        return paramiko.Agent().get_keys()
    except (OSError, paramiko.SSHException):
        return ()


def _named(path: Path) -> paramiko.PKey:
    """The key in the file; where that is a public half, or locked by a passphrase, the ssh-agent's of the same key."""
    if not path.is_file():
        raise InputError(f"the key {path} isn't there", "name another: [publish] identity in bento.local.toml")
    if path.suffix != ".pub":
        try:
            return paramiko.PKey.from_path(path)
        except (paramiko.PasswordRequiredException, TypeError):
            path = path.with_name(path.name + ".pub")
        except (OSError, ValueError, paramiko.SSHException):
            raise InputError(f"the key {path} can't be used to log in", "it must be a private key") from None
    hint = f"load it into an ssh-agent: ssh-add {quote(str(path.with_suffix('')))}"
    try:
        blob = SshPublicKey.parse(path.read_text("utf-8")).blob
    except (OSError, UnicodeDecodeError):
        raise InputError(f"the key {path.with_suffix('')} has a passphrase, and {path} can't be read", hint) from None
    for key in _agent_keys():
        if key.asbytes() == blob:
            return key
    raise InputError(f"the ssh-agent doesn't hold the key {path}", hint)
