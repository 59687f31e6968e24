"""Who may open a sealed file: X25519 recipients, derived from ssh-ed25519 keys as `ssh-to-age` does, and RSA keys.

An admin's may also be a plugin's (`age1yubikey1…`), because a token can't be asked for another kind. A host's never is:
it is derived from the host's SSH key.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from nacl import bindings, exceptions

from bento_secrets import age, bech32, plugins
from bento_secrets.errors import InputError
from bento_secrets.limits import LIMITS
from bento_secrets.names import printable
from bento_secrets.ssh_keys import SshPublicKey

_P = 2**255 - 19
_ED25519_HINT = "use an ssh-ed25519 key; to make one: ssh-keygen -t ed25519"


@dataclass(frozen=True, order=True)
class Recipient:
    """A recipient as age writes it: `age1…`, or an `ssh-rsa` line without its comment. One key has one text."""

    text: str

    @classmethod
    def of_host_key(cls, key: SshPublicKey) -> Self:
        """The recipient of an SSH key; InputError for kinds and points that can't have one."""
        check_host_key(key)
        if key.kind == "ssh-rsa":
            return cls(key.line)
        return cls(bech32.encode("age", bindings.crypto_sign_ed25519_pk_to_curve25519(_point(key))))

    @classmethod
    def parse(cls, text: str) -> Self:
        """An admin's, from `age1…`, or from an ssh line, whose ed25519 key is derived as a host's is; InputError."""
        text = text.strip()
        if text.upper().startswith(("AGE-SECRET-KEY-", "AGE-PLUGIN-")):
            raise InputError(
                "this is an age identity, and its public half was asked for", "see that half: age-keygen -y FILE"
            )
        if len(text) > LIMITS.MAX_PUBLIC_KEY:
            raise InputError(f"a recipient of {len(text)} characters is too long", "give one recipient, on one line")
        if not text.startswith("age1"):
            return cls.of_host_key(SshPublicKey.parse(text))
        try:
            prefix, point = bech32.decode(text)
        except ValueError as error:
            raise InputError(
                f"'{printable(text)}' is no age recipient: {error}", "copy it whole; it begins with age1"
            ) from None
        if prefix == "age" and len(point) == 32:  # noqa: PLR2004 — an X25519 point
            _check_x25519(text, point)
            return cls(text)
        try:
            plugins.plugin_of_recipient(text)
        except ValueError:
            raise InputError(
                f"'{printable(text)}' is a recipient of a kind that Bento doesn't know",
                "use an X25519 recipient, as age-keygen makes it, a plugin's, or an ssh-ed25519 or ssh-rsa key",
            ) from None
        return cls(text)

    @property
    def kind(self) -> str:
        """`X25519` or `ssh-rsa`, as age calls their stanzas, or `plugin`."""
        if self.text.startswith("age1"):
            return "plugin" if "1" in self.text[4:] else "X25519"
        return "ssh-rsa"

    def native(self) -> age.NativeRecipient:
        """For the age library; InputError if the text was never checked and is wrong."""
        try:
            return age.recipient(self.text)
        except ValueError as error:
            raise _no_recipient(self.text, error) from None


def check_host_key(key: SshPublicKey) -> None:
    """Whether an SSH key can have a recipient, which takes longer to derive. InputError as `Recipient.of_host_key`."""
    if key.kind == "ssh-ed25519":
        _check_point(key)
    elif key.kind == "ssh-rsa":
        _check_rsa(key)
    elif key.kind.startswith("sk-"):
        raise InputError(
            f"a key on a FIDO token ({key.kind}) can sign but not open, so nothing can be sealed to it", _ED25519_HINT
        )
    else:
        raise InputError(f"age can't seal to {key.kind} keys", _ED25519_HINT)


def natives(recipients: Iterable[Recipient]) -> list[age.NativeRecipient]:
    """For the age library, each once; a plugin's together, so that it runs once a file. InputError, PluginFailed."""
    plain, grouped = [], dict[str, list[str]]()
    for recipient in sorted(set(recipients)):
        if recipient.kind == "plugin":
            grouped.setdefault(_plugin(recipient), []).append(recipient.text)
        else:
            plain.append(recipient.native())
    return plain + [plugins.native_recipient(plugin, texts) for plugin, texts in grouped.items()]


def _plugin(recipient: Recipient) -> str:
    try:
        return plugins.plugin_of_recipient(recipient.text)
    except ValueError as error:
        raise _no_recipient(recipient.text, error) from None


def _no_recipient(text: str, error: ValueError) -> InputError:
    return InputError(
        f"'{printable(text)}' is no recipient: {error}",
        "see how they look: age1…, or the line of an ssh-ed25519 or ssh-rsa .pub file",
    )


def texts(recipients: Iterable[Recipient]) -> tuple[str, ...]:
    """Their texts, sorted, each once: as secrets.lock keeps them."""
    return tuple(sorted({recipient.text for recipient in recipients}))


def _point(key: SshPublicKey) -> bytes:
    (point,) = key.fields()
    return point


def _check_point(key: SshPublicKey) -> None:
    # age itself seals to low-order points without a word, and then anybody can open. libsodium's check also refuses
    # non-canonical points and those outside the prime-order group.
    if not bindings.crypto_core_ed25519_is_valid_point(_point(key)):
        raise InputError(
            f"the ssh-ed25519 key {key.fingerprint} is no sound point of its curve: anybody might open what is sealed",
            "copy the key again from the host, and distrust where this one came from",
        )


def _check_rsa(key: SshPublicKey) -> None:
    bits = key.bits or 0
    if bits < LIMITS.MIN_RSA_BITS:
        raise InputError(
            f"an RSA key of {bits} bits is too weak to seal to (at least {LIMITS.MIN_RSA_BITS})", _ED25519_HINT
        )
    if bits > LIMITS.MAX_RSA_BITS:
        raise InputError(
            f"age takes RSA keys of at most {LIMITS.MAX_RSA_BITS} bits, and this one has {bits}", _ED25519_HINT
        )
    try:
        age.recipient(key.line)
    except ValueError as error:
        raise InputError(f"age can't seal to the RSA key {key.fingerprint}: {error}", _ED25519_HINT) from None


def _check_x25519(text: str, point: bytes) -> None:
    canonical = int.from_bytes(point, "little") < _P
    try:
        # The result is all zero, and libsodium then fails, exactly for the points of low order.
        bindings.crypto_scalarmult(b"\x01" * 32, point)
    except exceptions.RuntimeError:
        canonical = False
    if not canonical:
        raise InputError(
            f"'{printable(text)}' is no sound point of its curve: anybody might open what is sealed to it",
            "make another: age-keygen",
        )
