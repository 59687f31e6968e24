"""OpenSSH public keys: a line of an `authorized_keys` file, taken apart (RFC 4253, RFC 5656, PROTOCOL.u2f)."""

import base64
import hashlib
from dataclasses import dataclass
from typing import Self

from bento_secrets.errors import InputError
from bento_secrets.limits import LIMITS
from bento_secrets.names import printable

# What follows the type inside the blob: "mpint", or a fixed number of bytes, or a string of any length ("any"), or
# a curve's name, after which its uncompressed point comes.
_FIELDS: dict[str, tuple[str | int, ...]] = {
    "ssh-ed25519": (32,),
    "ssh-rsa": ("mpint", "mpint"),
    "ssh-dss": ("mpint", "mpint", "mpint", "mpint"),
    "ecdsa-sha2-nistp256": ("nistp256", 65),
    "ecdsa-sha2-nistp384": ("nistp384", 97),
    "ecdsa-sha2-nistp521": ("nistp521", 133),
    "sk-ssh-ed25519@openssh.com": (32, "any"),
    "sk-ecdsa-sha2-nistp256@openssh.com": ("nistp256", 65, "any"),
}


@dataclass(frozen=True)
class SshPublicKey:
    """A public key whose blob is well-formed for its kind. `comment` is printable ASCII and may be empty."""

    kind: str
    blob: bytes
    comment: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key of one line `TYPE BASE64 [comment]`; InputError otherwise, never quoting a private key."""
        line = text.strip()
        _refuse_other_files(text, line)
        words = line.split(None, 2)
        kind = words[0]
        if kind not in _FIELDS:
            raise InputError(
                f"'{printable(kind)}' is no type of SSH public key",
                "give TYPE BASE64 only, without options or host names",
            )
        if len(words) == 1:
            raise InputError(f"the {kind} key has a type but no content", "copy the whole line")
        blob = _decode(kind, words[1])
        return cls(kind, blob, printable(words[2], 200) if len(words) > 2 else "")  # noqa: PLR2004 — the third word

    @property
    def line(self) -> str:
        """`TYPE BASE64`, without the comment."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def bits(self) -> int | None:
        """Size of an RSA modulus in bits; None for other kinds."""
        if self.kind != "ssh-rsa":
            return None
        return int.from_bytes(self.fields()[1], "big").bit_length()

    def fields(self) -> tuple[bytes, ...]:
        """What follows the type in the blob, undecoded: for ed25519 the point; for RSA exponent, modulus."""
        return tuple(_strings(self.blob))[1:]


def _refuse_other_files(text: str, line: str) -> None:
    if "PRIVATE KEY" in text or "AGE-SECRET-KEY-" in text.upper():
        raise InputError(
            "this is a private key, and only the public half was asked for",
            "give the .pub file beside it; if the private half was pasted somewhere, replace the key",
        )
    if "SSH2 PUBLIC KEY" in text or "BEGIN PUBLIC KEY" in text or "BEGIN RSA PUBLIC KEY" in text:
        raise InputError(
            "this public key isn't in OpenSSH's format", "convert it: ssh-keygen -i -f FILE [-m PKCS8|PEM]"
        )
    if not line:
        raise InputError("there is no SSH public key, only blank space", "give a line as in a .pub file")
    if len(text) > LIMITS.MAX_PUBLIC_KEY:
        raise InputError(f"an SSH public key of {len(text)} characters is too long", "take the one line of a .pub file")
    if len(line.splitlines()) > 1:
        raise InputError("more than one line where one SSH public key was expected", "give the keys one by one")


def _decode(kind: str, text: str) -> bytes:
    try:
        blob = base64.b64decode(text, validate=True)
        if base64.b64encode(blob).decode() != text:
            raise ValueError("not canonical")
        _check(kind, blob)
    except ValueError as error:
        raise InputError(f"the {kind} key is damaged: {error}", "copy the line again from the .pub file") from None
    return blob


def _check(kind: str, blob: bytes) -> None:
    inner, *fields = _strings(blob)
    if inner != kind.encode():
        raise ValueError("its content is of another type than its first word says")
    wanted = _FIELDS[kind]
    if len(fields) != len(wanted):
        raise ValueError("a part is missing, or something follows its end")
    for field, rule in zip(fields, wanted, strict=True):
        if rule == "mpint":
            _check_mpint(field)
        elif isinstance(rule, int):
            if len(field) != rule or (rule != 32 and field[0] != 4):  # noqa: PLR2004 — 4 marks an uncompressed point
                raise ValueError("its point is malformed")
        elif rule != "any" and field != rule.encode():
            raise ValueError("its curve isn't the one its type names")
    if kind == "ssh-rsa" and not (fields[0][-1] & 1 and fields[1][-1] & 1 and fields[0] != b"\x01"):
        raise ValueError("no RSA key has these numbers")


def _check_mpint(field: bytes) -> None:
    # RFC 4251: positive numbers have the high bit clear, and no zero byte that isn't needed for that.
    if not field or field[0] & 0x80 or (field[0] == 0 and (len(field) == 1 or not field[1] & 0x80)):
        raise ValueError("a number in it is malformed")


def _strings(blob: bytes) -> list[bytes]:
    """RFC 4251 strings, one after the other, to the last byte."""
    strings, at = [], 0
    while at < len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        if at + 4 > len(blob) or end > len(blob):
            raise ValueError("it ends too early")
        strings.append(blob[at + 4 : end])
        at = end
    if not strings:
        raise ValueError("it is empty")
    return strings
