"""When a host updates the inputs of its flake by itself, and what it makes of those it finds. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bento.names import Digest, Serial

INTERVAL: Final = 24 * 3600  # seconds between two tries
OVER: Final = "what runs is what the inputs give: there is nothing to update any more"

Step = Literal["rest", "say it is over", "leave it", "build"]


@dataclass(frozen=True)
class Tried:
    """The last try: when (`at`, UTC seconds), and upon which release.

    `switched` is the sha256 of the lock file that was switched to: on the disk before the switch begins, so whatever
    comes of it is known, even if nobody lives to tell. `failed`: it ended in a report of a failure before any switch.
    """

    at: int
    serial: Serial
    switched: Digest | None = None
    failed: bool = False


def about(inputs: Sequence[str], why: str) -> str:
    """The reason that a report gives for a try that failed."""
    return f"updating {', '.join(inputs)}: {why}"


def is_about(inputs: Sequence[str], reason: str) -> bool:
    """Whether a report tells of a try to move these inputs on, and not of the release."""
    return bool(inputs) and (reason == OVER or reason.startswith(about(inputs, "")))


def is_due(tried: Tried | None, now: int) -> bool:
    """Whether it is time for another try.

    A clock that was set back counts by how far it was: by minutes changes little, by years is a try, and the next one a
    day later.
    """
    return tried is None or abs(now - tried.at) >= INTERVAL


def begin(tried: Tried | None, serial: Serial, now: int) -> Tried:
    """What to remember before a try upon this release: of another release nothing counts."""
    if tried is None or tried.serial != serial:
        return Tried(now, serial)
    return Tried(now, serial, tried.switched, tried.failed)


def next_step(tried: Tried, held: Digest, found: Digest) -> Step:
    """What to do with the lock file `found`, where the running system was built with `held`.

    What was switched to and isn't held had to be undone: it is left until the inputs move again. Once they are where
    they were, a failure that was reported is over, and that is said.
    """
    undone = tried.switched if tried.switched != held else None
    if found == held:
        return "say it is over" if tried.failed or undone is not None else "rest"
    return "leave it" if found == undone else "build"
