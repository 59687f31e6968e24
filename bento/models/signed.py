"""The layout shared by manifest, report and heartbeat: one line of canonical JSON, then SSHSIG armours over it."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.names import Digest

ARMOUR_BEGIN = b"-----BEGIN SSH SIGNATURE-----\n"
ARMOUR_END = b"-----END SSH SIGNATURE-----\n"


def canonical(value: Any) -> bytes:
    """`value` as one line of JSON with its newline: sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode() + b"\n"


def sha256(data: bytes) -> Digest:
    """The digest of `data`."""
    return Digest(hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class SignedDocument:
    """`line` with its newline, exactly as signed; `armours` as ssh-keygen wrote them."""

    line: bytes
    armours: tuple[bytes, ...]

    @property
    def raw(self) -> bytes:
        """The file's bytes."""
        return self.line + b"".join(self.armours)

    @property
    def line_digest(self) -> Digest:
        """What a floor remembers: the sha256 of the line."""
        return sha256(self.line)


def line_of(raw: bytes) -> bytes:
    """The signed line of a file that `split` once took apart."""
    return raw[: raw.index(b"\n") + 1]


def split(raw: bytes, what: str) -> SignedDocument:
    """Take a signed file apart without believing any of it. Raises InputError, naming it as `what`."""
    newline = raw.find(b"\n")
    if newline < 0:
        raise InputError(f"{what} has no complete first line")
    line, rest = raw[: newline + 1], raw[newline + 1 :]
    armours: list[bytes] = []
    while rest:
        end = rest.find(ARMOUR_END)
        if not rest.startswith(ARMOUR_BEGIN) or end < 0 or end > LIMITS.armour:
            raise InputError(f"{what} has something other than signatures after its first line")
        if len(armours) == LIMITS.armours:
            raise InputError(f"{what} has more than {LIMITS.armours} signatures")
        armours.append(rest[: end + len(ARMOUR_END)])
        rest = rest[end + len(ARMOUR_END) :]
    if not armours:
        raise InputError(f"{what} has no signature")
    return SignedDocument(line, tuple(armours))
