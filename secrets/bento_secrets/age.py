"""The one place that talks to pyrage (Rust's age). It has no type stubs, and its errors share no base class.

A Rust panic arrives as `pyo3_runtime.PanicException`, a BaseException that no name exports: `_guarded` turns it, every
error of pyrage and the OSErrors of its readers into ValueError, in pyrage's words, which quote no key or plaintext.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NewType

import pyrage  # type: ignore[import-untyped]

NativeRecipient = NewType("NativeRecipient", object)
NativeIdentity = NewType("NativeIdentity", object)

_ERRORS = (pyrage.RecipientError, pyrage.IdentityError, pyrage.EncryptError, pyrage.DecryptError, OSError)


@contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        # "no such key" comes on several lines with advice for the age command's users.
        raise ValueError(str(error).split("\n", 1)[0]) from None
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise ValueError("the age library gave up") from None
        raise


def recipient(text: str) -> NativeRecipient:
    """From `age1…` or `ssh-rsa …`; ValueError."""
    source: Any = pyrage.x25519 if text.startswith("age1") else pyrage.ssh
    with _guarded():
        return NativeRecipient(source.Recipient.from_str(text))


def x25519_identity(text: str) -> tuple[NativeIdentity, str]:
    """The identity of `AGE-SECRET-KEY-1…`, and its recipient as text; ValueError."""
    with _guarded():
        native = pyrage.x25519.Identity.from_str(text)
        return NativeIdentity(native), str(native.to_public())


def ssh_identity(pem: bytes) -> NativeIdentity:
    """From an OpenSSH private key without a passphrase; ValueError."""
    with _guarded():
        return NativeIdentity(pyrage.ssh.Identity.from_buffer(pem))


def encrypt(plaintext: bytes, recipients: Sequence[NativeRecipient]) -> bytes:
    """A binary age file; ValueError."""
    with _guarded():
        sealed: bytes = pyrage.encrypt(plaintext, list(recipients))
    return sealed


def decrypt(ciphertext: bytes, identities: Sequence[NativeIdentity]) -> bytes:
    """The plaintext; ValueError. decrypt_io, because pyrage.decrypt parses headers in quadratic time."""
    opened = io.BytesIO()
    with _guarded():
        pyrage.decrypt_io(io.BytesIO(ciphertext), opened, list(identities))
    return opened.getvalue()
