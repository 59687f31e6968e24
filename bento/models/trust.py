"""`utils/trust.toml`: what every host knows of its fleet, and nothing more. Read without pydantic (poll path)."""

from dataclasses import dataclass
from pathlib import Path

from bento.errors import InputError
from bento.models.strict import Source, Table, parse_toml
from bento.names import printable
from bento_secrets.ssh_keys import SshPublicKey

NAMESPACE_RELEASE = "bento-release"
NAMESPACE_REPORT = "bento-report"


@dataclass(frozen=True)
class Server:
    """One SFTP server (a mirror is one too). `timeout` in seconds; a host accepts none but `host_keys`."""

    address: str
    port: int
    host_keys: tuple[SshPublicKey, ...]
    timeout: int


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


def parse_address(text: str) -> str:
    """A host name or IP address, or InputError."""
    if not text or len(text) > 255 or not text.isascii() or not text.isprintable() or set(text) & set(" /@\"'"):  # noqa: PLR2004 — DNS's limit
        raise InputError(f"'{printable(text)}' is no host name or IP address", _EXAMPLE)
    try:
        text.encode("idna")  # what a look-up does first
    except UnicodeError:
        raise InputError(
            f"'{printable(text)}' is no host name or IP address", "for example: bento.example.org"
        ) from None
    return text


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
    server = Server(
        address, table.number("port", 22, least=1, most=65535), keys, table.number("timeout", 20, least=1, most=600)
    )
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
