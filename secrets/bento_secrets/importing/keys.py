"""Public keys as other tools write them, brought to one text each, so that they can be compared with a fleet's."""

import re
from contextlib import suppress

from bento_secrets.errors import InputError
from bento_secrets.names import printable
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey

_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{40}")
_TAIL = 12  # characters of a key that are shown, enough to find it by


def canonical(text: str) -> str:
    """One text for one key: `age1…`, which an ssh-ed25519 key is turned into as `ssh-to-age` does, or `ssh-rsa …`.

    Other keys (PGP, cloud services, kinds that nothing can be sealed to) stay as written. InputError for a private one.
    """
    line = text.strip()
    if "PRIVATE KEY" in line or "AGE-SECRET-KEY-" in line.upper():
        raise InputError(
            "a private key stands where a public one should", "take it out, and replace it wherever it is in use"
        )
    with suppress(InputError):
        return Recipient.parse(line).text
    with suppress(InputError):
        return SshPublicKey.parse(line).line
    return line.lower() if _FINGERPRINT.fullmatch(line) else line


def shown(text: str) -> str:
    """A key for a person to recognise: kind, end and comment of an SSH key; others as they are."""
    words = text.strip().split(None, 2)
    if len(words) > 1 and words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return " ".join([printable(words[0]), "…" + printable(words[1][-_TAIL:]), *map(printable, words[2:])])
    return printable(text.strip())
