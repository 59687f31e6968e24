"""`utils/trust.toml`: what every host knows of its fleet, and nothing more. Read without pydantic (poll path)."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.strict import Source, Table, parse_toml
from bento.names import printable
from bento_secrets.ssh_keys import SshPublicKey

NAMESPACE_RELEASE = "bento-release"
NAMESPACE_REPORT = "bento-report"


@dataclass(frozen=True)
class Server:
    """One SFTP server (a mirror is one too). `timeout` in seconds; nobody but one of `host_keys` is accepted.

    An IPv6 `address` is without brackets. `proxy_command` is the program, with its arguments, that makes the connection
    in place of TCP: what it reads goes to the server, what it prints comes from there.
    """

    address: str
    port: int
    host_keys: tuple[SshPublicKey, ...]
    timeout: int
    proxy_command: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """`address:port`, or `[IPv6]:port`."""
        return f"{bracketed(self.address)}:{self.port}"

    @property
    def proxy_argv(self) -> tuple[str, ...]:
        """The proxy command with the address for `%h` and the port for `%p`."""
        values = {"%h": self.address, "%p": str(self.port)}
        return tuple(_PLACEHOLDER.sub(lambda found: values[found[0]], word) for word in self.proxy_command)


@dataclass(frozen=True)
class Trust:
    """Whom a host believes: releases signed by `signers` for `fleet`, from `servers`. No signer is `revoked`."""

    fleet: str
    signers: tuple[SshPublicKey, ...]
    servers: tuple[Server, ...]
    revoked: tuple[SshPublicKey, ...] = ()


def parse_fleet_name(text: str) -> str:
    """A fleet's name: 1 to 64 of A-Z a-z 0-9 . _ -, or InputError."""
    plain = text.replace("-", "").replace("_", "").replace(".", "")
    if not (0 < len(text) <= 64 and plain.isascii() and plain.isalnum()):  # noqa: PLR2004 — as the docstring says
        raise InputError(f"'{printable(text)}' is no fleet name", "use 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


_EXAMPLE = "for example: bento.example.org"
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,32}")  # a link's name
_LABEL = 63  # characters: DNS's limit
_PLACEHOLDER = re.compile("%[hp]")
_PROXY_EXAMPLE = 'for example: ["corkscrew", "proxy.example.org", "8080", "%h", "%p"]'


def parse_address(text: str) -> str:
    """A host name or IP address, the latter without the brackets that it may stand in. Raises InputError."""
    wrong = InputError(f"'{printable(text)}' is no host name or IP address", _EXAMPLE)
    if not text or len(text) > 255 or not text.isascii() or not text.isprintable() or set(text) & set(" /@\"'"):  # noqa: PLR2004 — DNS's limit
        raise wrong
    if text.startswith("-"):  # a proxy command would take it for an option
        raise wrong
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare or bare != text:
        if not _is_ipv6(bare):
            said = f"'{printable(text)}' is no host name or IP address"
            raise InputError(said, _EXAMPLE, "a port has a setting of its own") from None
        return bare
    *labels, last = text.split(".")  # as a look-up has them; one that ends with a dot is whole
    if not all(0 < len(label) <= _LABEL for label in labels) or len(last) > _LABEL:
        raise wrong
    return text


def bracketed(address: str) -> str:
    """An address as it stands before a port: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def _is_ipv6(text: str) -> bool:
    number, percent, zone = text.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6, number)
    except OSError:
        return False
    return not percent or _ZONE.fullmatch(zone) is not None


def parse_proxy_command(words: tuple[str, ...]) -> tuple[str, ...]:
    """A program with its arguments, `%h` and `%p` in them: no shell reads it. Raises InputError."""
    if len(words) > LIMITS.args:
        raise InputError(f"it has more than {LIMITS.args} words", _PROXY_EXAMPLE)
    for word in words:
        if not word.isprintable():
            raise InputError("it has a character in it that can't be printed", _PROXY_EXAMPLE)
        if "%" in _PLACEHOLDER.sub("", word):
            raise InputError(
                f"'{printable(word)}': only %h, the address, and %p, the port, may follow a %", _PROXY_EXAMPLE
            )
    if words and (not words[0] or "%" in words[0]):
        raise InputError("its first word must be a program", _PROXY_EXAMPLE)
    return words


def _keys(table: Table, key: str, texts: tuple[str, ...]) -> tuple[SshPublicKey, ...]:
    return tuple(table.parse(key, text, SshPublicKey.parse) for text in texts)


def _server(table: Table) -> Server:
    address = table.parse("address", table.text("address"), parse_address)
    keys = _keys(table, "host_keys", table.texts("host_keys"))
    if not keys:
        raise table.wrong(
            "host_keys",
            "is empty: a host would accept no server",
            "put the line of the server's /etc/ssh/ssh_host_ed25519_key.pub there",
        )
    port = table.number("port", 22, least=1, most=65535)
    timeout = table.number("timeout", 20, least=1, most=600)
    try:
        proxy = parse_proxy_command(table.texts("proxy_command", ()))
    except InputError as error:
        raise table.wrong("proxy_command", f"is wrong: {error.message}", *error.hints) from None
    server = Server(address, port, keys, timeout, proxy)
    table.done()
    return server


def parse_trust(text: str, name: str = "trust.toml") -> Trust:
    """The trust file's content. Raises InputError naming file, line and key."""
    table = Table(Source(name, text), parse_toml(text, name))
    table.number("format", least=1, most=1)
    fleet = table.parse("fleet", table.text("fleet"), parse_fleet_name)
    signers = _keys(table, "signers", table.texts("signers"))
    revoked = _keys(table, "revoked", table.texts("revoked", ()))
    usable = tuple(key for key in signers if key.blob not in {one.blob for one in revoked})
    if not usable:
        raise table.wrong(
            "signers", "names nobody whose signature a host could accept", "put the signing key's .pub line there"
        )
    servers = tuple(_server(server) for server in table.tables("servers"))
    if not servers:
        raise table.wrong("servers", "is empty", "add a [[servers]] table with address, port and host_keys")
    table.done()
    return Trust(fleet, usable, servers, revoked)


def read_trust(path: Path) -> Trust:
    """`parse_trust` of a file. Raises InputError."""
    try:
        return parse_trust(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"can't read {path}: {why}", "it is the fleet's utils/trust.toml") from None
