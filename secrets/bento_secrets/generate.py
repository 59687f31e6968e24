"""Secrets made on the spot: in memory, from the kernel's random numbers, or by a command of the admin's."""

import base64
import math
import secrets
import shlex
import string
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bento_secrets import age
from bento_secrets.errors import GeneratorFailed, InputError
from bento_secrets.limits import LIMITS
from bento_secrets.names import SecretName, printable
from bento_secrets.sealing import Plaintext

MIN_BITS = 80
ALPHABETS: Mapping[str, str] = MappingProxyType(
    {
        "alnum": string.ascii_letters + string.digits,
        "lower": string.ascii_lowercase + string.digits,
        "digits": string.digits,
        "symbols": string.ascii_letters + string.digits + "!#%&()*+,-./:;<=>?@[]^_{|}~",
    }
)


@dataclass(frozen=True)
class Generated:
    """A new secret, and its public half where it has one: one line without a line end, as Nix wants to read it."""

    plaintext: Plaintext
    public: bytes | None = None


def password(length: int = 32, alphabet: str = "alnum", *, weak: bool = False) -> Generated:
    """`length` characters, no line end. `alphabet` is a name in ALPHABETS, or the characters themselves.

    InputError if that can be guessed (below 80 bits), unless `weak` says so.
    """
    characters = ALPHABETS.get(alphabet, alphabet)
    if len(characters) < 2 or len(set(characters)) != len(characters) or not set(characters) <= _VISIBLE:  # noqa: PLR2004
        raise InputError(
            f"'{printable(alphabet)}' is no alphabet for a password",
            f"name one ({', '.join(ALPHABETS)}), or list two or more different ASCII characters without blanks",
        )
    _check_length(length)
    bits = math.log2(len(characters))
    _check_entropy(int(length * bits), math.ceil(MIN_BITS / bits), weak=weak)
    return Generated(Plaintext("".join(secrets.choice(characters) for _ in range(length)).encode()))


def hexadecimal(length: int = 32, *, weak: bool = False) -> Generated:
    """`length` random bytes as lower-case hex, no line end; InputError as password."""
    return Generated(Plaintext(_bytes(length, weak=weak).hex().encode()))


def base64_bytes(length: int = 32, *, weak: bool = False) -> Generated:
    """`length` random bytes as standard base64 with padding, no line end; InputError as password."""
    return Generated(Plaintext(base64.b64encode(_bytes(length, weak=weak))))


def ssh_ed25519(comment: str) -> Generated:
    """An OpenSSH private key file without a passphrase, and the line of its .pub file."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return Generated(Plaintext(private), public + b" " + comment.encode())


def wireguard() -> Generated:
    """What `wg genkey` and `wg pubkey` give: a clamped X25519 key and its public half, in base64."""
    seed = bytearray(secrets.token_bytes(32))
    seed[0] &= 248
    seed[31] = seed[31] & 127 | 64
    public = x25519.X25519PrivateKey.from_private_bytes(bytes(seed)).public_key()
    return Generated(Plaintext(base64.b64encode(seed) + b"\n"), base64.b64encode(public.public_bytes_raw()))


def age_identity() -> Generated:
    """What `age-keygen` writes, without the date; the public half is the recipient."""
    identity, recipient = age.generate_x25519()
    return Generated(Plaintext(f"# public key: {recipient}\n{identity}\n".encode()), recipient.encode())


def of_command(argv: Sequence[str]) -> Generated:
    """What the admin's command writes to stdout, to the byte; it never touches a disk or a shell.

    The command keeps the terminal, so that it may ask. InputError if there is no such program; GeneratorFailed if it
    fails, writes nothing, or too much.
    """
    shown = printable(shlex.join(argv), 200)
    try:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    except (OSError, ValueError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "it can't be run"
        raise InputError(
            f"the command {shown} can't be started: {why}", "name a program on PATH; no shell reads the line"
        ) from None
    with process:
        written = process.stdout.read(LIMITS.MAX_SECRET + 1) if process.stdout else b""
        if len(written) > LIMITS.MAX_SECRET:
            process.kill()
    return Generated(_of_output(shown, written, process.returncode))


def _of_output(shown: str, written: bytes, status: int) -> Plaintext:
    if len(written) > LIMITS.MAX_SECRET:
        raise GeneratorFailed(
            f"the command {shown} wrote more than {LIMITS.MAX_SECRET} bytes, too much for a secret",
            "let it write only the password that protects the rest",
        )
    if status:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise GeneratorFailed(f"the command {shown} failed with {how}", "run it by itself and see what it says")
    if not written.strip():
        raise GeneratorFailed(f"the command {shown} wrote nothing", "run it by itself; the secret is what it writes")
    return Plaintext(written)


def by_kind(kind: str, name: SecretName, length: int | None, alphabet: str | None, *, weak: bool) -> Generated:
    """A secret of one of KINDS. `length` is in characters for a password, in bytes for hex and base64.

    InputError for an option that the kind doesn't take.
    """
    if length is not None and kind not in ("password", "hex", "base64"):
        raise InputError(f"{kind} has no length to choose", "leave out --length")
    if alphabet is not None and kind != "password":
        raise InputError(f"{kind} has no alphabet to choose", "leave out --alphabet, or use --kind password")
    size = 32 if length is None else length
    if kind == "password":
        return password(size, alphabet or "alnum", weak=weak)
    if kind == "hex":
        return hexadecimal(size, weak=weak)
    if kind == "base64":
        return base64_bytes(size, weak=weak)
    if kind == "ssh-ed25519":
        return ssh_ed25519(str(name))
    if kind == "wireguard":
        return wireguard()
    if kind == "age":
        return age_identity()
    raise InputError(f"'{printable(kind)}' is no kind of secret", f"known are {', '.join(KINDS)}")


KINDS = ("password", "hex", "base64", "ssh-ed25519", "wireguard", "age")

_VISIBLE = frozenset(chr(code) for code in range(0x21, 0x7F))
_MAX_LENGTH = 4096


def _bytes(length: int, *, weak: bool) -> bytes:
    _check_length(length)
    _check_entropy(length * 8, MIN_BITS // 8, weak=weak)
    return secrets.token_bytes(length)


def _check_length(length: int) -> None:
    if not 1 <= length <= _MAX_LENGTH:
        raise InputError(f"{length} is no length for a secret", f"use 1 to {_MAX_LENGTH}; 32 is plenty")


def _check_entropy(bits: int, enough: int, *, weak: bool) -> None:
    if bits < MIN_BITS and not weak:
        raise InputError(
            f"a secret of {bits} bits can be guessed (at least {MIN_BITS})",
            f"use --length {enough} or more",
            "if it must be that short: --weak",
        )
