"""A release as one stream of bytes, as `bento push` writes it and `bento-agent receive` reads it (docs/decisions/0018).

    bento-push 1
    manifest SIZE     and so many bytes: the manifest file, as published
    SHA256 SIZE       and so many bytes, for each object, in the order in which a host fetches them

Nothing of it is believed because it came this way: the manifest is verified, and each object is what it names.
"""

import re
from typing import Final

from bento.errors import InputError

OPENING: Final = b"bento-push 1\n"
MANIFEST: Final = "manifest"
_HEAD = re.compile(rb"(manifest|[0-9a-f]{64}) (0|[1-9][0-9]{0,11})\n")


def head(name: str, size: int) -> bytes:
    """The line before a part of `size` bytes."""
    return f"{name} {size}\n".encode()


def parse_head(line: bytes) -> tuple[str, int]:
    """A part's name and its size in bytes. Raises InputError."""
    found = _HEAD.fullmatch(line)
    if found is None:
        raise InputError("the pushed stream is not one that bento push writes")
    return found[1].decode(), int(found[2])
