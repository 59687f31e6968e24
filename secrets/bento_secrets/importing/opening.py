"""Open age files that another tool sealed: to more recipients than Bento's own, in text form too."""

from collections.abc import Sequence
from pathlib import Path

from bento_secrets import age, armor
from bento_secrets.errors import BentoError, OpenFailed
from bento_secrets.importing.found import read_regular
from bento_secrets.importing.limits import IMPORT_LIMITS
from bento_secrets.sealing import Opener, Plaintext

_VERSION = b"age-encryption.org/v1\n"
_SSH_STANZA = b"\n-> ssh-"


def open_file(path: Path, identities: Sequence[Opener]) -> Plaintext:
    """The content of one sealed file; OpenFailed naming it. Read into memory whole, and never written."""
    content = read_regular(path, IMPORT_LIMITS.MAX_FILE)
    try:
        content = armor.dearmor(content)
    except ValueError as error:
        raise OpenFailed(f"{path} is damaged: {error}") from None
    header = _header(path, content)
    try:
        return Plaintext(age.decrypt(content, [identity.native for identity in identities]))
    except ValueError as error:
        wanted = "the SSH private key" if _SSH_STANZA in header else "the age identity, or the SSH private key,"
        raise OpenFailed(
            f"{path} could not be opened: {str(error).lower()}",
            f"name {wanted} of one of its public keys: --identity FILE",
        ) from None
    except BentoError as error:
        raise OpenFailed(f"{path}: {error.message}", *error.hints) from None


def _header(path: Path, content: bytes) -> bytes:
    """The header, refused before the age library spends time on it if no honest sealer writes it."""
    if not content.startswith(_VERSION):
        raise OpenFailed(f"{path} is no age file, version 1", f"see what it is: head -c 30 {path}")
    end = content.find(b"\n---", 0, IMPORT_LIMITS.MAX_HEADER)
    if end < 0:
        raise OpenFailed(f"{path} has no header that ends within {IMPORT_LIMITS.MAX_HEADER} bytes")
    header = content[:end]
    if b"\n-> scrypt " in header:
        raise OpenFailed(f"{path} is protected by a passphrase, not by keys", f"open it by hand: age -d {path}")
    if header.count(b"\n-> ") > IMPORT_LIMITS.MAX_KEYS:
        raise OpenFailed(f"{path} has more than {IMPORT_LIMITS.MAX_KEYS} recipients")
    return header
