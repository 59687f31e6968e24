"""Seal and open: binary age files, version 1 (age-encryption.org/v1), in memory only."""

from collections.abc import Sequence
from typing import NoReturn, Protocol

from bento_secrets import age
from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.limits import LIMITS
from bento_secrets.names import printable
from bento_secrets.recipients import Recipient, natives

_VERSION = b"age-encryption.org/v1\n"


class Opener(Protocol):
    """An identity: a host's, or an admin's."""

    @property
    def native(self) -> age.NativeIdentity:
        """For the age library."""


class Plaintext:
    """A secret's bytes in `data`. Printing shows only the length; no comparing by content, copying or pickling."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        if len(data) > LIMITS.MAX_SECRET:
            raise InputError(
                f"a secret of {len(data)} bytes is too large (at most {LIMITS.MAX_SECRET})",
                "keep large files elsewhere, and only the password that protects them as a secret",
            )
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<Plaintext of {len(self.data)} bytes>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a plaintext stays in the process that opened it")


def seal(plaintext: Plaintext, recipients: Sequence[Recipient]) -> bytes:
    """A binary age file that each of `recipients` can open.

    InputError for none, or for more than a host accepts; PluginFailed if a recipient's plugin isn't installed.
    """
    if not recipients:
        raise InputError("a secret sealed to nobody could never be opened", "name a host or an admin recipient")
    try:
        sealed = age.encrypt(plaintext.data, natives(recipients))
    except ValueError as error:
        raise InputError(
            f"the secret could not be sealed: {_sentence(error)}", "see the recipients: secrets.admins in bento.toml"
        ) from None
    try:
        _check_header(sealed)
    except OpenFailed:
        raise InputError(
            f"{len(set(recipients))} recipients are more than a host accepts in one file",
            "name fewer admins in bento.toml",
        ) from None
    return sealed


def open_sealed(ciphertext: bytes, identities: Sequence[Opener]) -> Plaintext:
    """What was sealed to any of `identities`; OpenFailed, which quotes neither key nor plaintext.

    It proves nothing about who sealed it: the caller compares the digest with a signed manifest first.
    """
    _check_header(ciphertext)
    if not identities:
        raise OpenFailed("there is no identity to open the secret with", "name one with --identity FILE")
    try:
        return Plaintext(age.decrypt(ciphertext, [identity.native for identity in identities]))
    except ValueError as error:
        raise OpenFailed(
            f"the sealed file could not be opened: {_sentence(error)}",
            "if the host's key changed, seal again: bento secret add TARGET FILE --name NAME --replace",
        ) from None


def _sentence(error: ValueError) -> str:
    # A plugin's words may be in it.
    text = printable(str(error), 300)
    return text[:1].lower() + text[1:].removesuffix(".")


def _check_header(ciphertext: bytes) -> None:
    """Refuse, before the age library spends time on it, a header that no honest sealer writes."""
    if len(ciphertext) > LIMITS.MAX_CIPHERTEXT:
        raise OpenFailed(f"a sealed file of {len(ciphertext)} bytes is too large")
    if not ciphertext.startswith(_VERSION):
        raise OpenFailed("this is no binary age file, version 1", "armoured files are not read: age -d FILE | …")
    at, stanzas = len(_VERSION), 0
    while True:
        most = LIMITS.MAX_HEADER if stanzas <= LIMITS.FEW_STANZAS else LIMITS.MAX_CROWDED_HEADER
        end = ciphertext.find(b"\n", at, most)
        if end < 0:
            raise OpenFailed(f"the sealed file has no header that ends within {most} bytes")
        line = ciphertext[at:end]
        if line.startswith(b"---"):
            return
        if line.startswith(b"-> "):
            stanzas += 1
            if stanzas > LIMITS.MAX_STANZAS:
                raise OpenFailed(f"the sealed file has more than {LIMITS.MAX_STANZAS} recipients")
            if line[3:].split(b" ")[0] == b"scrypt":
                raise OpenFailed("the sealed file is protected by a passphrase, which hosts don't accept")
        at = end + 1
