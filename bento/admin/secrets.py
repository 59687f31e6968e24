"""The secret commands' work: read the file to seal, find who it is for, hand both to the secret store."""

import os
import stat
import sys
from pathlib import Path

from bento.errors import InputError
from bento.names import SecretName, printable
from bento_secrets.limits import LIMITS
from bento_secrets.sealing import Plaintext


def read_plaintext(file: str) -> Plaintext:
    """The content to seal, from a file or (`-`) stdin. Raises InputError where it can't be read or is too large."""
    shown = printable(file)
    if file == "-":
        data = sys.stdin.buffer.read(LIMITS.MAX_SECRET + 1)
    else:
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as handle:
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    raise InputError(f"{shown} is a folder", "name one file")
                data = handle.read(LIMITS.MAX_SECRET + 1)
        except OSError as error:
            raise InputError(
                f"can't read {shown}: {error.strerror}", "name the file to seal, or - to type or pipe its content"
            ) from None
    if len(data) > LIMITS.MAX_SECRET:
        raise InputError(
            f"{shown} is larger than {LIMITS.MAX_SECRET} bytes, too much for a secret",
            "seal a key for it instead, and let the host fetch the rest",
        )
    return Plaintext(data)


def name_for(file: str, given: str | None) -> SecretName:
    """The secret's name: the one given, or the file's own."""
    if given is not None:
        return SecretName.parse(given)
    if file == "-":
        raise InputError("a secret from stdin needs a name", "add --name NAME")
    return SecretName.parse(Path(file).name)
