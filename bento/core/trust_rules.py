"""Whether a host takes what a server offers. Every trust decision after the signature is on this screen.

The signature has been verified over the raw line before any of this is asked (agent/run.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bento.errors import InputError
from bento.names import Digest, HostName, Serial, printable

MAX_TRIES = 3  # a release that failed is tried this often, then left until something changes, or for some time
_HOUR, _DAY = 3600, 24 * 3600  # seconds

Progress = Literal["accepted", "failed", "finished"]
PROGRESS: tuple[Progress, ...] = ("accepted", "failed", "finished")


@dataclass(frozen=True)
class Floor:
    """What this host has accepted last: it never goes below. `line` is the sha256 of the manifest's JSON line.

    `line` is None where a person set the floor, and only its serial is known. `over` is the highest serial that this
    host knew of when a person set the floor below it: up to there, being below is no damage.
    `until` stands for the circumstances in which a try failed: while they are the same, so would be the next one.
    `later` is when one that disturbed nobody is tried again, though it failed too often, in UTC seconds.
    """

    serial: Serial
    line: Digest | None
    progress: Progress
    tries: int = 0
    until: Digest | None = None
    over: Serial | None = None
    later: int | None = None


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
    """Rules 3 and 4 of docs/security.md, "What a host enforces". Whether the floor's own is done with, ask `again`."""
    if offer.fleet != fleet:
        return Refuse(f"the release is for the fleet '{printable(offer.fleet)}', this host belongs to '{fleet}'")
    if offer.host != host:
        return Refuse(f"the release is for the host '{offer.host}', this is '{host}'")
    if floor is None or offer.serial > floor.serial:
        return Take(Floor(offer.serial, offer.line, "accepted", over=None if floor is None else floor.over))
    if offer.serial < floor.serial:
        return Refuse(f"the release {offer.serial} is older than {floor.serial}, which this host has seen")
    if floor.line is None:
        return Take(_resumed(replace(floor, line=offer.line)))
    if offer.line != floor.line:
        return Refuse(f"two different releases carry the serial {offer.serial}: a signing key may be misused")
    return Take(_resumed(floor))


def again(floor: Floor, now: Digest | None = None, clock: int = 0) -> Take | NothingNew:
    """The release of the floor is offered once more: resume it unless it is done with. Needs no signature.

    `now` stands for today's circumstances; it matters only to a floor with an `until`. `clock` is UTC seconds.
    """
    if floor.progress == "finished":
        return NothingNew()
    if floor.tries >= MAX_TRIES and not _is_later(floor, clock):
        return NothingNew("failed too often")
    if floor.until is not None and floor.until == now:
        return NothingNew("nothing changed")
    return Take(_resumed(floor))


def _is_later(floor: Floor, clock: int) -> bool:
    """Whether the pause is over. One that would last longer than any is a clock that was wrong."""
    return floor.later is not None and not clock < floor.later <= clock + _DAY


def _resumed(floor: Floor) -> Floor:
    """A try under way is "accepted": one that is cut off is counted by the recovery, one that ended counts itself.

    `later` stays, so that one which is cut off before it switched anything is taken up again.
    """
    return replace(floor, progress="accepted", until=None)


def finished(floor: Floor) -> Floor:
    """The release is installed."""
    return replace(floor, progress="finished", tries=0, until=None, later=None)


def retried(floor: Floor) -> Floor:
    """A person wants a release that failed to be tried again, as if it were new."""
    return replace(_resumed(floor), tries=0, later=None) if floor.progress == "failed" else floor


def failed(floor: Floor, *, counts: bool = True, until: Digest | None = None, clock: int | None = None) -> Floor:
    """A try didn't succeed. It doesn't count where something else was the trouble (the server gone, for one).

    Each try counts once: what a recovery finds counted is left. With `until`, the next try waits for other
    circumstances than these. A try that disturbed nobody says when it failed (`clock`, UTC seconds): too many of them
    only make the pauses long, an hour and then twice as long each time, a day at most.
    """
    if floor.progress == "failed":
        return replace(floor, until=until)
    tries = floor.tries + (1 if counts else 0)
    pause = min(_HOUR << min(max(tries - MAX_TRIES, 0), 5), _DAY)
    return replace(floor, progress="failed", tries=tries, until=until, later=None if clock is None else clock + pause)


def highest(floor: Floor | None, others: Iterable[Serial]) -> Serial | None:
    """The highest serial that anything on a host tells of: a whole floor is never below it.

    `others` is what the journal, stored manifests and live secrets name. What lies up to `floor.over` is no evidence: a
    person knew of it.
    """
    over = floor.over if floor is not None else None
    found = [serial for serial in others if over is None or serial > over]
    return max([*found, *([floor.serial] if floor is not None else [])], default=None)


def mended(
    floor: Floor | None,
    known: Serial | None,
    lines: Mapping[Serial, Digest],
    wanted: Serial | None,
    *,
    lower: bool = False,
) -> Floor:
    """The floor that a person at the machine sets: at what is `known` (see `highest`), or at the serial `wanted`.

    `floor` is the one that can be read; `lines` are those of the releases that are stored, and verify. Its release is
    taken once more by the next run, so that system and secrets are whole. Raises InputError where nothing is known, and
    for a serial below what is, unless the person says `lower`: a server may then bring back all that was signed since.
    """
    serial = known if wanted is None else wanted
    if serial is None:
        raise InputError(
            "nothing on this host tells which release it had",
            "ask the admin (bento logs HOST shows it), then name it: bento-agent trust --floor SERIAL",
            "or take any release that was ever signed for this host: bento-agent trust --floor 1",
        )
    below = known is not None and serial < known
    if below and not lower:
        raise InputError(
            f"this host has known release {known}: with {serial} as floor a server could take it back to what is older",
            f"if that is what you want: bento-agent trust --floor {serial} --lower",
        )
    overs = (known if below else None, floor.over if floor is not None else None)
    line = floor.line if floor is not None and floor.serial == serial else None
    over = max((one for one in overs if one is not None), default=None)
    return Floor(serial, line or lines.get(serial), "accepted", over=over)
