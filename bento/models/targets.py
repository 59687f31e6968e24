"""Where releases go, as `publish.to` names it: a folder on this machine, or one that is reached by SFTP."""

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from bento.errors import InputError
from bento.models.trust import parse_address
from bento.names import printable

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")
_SECRET = re.compile(r"//[^/@]*:[^/]*@")  # nobody's password is shown, however wrong the rest is
_EXAMPLE = 'write it as "sftp://user@server:22/home/chroot"'
PORT = 22


@dataclass(frozen=True)
class SftpPlace:
    """`sftp://user@address:port/path`; `path` is absolute on the server, as that user sees it."""

    user: str
    address: str
    port: int
    path: str

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"sftp://{self.user}@{address}{'' if self.port == PORT else f':{self.port}'}{self.path}"


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
        raise InputError(f"'{shown}' is no URL", _EXAMPLE) from None
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
