"""Whether a host takes what a server offers. Every trust decision after the signature is on this screen.

The signature has been verified over the raw line before any of this is asked (agent/run.py).
"""

from dataclasses import dataclass, replace
from typing import Literal

from bento.names import Digest, HostName, Serial, printable

MAX_TRIES = 3  # a release that failed is tried this often, then left until something changes

Progress = Literal["accepted", "failed", "finished"]
PROGRESS: tuple[Progress, ...] = ("accepted", "failed", "finished")


@dataclass(frozen=True)
class Floor:
    """What this host has accepted last: it never goes below. `line` is the sha256 of the manifest's JSON line.

    `until` stands for the circumstances in which a try failed: while they are the same, so would be the next one.
    """

    serial: Serial
    line: Digest
    progress: Progress
    tries: int = 0
    until: Digest | None = None


@dataclass(frozen=True)
class Offer:
    """What a verified manifest says of itself."""

    fleet: str
    host: HostName
    serial: Serial
    line: Digest


@dataclass(frozen=True)
class Take:
    """Go on with this release. `floor` is to be on disk before anything else happens."""

    floor: Floor


@dataclass(frozen=True)
class NothingNew:
    """The floor's release is installed already; or it failed, too often or in the same circumstances: it is left."""

    why: Literal["installed", "failed too often", "nothing changed"] = "installed"


@dataclass(frozen=True)
class Refuse:
    """Take nothing of it, and say so."""

    reason: str


Verdict = Take | Refuse


def judge(offer: Offer, fleet: str, host: HostName, floor: Floor | None) -> Verdict:
    """The rules of design.md, "The agent's run", in their order. Whether the floor's own is done with, ask `again`."""
    if offer.fleet != fleet:
        return Refuse(f"the release is for the fleet '{printable(offer.fleet)}', this host belongs to '{fleet}'")
    if offer.host != host:
        return Refuse(f"the release is for the host '{offer.host}', this is '{host}'")
    if floor is None or offer.serial > floor.serial:
        return Take(Floor(offer.serial, offer.line, "accepted"))
    if offer.serial < floor.serial:
        return Refuse(f"the release {offer.serial} is older than {floor.serial}, which this host has seen")
    if offer.line != floor.line:
        return Refuse(f"two different releases carry the serial {offer.serial}: a signing key may be misused")
    return Take(_resumed(floor))


def again(floor: Floor, now: Digest | None = None) -> Take | NothingNew:
    """The release of the floor is offered once more: resume it unless it is done with. Needs no signature.

    `now` stands for today's circumstances; it matters only to a floor with an `until`.
    """
    if floor.progress == "finished":
        return NothingNew()
    if floor.tries >= MAX_TRIES:
        return NothingNew("failed too often")
    if floor.until is not None and floor.until == now:
        return NothingNew("nothing changed")
    return Take(_resumed(floor))


def _resumed(floor: Floor) -> Floor:
    """A try under way is "accepted": one that is cut off is counted by the recovery, one that ended counts itself."""
    return replace(floor, progress="accepted", until=None)


def finished(floor: Floor) -> Floor:
    """The release is installed."""
    return replace(floor, progress="finished", tries=0, until=None)


def retried(floor: Floor) -> Floor:
    """A person wants a release that failed to be tried again, as if it were new."""
    return replace(_resumed(floor), tries=0) if floor.progress == "failed" else floor


def failed(floor: Floor, *, counts: bool = True, until: Digest | None = None) -> Floor:
    """A try didn't succeed. It doesn't count where something else was the trouble (the server gone, for one).

    Each try counts once: what a recovery finds counted is left. With `until`, the next try waits for other
    circumstances than these.
    """
    if floor.progress == "failed":
        return replace(floor, until=until)
    return replace(floor, progress="failed", tries=floor.tries + (1 if counts else 0), until=until)
