"""The secret commands' work: read the file to seal, find who it is for, hand both to the secret store."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from bento.admin.inventory import Fleet
from bento.errors import InputError
from bento.names import SecretName, printable
from bento_secrets.limits import LIMITS
from bento_secrets.listing import HostCopy, Row
from bento_secrets.lock import Copies
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
    if not data:
        source = "standard input" if file == "-" else shown
        raise InputError(f"{source} is empty: there is nothing to seal", "did the command before the pipe fail?")
    return Plaintext(data)


def name_for(file: str, given: str | None) -> SecretName:
    """The secret's name: the one given, or the file's own."""
    if given is not None:
        return SecretName.parse(given)
    if file == "-":
        raise InputError("a secret from stdin needs a name", "add --name NAME")
    return SecretName.parse(Path(file).name)


def look(fleet: Fleet, rows: tuple[Row, ...], lock: Copies) -> tuple[Row, ...]:
    """The rows, with copies marked missing whose file isn't there or isn't the one that the lock names."""
    return tuple(replace(row, copies=tuple(_looked(fleet, row, copy, lock) for copy in row.copies)) for row in rows)


def _looked(fleet: Fleet, row: Row, copy: HostCopy, lock: Copies) -> HostCopy:
    try:
        fleet.store.ciphertext(copy.host, row.declaration.name, lock)
    except InputError:
        return replace(copy, state="missing")
    return copy
