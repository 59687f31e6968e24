"""Names and digests: parsed once, at the edge; from then on they travel as these types."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Self

from bento_secrets.errors import BadName

# Accounts that exist on a Debian or NixOS server: a host's name is also its SFTP login.
RESERVED_ACCOUNTS = frozenset(
    (  # noqa: SIM905 — thirty words read better than thirty lines
        "root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody sshd ftp "
        "nfsnobody messagebus systemd-network systemd-resolve systemd-timesync systemd-coredump systemd-oom polkituser "
        "nixbld nm-openvpn bento bento-hosts bento-publisher localhost"
    ).split()
)

_HOST = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_TAG = re.compile(r"[a-z0-9_][a-z0-9_-]{0,30}")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,30}\$?|0|[1-9][0-9]{0,9}")
_UNIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]{0,200}\.(service|socket|target|timer|path|mount|slice|scope)")

MAX_SEGMENTS = 4


def printable(text: str, limit: int = 80) -> str:
    """`text` for an error message: control characters and non-ASCII escaped, cut at `limit` characters."""
    shown = text[:limit]
    if not (shown.isascii() and shown.isprintable()) or "\\" in shown:
        shown = shown.encode("unicode_escape").decode("ascii")
    return shown + ("…" if len(text) > limit else "")


def did_you_mean(wrong: str, known: Iterable[str]) -> tuple[str, ...]:
    """A hint naming the closest of `known`, or nothing."""
    close = get_close_matches(wrong, sorted(known), n=1)
    return (f"did you mean {close[0]}?",) if close else ()


class HostName(str):
    """A host's name, which is also its SFTP login: `[a-z_][a-z0-9_-]{0,30}`, not a reserved account."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name, or BadName."""
        if not _HOST.fullmatch(text):
            raise BadName(
                f"'{printable(text)}' is no host name",
                "use 1 to 31 of a-z, 0-9, _ and -, beginning with a letter or _",
            )
        if text in RESERVED_ACCOUNTS:
            raise BadName(f"'{text}' is a system account, and a host's name is also its login", "choose another name")
        return cls(text)


class TagName(str):
    """A tag, without its `@`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The tag, or BadName."""
        if not _TAG.fullmatch(text):
            raise BadName(f"'{printable(text)}' is no tag", "use 1 to 31 of a-z, 0-9, _ and -")
        return cls(text)


class SecretName(str):
    """A secret's name: 1 to 4 segments of `[A-Za-z0-9_][A-Za-z0-9._-]{0,63}`, joined by `/`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name, or BadName."""
        segments = text.split("/")
        if len(segments) > MAX_SEGMENTS or not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise BadName(
                f"'{printable(text)}' is no secret name",
                "use 1 to 4 parts joined by /, each of A-Z a-z 0-9 . _ -, not beginning with . or -",
            )
        return cls(text)


def clash(name: SecretName, others: Iterable[SecretName]) -> SecretName | None:
    """The first of `others` that can't stand beside `name`: equal but for case, or a path prefix either way.

    An equal name is not a clash: whether a secret may be replaced is its caller's question.
    """
    lowered = name.lower()
    for other in others:
        if other == name:
            continue
        theirs = other.lower()
        if theirs == lowered or theirs.startswith(lowered + "/") or lowered.startswith(theirs + "/"):
            return other
    return None


class Target(str):
    """Whom a secret is for: a host's name, or `@tag`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target, or BadName."""
        if text.startswith("@"):
            TagName.parse(text[1:])
        else:
            HostName.parse(text)
        return cls(text)

    @property
    def tag(self) -> TagName | None:
        """The tag that is meant, if it is one."""
        return TagName(self[1:]) if self.startswith("@") else None


class Digest(str):
    """A sha256 as 64 lower-case hex digits."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The digest, or BadName."""
        if not _DIGEST.fullmatch(text):
            raise BadName(f"'{printable(text)}' is no sha256 digest")
        return cls(text)


def parse_account(text: str) -> str:
    """A user's or group's name or number, or BadName."""
    if not _ACCOUNT.fullmatch(text):
        raise BadName(f"'{printable(text)}' is no user or group name", "use a name or a number, as in /etc/passwd")
    return text


def parse_mode(text: str) -> str:
    """A secret file's mode as four octal digits, `0400`; three are padded. Set-id bits and execution are refused."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise BadName(f"'{printable(text)}' is no file mode", "write it in octal, for example 0400 or 0440")
    mode = int(text, 8)
    if mode & 0o111:
        raise BadName(f"mode {text} would make a secret executable", "use 0400, 0440 or 0600")
    return f"{mode:04o}"


def parse_unit(text: str) -> str:
    """A systemd unit's full name, or BadName. It can't begin with `-`, so it is never read as an option."""
    if not _UNIT.fullmatch(text):
        raise BadName(f"'{printable(text)}' is no systemd unit", "give the full name, for example nginx.service")
    return text


def parse_link_path(text: str) -> str:
    """An absolute, normal path for a secret's link: no `..`, no `.`, no empty part, no control characters."""
    parts = text.split("/")
    if (
        len(text) > 1024  # noqa: PLR2004 — well below PATH_MAX, enough for any real path
        or len(parts) < 3  # noqa: PLR2004 — a link directly under / is a mistake
        or parts[0]
        or any(part in ("", ".", "..") for part in parts[1:])
        or not text.isprintable()
    ):
        raise BadName(f"'{printable(text)}' is no path for a link", "give an absolute path, for example /etc/app/key")
    return text


def parse_all_units(texts: Sequence[str]) -> tuple[str, ...]:
    """Unit names in their given order, each once."""
    return tuple(dict.fromkeys(parse_unit(text) for text in texts))
