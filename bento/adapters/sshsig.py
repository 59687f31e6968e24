"""SSHSIG verified in this process, for whoever reads a thousand reports at once: ssh-keygen takes 5 ms for each.

Only what the admin's side reads is verified here. What a host installs is verified by OpenSSH (signatures.py), which in
the tests is the judge of this, too: what is good here is good there (docs/decisions/0023). Format: PROTOCOL.sshsig.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from bento.models.signed import ARMOUR_BEGIN, ARMOUR_END
from bento_secrets.ssh_keys import SshPublicKey

_MAGIC, _VERSION = b"SSHSIG", 1
_DIGESTS = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_RSA_HASHES: dict[bytes, hashes.HashAlgorithm] = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}
KINDS = frozenset({"ssh-ed25519", "ssh-rsa"})  # a host key is one of these; a signer may be another, then ask OpenSSH


def good(line: bytes, armour: bytes, signers: Sequence[SshPublicKey], namespace: str) -> bool:
    """Whether `armour` is a signature over exactly `line`, for `namespace`, by one of `signers` of a kind in KINDS."""
    try:
        blob, space, digest, signature = _parse(armour)
    except (ValueError, binascii.Error):
        return False
    signer = next((one for one in signers if one.blob == blob and one.kind in KINDS), None)
    if signer is None or space != namespace.encode() or digest not in _DIGESTS:
        return False
    signed = _MAGIC + b"".join(map(_string, (space, b"", digest, _DIGESTS[digest](line).digest())))
    return _is_by(signer, signature, signed)


@lru_cache(maxsize=256)  # a deploy asks whether one of the signers signed, and then who
def _is_by(signer: SshPublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        return _verify(signer, signature, signed)
    except (InvalidSignature, ValueError):
        return False


def _verify(signer: SshPublicKey, signature: bytes, signed: bytes) -> bool:
    """True, or an exception."""
    kind, value = _strings(signature, 2)
    if signer.kind == "ssh-ed25519":
        if kind != b"ssh-ed25519":
            raise ValueError("another kind of signature than the key's")
        Ed25519PublicKey.from_public_bytes(signer.fields()[0]).verify(value, signed)
        return True
    exponent, modulus = (int.from_bytes(field, "big") for field in signer.fields())
    if kind not in _RSA_HASHES:
        raise ValueError("no kind of RSA signature that OpenSSH takes")
    RSAPublicNumbers(exponent, modulus).public_key().verify(value, signed, padding.PKCS1v15(), _RSA_HASHES[kind])
    return True


def _parse(armour: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Public key blob, namespace, hash name and signature. Raises ValueError for any but the form ssh-keygen writes."""
    if not armour.startswith(ARMOUR_BEGIN) or not armour.endswith(b"\n" + ARMOUR_END):
        raise ValueError("no armour")
    data = base64.b64decode(armour[len(ARMOUR_BEGIN) : -len(ARMOUR_END)].replace(b"\n", b""), validate=True)
    if not data.startswith(_MAGIC + _VERSION.to_bytes(4, "big")):
        raise ValueError("not a signature of version 1")
    blob, space, reserved, digest, signature = _strings(data[len(_MAGIC) + 4 :], 5)
    if reserved:
        raise ValueError("something stands in the reserved place")
    return blob, space, digest, signature


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _strings(data: bytes, number: int) -> list[bytes]:
    """Exactly `number` strings of RFC 4251, to the last byte."""
    found, at = [], 0
    for _ in range(number):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if at + 4 > len(data) or end > len(data):
            raise ValueError("it ends too early")
        found.append(data[at + 4 : end])
        at = end
    if at != len(data):
        raise ValueError("something follows its end")
    return found
