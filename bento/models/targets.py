"""Where releases go, as `publish.to` names it: a folder on this machine, or one that is reached by SFTP."""

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from bento.errors import InputError
from bento.models.trust import bracketed, parse_address
from bento.names import printable
from bento_secrets.ssh_keys import SshPublicKey

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")
_SECRET = re.compile(r"//[^/@]*:[^/]*@")  # nobody's password is shown, however wrong the rest is
_BARE_IPV6 = re.compile(r"://([^/@]*@)?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/|$)")
_EXAMPLE = 'write it as "sftp://user@server:22/home/chroot"'
_KEY_TYPES = ("ssh-", "ecdsa-", "sk-")
_PLACE = re.compile(r"\[([^\]]*)\]:([0-9]{1,5})")
_PLACE_EXAMPLE = "[server.example.org]:2222 ssh-ed25519 …"
PORT = 22
_MOST = 65535


@dataclass(frozen=True)
class SftpPlace:
    """`sftp://user@address:port/path`; `path` is absolute on the server, as that user sees it."""

    user: str
    address: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"sftp://{self.user}@{bracketed(self.address)}{'' if self.port == PORT else f':{self.port}'}{self.path}"


@dataclass(frozen=True)
class ServerKey:
    """A server's pinned key. Without an `address` it may be that of any server that is published to."""

    key: SshPublicKey
    address: str | None = None
    port: int = PORT

    def is_for(self, address: str, port: int) -> bool:
        """Whether the server there may show it."""
        return self.address is None or (self.address.lower(), self.port) == (address.lower(), port)


def parse_server_key(text: str) -> ServerKey:
    """A line `TYPE KEY`, or as in known_hosts `ADDRESS TYPE KEY` or `[ADDRESS]:PORT TYPE KEY`. Raises InputError."""
    first, _, rest = text.partition(" ")
    if not rest.startswith(_KEY_TYPES) or first.startswith(_KEY_TYPES):
        return ServerKey(SshPublicKey.parse(text))
    place = _PLACE.fullmatch(first)
    if place is None:
        return ServerKey(SshPublicKey.parse(rest), parse_address(first))
    port = int(place[2])
    if not 0 < port <= _MOST:
        raise InputError(f"'{printable(first)}' names no port", f"write it as in known_hosts: {_PLACE_EXAMPLE}")
    return ServerKey(SshPublicKey.parse(rest), parse_address(place[1]), port)


def parse_target(text: str) -> str | SftpPlace:
    """A folder's path as it is written, or the place an sftp:// URL names. Raises InputError."""
    shown = printable(_SECRET.sub("//…@", text), 120).replace("\\u2026", "…")
    if "://" not in text:
        if not text or "\0" in text:
            raise InputError("an empty name is no folder", 'for example: to = "/home/chroot"')
        return text
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        bare = _BARE_IPV6.search(text) is not None
        hint = 'an IPv6 address stands in brackets: "sftp://user@[2001:db8::7]:22/home/chroot"' if bare else _EXAMPLE
        raise InputError(f"'{shown}' is no URL", hint) from None
    if url.scheme != "sftp":
        raise InputError(f"'{shown}': releases go to a folder or to sftp://", _EXAMPLE)
    if url.password is not None:
        raise InputError(
            "a password has no place in bento.toml", "log in with a key: an ssh-agent's, or publish.identity"
        )
    if not url.username:
        raise InputError(f"'{shown}' names no user", _EXAMPLE)
    if not _USER.fullmatch(url.username):
        raise InputError(f"'{printable(url.username)}' is no user's name", _EXAMPLE)
    if not url.hostname:
        raise InputError(f"'{shown}' names no server", _EXAMPLE)
    if url.query or url.fragment or not text.isprintable() or port == 0:
        raise InputError(f"'{shown}' is no URL of a folder", _EXAMPLE)
    path = unquote(url.path, errors="strict") if url.path.isascii() else url.path
    if not path.startswith("/") or "\0" in path:
        raise InputError(f"'{shown}' names no folder on the server", _EXAMPLE)
    path = posixpath.normpath("/" + path.lstrip("/"))
    try:
        return SftpPlace(url.username, parse_address(url.hostname), port or PORT, path)
    except InputError as error:
        raise InputError(error.message, _EXAMPLE) from None
