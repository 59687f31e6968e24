"""A passphrase-protected age file of any work factor: `age -p` needs a terminal, and takes 2^18 only."""

import base64
import hashlib
import os

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def protect(plaintext: bytes, passphrase: str, factor: int = 2) -> bytes:
    """A binary age file of less than 64 KiB of plaintext; `factor` is a power of two."""
    assert len(plaintext) < 64 * 1024
    file_key, salt, nonce = (os.urandom(16) for _ in range(3))
    wrapping = hashlib.scrypt(
        passphrase.encode(), salt=b"age-encryption.org/v1/scrypt" + salt, n=2**factor, r=8, p=1, dklen=32
    )
    body = ChaCha20Poly1305(wrapping).encrypt(bytes(12), file_key, None)
    header = b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n---" % (_base64(salt), factor, _base64(body))
    mac = hmac.HMAC(_derive(file_key, None, b"header"), hashes.SHA256())
    mac.update(header)
    payload = ChaCha20Poly1305(_derive(file_key, nonce, b"payload")).encrypt(bytes(11) + b"\x01", plaintext, None)
    return header + b" " + _base64(mac.finalize()) + b"\n" + nonce + payload


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _derive(key: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)
