"""The private halves: read where they live, held in memory only, never shown."""

import hashlib
import os
import stat
from pathlib import Path
from shlex import quote
from typing import NoReturn, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from bento_secrets import age, bech32
from bento_secrets.errors import InputError
from bento_secrets.limits import LIMITS
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey

_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"


class Identity:
    """What opens files sealed to `recipient`. It can't be printed, compared by content, copied or pickled."""

    __slots__ = ("_native", "recipient")

    def __init__(self, native: age.NativeIdentity, recipient: Recipient) -> None:
        self._native = native
        self.recipient = recipient

    @classmethod
    def from_age(cls, text: str) -> Self:
        """From `AGE-SECRET-KEY-1…`; InputError, which doesn't quote it."""
        try:
            native, recipient = age.x25519_identity(text.strip())
        except ValueError:
            raise InputError(
                "this is no age identity", "give one line that begins with AGE-SECRET-KEY-1, as age-keygen makes it"
            ) from None
        return cls(native, Recipient(recipient))

    @property
    def native(self) -> age.NativeIdentity:
        """For the age library."""
        return self._native

    def __repr__(self) -> str:
        return f"<Identity of {self.recipient.text[:16]}…>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity stays in the process that read it")


def age_identity_of_seed(seed: bytes) -> str:
    """`AGE-SECRET-KEY-1…` of an ed25519 key's 32-byte seed, unclamped: the very string that `ssh-to-age` gives."""
    return bech32.encode("age-secret-key-", hashlib.sha512(seed).digest()[:32]).upper()


class Locked(InputError):
    """A private key file that is protected by a passphrase, where none was given."""


def load_ssh_identity(path: Path) -> Identity:
    """The identity of an ed25519 or RSA private key file without a passphrase; InputError naming the file."""
    key = read_ssh_private(path, read_private(path), None)
    return identity_of_ssh(key)


SshPrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def read_ssh_private(path: Path, content: bytes, passphrase: str | None) -> SshPrivateKey:
    """The key in a private key file's content, OpenSSH's format or PEM.

    InputError naming the file; Locked if it needs a passphrase and none was given.
    """
    if content.startswith((b"ssh-", b"ecdsa-", b"sk-")):
        raise InputError(f"{path} is a public key, and the private one is needed", f"try {path.with_suffix('')}")
    load = load_ssh_private_key if content.lstrip().startswith(_OPENSSH) else load_pem_private_key
    try:
        key = load(content, password=None if passphrase is None else passphrase.encode())
    except TypeError:
        raise Locked(
            f"{path} is protected by a passphrase, which Bento can't ask for",
            "use a key without one, or an age identity",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase is not None:
            raise InputError(
                f"the passphrase of {path} is wrong, or the file is damaged",
                f"try it: ssh-keygen -y -f {quote(str(path))}",
            ) from None
        raise InputError(
            f"{path} is no private key that Bento can read", f"see what it is: ssh-keygen -l -f {quote(str(path))}"
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise InputError(
            f"{path} is neither an ed25519 nor an RSA key, so nothing can be sealed to it",
            "use an ed25519 key; to make one: ssh-keygen -t ed25519",
        )
    return key


def identity_of_ssh(key: SshPrivateKey) -> Identity:
    """What opens files sealed to the key's recipient; InputError for an RSA key of a size that age refuses."""
    recipient = Recipient.of_host_key(ssh_public(key))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        native, _ = age.x25519_identity(age_identity_of_seed(key.private_bytes_raw()))
        return Identity(native, recipient)
    return Identity(native_ssh(key), recipient)


def ssh_public(key: SshPrivateKey) -> SshPublicKey:
    """The key's public half."""
    return SshPublicKey.parse(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def native_ssh(key: SshPrivateKey) -> age.NativeIdentity:
    """For age's own `ssh-ed25519` and `ssh-rsa` stanzas."""
    # Re-encoded, because old hosts keep RSA keys in PEM and age's library takes OpenSSH's format.
    return age.ssh_identity(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))


def read_private(path: Path) -> bytes:
    """A regular file's content. A symlink is followed: hosts with an ephemeral root keep their keys behind one."""
    try:
        # O_NONBLOCK so that a FIFO can't hold the agent.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = file.read(LIMITS.MAX_PRIVATE_KEY + 1) if regular else b""
    except OSError as error:
        raise InputError(
            f"{path} can't be read: {(error.strerror or 'unknown error').lower()}",
            f"see whether it is there, and whose: ls -l {quote(str(path))}",
        ) from None
    if not regular or not content or len(content) > LIMITS.MAX_PRIVATE_KEY:
        raise InputError(f"{path} is no private key file", "name a file such as /etc/ssh/ssh_host_ed25519_key")
    return content
