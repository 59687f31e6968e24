"""The one place that talks to pyrage (Rust's age). It has no type stubs, and its errors share no base class.

A Rust panic arrives as `pyo3_runtime.PanicException`, a BaseException that no name exports: `_guarded` turns it, every
error of pyrage and the OSErrors of its readers into ValueError, in pyrage's words, which quote no key or plaintext.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NewType, Protocol

import pyrage  # type: ignore[import-untyped]

NativeRecipient = NewType("NativeRecipient", object)
NativeIdentity = NewType("NativeIdentity", object)

_ERRORS = (pyrage.RecipientError, pyrage.IdentityError, pyrage.EncryptError, pyrage.DecryptError, OSError)
# Unicode's marks around words of another language, which a terminal may show as boxes.
_ISOLATES = str.maketrans("", "", "\u2066\u2067\u2068\u2069")


class Callbacks(Protocol):
    """How a plugin speaks with a person. None is "nobody answers"; an exception would end the process."""

    def display_message(self, message: str) -> None:
        """Show it."""

    def confirm(self, message: str, yes_string: str, no_string: str | None) -> bool | None:
        """Whether the person chose `yes_string`."""

    def request_public_string(self, description: str) -> str | None:
        """What the person typed."""

    def request_passphrase(self, description: str) -> str | None:
        """What the person typed, unseen."""


@contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise ValueError(_in_one_line(str(error))) from None
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise ValueError("the age library gave up") from None
        raise


def _in_one_line(text: str) -> str:
    """pyrage's first line, without the advice for the age command's users below it; of a plugin's errors all."""
    lines = [line.strip() for line in text.translate(_ISOLATES).split("\n") if line.strip()]
    wanted = [line.removeprefix("- ") for line in lines if line.startswith("- ")] or lines[:1]
    return "; ".join(wanted)


def recipient(text: str) -> NativeRecipient:
    """From `age1…` or `ssh-rsa …`; ValueError."""
    source: Any = pyrage.x25519 if text.startswith("age1") else pyrage.ssh
    with _guarded():
        return NativeRecipient(source.Recipient.from_str(text))


def plugin_recipient(plugin: str, texts: Sequence[str], callbacks: Callbacks) -> NativeRecipient:
    """One for all of a plugin's `texts`, so that it is run once a file; ValueError if it isn't installed."""
    with _guarded():
        recipients = [pyrage.plugin.Recipient.from_str(text) for text in texts]
        return NativeRecipient(pyrage.plugin.RecipientPluginV1(plugin, recipients, [], callbacks))


def plugin_identity(plugin: str, texts: Sequence[str], callbacks: Callbacks) -> NativeIdentity:
    """One for all of a plugin's `texts`; ValueError if it isn't installed."""
    with _guarded():
        identities = [pyrage.plugin.Identity.from_str(text) for text in texts]
        return NativeIdentity(pyrage.plugin.IdentityPluginV1(plugin, identities, callbacks))


def generate_x25519() -> tuple[str, str]:
    """A new `AGE-SECRET-KEY-1…` and its recipient."""
    native = pyrage.x25519.Identity.generate()
    return str(native), str(native.to_public())


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


def decrypt_with_passphrase(ciphertext: bytes, passphrase: str) -> bytes:
    """The plaintext of a binary file; ValueError. The caller has looked at its work factor."""
    with _guarded():
        opened: bytes = pyrage.passphrase.decrypt(ciphertext, passphrase)
    return opened
