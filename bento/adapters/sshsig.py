"""SSHSIG verified in this process, for whoever reads a thousand reports at once: ssh-keygen takes 5 ms for each.

Only what the admin's side reads is verified here. What a host installs is verified by OpenSSH (signatures.py), which in
the tests is the judge of this, too: what is good here is good there (docs/decisions/0023). Format: PROTOCOL.sshsig.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from functools import lru_cache

from nacl import bindings
from nacl.exceptions import BadSignatureError

from bento.models.signed import ARMOUR_BEGIN, ARMOUR_END
from bento_secrets.ssh_keys import SshPublicKey

_MAGIC, _VERSION = b"SSHSIG", 1
_DIGESTS = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_ED25519 = 64  # bytes of a signature
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
        kind, value = _strings(signature, 2)
        if signer.kind != "ssh-ed25519":
            return _is_by_rsa(signer, kind, value, signed)
        if kind != b"ssh-ed25519" or len(value) != _ED25519:
            return False
        bindings.crypto_sign_open(value + signed, signer.fields()[0])
    except (BadSignatureError, ValueError):
        return False
    return True


def _is_by_rsa(signer: SshPublicKey, kind: bytes, value: bytes, signed: bytes) -> bool:
    # Imported here: most keys are of the other kind, for which libsodium is quicker, too.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    known: dict[bytes, hashes.HashAlgorithm] = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}
    if kind not in known:
        return False
    exponent, modulus = (int.from_bytes(field, "big") for field in signer.fields())
    try:
        RSAPublicNumbers(exponent, modulus).public_key().verify(value, signed, PKCS1v15(), known[kind])
    except InvalidSignature:
        return False
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
