"""Names that the toolkit parses once, at the edge. Those of the secrets module are passed on from here."""

import re
from collections.abc import Sequence
from typing import Self

from bento_secrets.errors import BadName
from bento_secrets.names import (
    Digest,
    HostName,
    SecretName,
    TagName,
    Target,
    did_you_mean,
    printable,
)

__all__ = [
    "BadName",
    "Digest",
    "HostName",
    "SecretName",
    "Serial",
    "SystemPath",
    "TagName",
    "Target",
    "did_you_mean",
    "listed",
    "printable",
    "visible",
]

MAX_SERIAL = 2**53 - 1  # what every JSON reader keeps exactly
# Python calls these printable, and nothing is drawn for them (Unicode: Default_Ignorable_Code_Point): joiners, fillers,
# variation selectors. Two names could differ by them alone.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_SYSTEM = re.compile(r"/nix/store/[0-9a-df-np-sv-z]{32}-[A-Za-z0-9+._?=-]{1,180}")


def listed(words: Sequence[str], most: int = 5) -> str:
    """The words with commas between them, at most so many, and how many more there are."""
    more = len(words) - most
    return ", ".join(words) if more <= 0 else f"{', '.join(words[:most])} and {more:,} more"


def visible(text: str) -> str:
    """What a file's name, a program or another machine says, with an escape for each character that isn't seen.

    Whatever comes from elsewhere goes through here before it reaches a terminal: it could steer it, or hide in it.
    """
    if text.isprintable() and not _UNSEEN.search(text):
        return text
    return "".join(
        char if char.isprintable() and not _UNSEEN.match(char) else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


class Serial(int):
    """A release's number: 1 to 2⁵³-1. For one host it only rises."""

    __slots__ = ()

    @classmethod
    def parse(cls, number: int) -> Self:
        """The serial, or BadName."""
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_SERIAL:
            raise BadName(f"'{printable(str(number))}' is no serial", "a serial is a whole number from 1 to 2^53-1")
        return cls(number)


class SystemPath(str):
    """A system closure's top in the Nix store: `/nix/store/<hash>-<name>`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The path, or BadName."""
        if not _SYSTEM.fullmatch(text):
            raise BadName(f"'{printable(text)}' is no path of a system in the Nix store")
        return cls(text)
