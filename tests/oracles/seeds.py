"""Private keys from a text, so that vectors need none in the repository. For tests: anybody can make them."""

import hashlib
from collections.abc import Iterator
from functools import cache
from itertools import count
from math import gcd

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
_EXPONENT = 65537
_SMALL = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def stream(text: str) -> Iterator[int]:
    """The bytes of sha256("TEXT/0"), sha256("TEXT/1"), …"""
    for block in count():
        yield from hashlib.sha256(f"{text}/{block}".encode()).digest()


def number(text: str, bits: int) -> int:
    """The first `bits` bits (a multiple of 8) of the stream, its two highest and its lowest set."""
    source = stream(text)
    value = int.from_bytes(bytes(next(source) for _ in range(bits // 8)), "big")
    return value | 3 << (bits - 2) | 1


def ed25519_key(text: str) -> ed25519.Ed25519PrivateKey:
    """Its seed is sha256(TEXT)."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(text.encode()).digest())


def rsa_key(text: str, bits: int) -> rsa.RSAPrivateKey:
    """p is the first prime from number("TEXT/p") upwards for which p - 1 has no factor 65537; q the same."""
    p, q = (_prime(number(f"{text}/{name}", bits // 2)) for name in "pq")
    d = pow(_EXPONENT, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(_EXPONENT, p * q)
    parts = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *parts, public).private_key()


@cache
def key_of(text: str) -> PrivateKey:
    """The key of a vector's seed: RSA of so many bits if the text ends in `rsa BITS`, else ed25519."""
    before, _, bits = text.rpartition(" ")
    return rsa_key(text, int(bits)) if before.endswith(" rsa") else ed25519_key(text)


def public_line(key: PrivateKey) -> str:
    """`TYPE BASE64`."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def private_file(key: PrivateKey) -> bytes:
    """As ssh-keygen writes it, without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _prime(candidate: int) -> int:
    while gcd(candidate - 1, _EXPONENT) != 1 or not _is_prime(candidate):
        candidate += 2
    return candidate


def _is_prime(n: int) -> bool:
    """Miller and Rabin's test with 24 small bases, after a sieve."""
    if any(n % small == 0 for small in _SMALL):
        return False
    shift = (n - 1 & 1 - n).bit_length() - 1
    for base in _SMALL[:24]:
        x = pow(base, n - 1 >> shift, n)
        if x in (1, n - 1):
            continue
        for _ in range(shift - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True
