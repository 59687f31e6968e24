"""What this host trusts and remembers, and how a person at the machine has it go on where its memory is damaged.

Nothing here is ever done by a run: a floor that begins anew by itself would let a server bring back any older release.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from bento.adapters import signatures
from bento.agent.host import Host
from bento.agent.install import stored_manifest
from bento.agent.state import Damaged
from bento.agent.turn import refuse_busy
from bento.core import trust_rules
from bento.core.journal import Journal, Point
from bento.core.trust_rules import Floor
from bento.errors import BentoError, EnvironmentFailed, InputError
from bento.models.trust import NAMESPACE_RELEASE
from bento.names import Digest, Serial

_FLOOR: Final = "floor.json"
_JOURNAL: Final = "journal.json"


@dataclass(frozen=True)
class Memory:
    """What there is to know of this host's past, whatever of it is damaged.

    `floor` and `journal` are None where they are gone or can't be read; `damage` says what is wrong, by file. `sources`
    is the highest serial that each source tells of; `known` is the lowest that a floor may be.
    """

    floor: Floor | None
    journal: Journal | None
    damage: Mapping[str, str]
    sources: Mapping[str, Serial]
    known: Serial | None


@dataclass(frozen=True)
class Mend:
    """What a person is asked to agree to: the new floor, the new journal if that must be made anew, files put aside."""

    before: Memory
    floor: Floor
    journal: Journal | None
    aside: tuple[Path, ...]


def remembered(host: Host) -> Memory:
    """Look; change nothing."""
    damage: dict[str, str] = {}
    floor: Floor | None = None
    journal: Journal | None = None
    try:
        floor = host.state.written_floor()
    except Damaged as error:
        damage[_FLOOR] = error.message
    try:
        journal = host.state.written_journal()
    except Damaged as error:
        damage[_JOURNAL] = error.message
    sources = dict(_sources(host, floor, journal))
    others = [serial for source, serial in sources.items() if source != "floor"]
    if not damage:  # each is whole by itself; then it is the two together, or what is stored
        try:
            host.state.floor()
        except Damaged as error:
            gone = journal is None and floor is not None and floor.progress == "finished"
            damage[_JOURNAL if gone else _FLOOR] = error.message
    return Memory(floor, journal, damage, sources, trust_rules.highest(floor, others))


def _sources(host: Host, floor: Floor | None, journal: Journal | None) -> Iterator[tuple[str, Serial]]:
    if floor is not None:
        yield "floor", floor.serial
    if journal is not None and journal.serials:
        yield "journal", max(journal.serials)
    stored = host.state.serials()
    if stored:
        yield "stored manifests", max(stored)
    live = host.runtime.live()
    if live:
        yield "live secrets", Serial(live)


def plan(host: Host, wanted: Serial | None, *, lower: bool = False) -> Mend | None:
    """What `mend` would do; None where nothing is damaged and no other floor is wanted.

    Raises InputError where nothing on this host tells its floor, and for one that is too low, unless it is to be
    `lower`; AgentBusy while the system is being switched.
    """
    refuse_busy(host)
    before = remembered(host)
    if not before.damage and (wanted is None or (before.floor is not None and before.floor.serial == wanted)):
        return None
    lines = _lines(host)
    floor = trust_rules.mended(before.floor, before.known, lines, wanted, lower=lower)
    rebuilt = _JOURNAL in before.damage
    aside = tuple(
        host.state.root / name for name in (_FLOOR, _JOURNAL) if name in before.damage or (name == _FLOOR and wanted)
    )
    return Mend(before, floor, _rebuilt(host) if rebuilt else None, tuple(one for one in aside if os.path.lexists(one)))


def mend(host: Host, wish: Mend) -> tuple[Path, ...]:
    """Do it: put the old files aside, then write the new ones. Returns where they are now. Raises EnvironmentFailed.

    The floor is the last: cut off before that, the host goes on taking nothing.
    """
    kept = tuple(_put_aside(path, host.clock()) for path in wish.aside)
    if wish.journal is not None:
        host.state.write_journal(wish.journal)
    host.state.write_floor(wish.floor)
    host.state.write_told(None)
    return kept


def _put_aside(path: Path, now: int) -> Path:
    """A second name for the file, so that its place is never empty; what has no second name is moved."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    number = 0
    while True:
        kept = path.with_name(f"{path.name}.{stamp}{f'-{number}' if number else ''}")
        number += 1
        if os.path.lexists(kept):
            continue
        try:
            if path.is_file() and not path.is_symlink():
                kept.hardlink_to(path)
            else:
                path.rename(kept)
        except OSError as error:
            raise EnvironmentFailed(
                f"can't put {path} aside: {error.strerror}", f"see the disk: df -h {quote(str(path.parent))}"
            ) from None
        return kept


def _lines(host: Host) -> dict[Serial, Digest]:
    """The lines of the releases that are stored here, as far as they still verify."""
    found: dict[Serial, Digest] = {}
    for serial in host.state.serials():
        try:
            document = host.state.manifest(serial)
            good = signatures.verified(document, host.trust.signers, NAMESPACE_RELEASE)
            if good and stored_manifest(host, serial).serial == serial:
                found[serial] = document.line_digest
        except (InputError, Damaged):
            continue
    return found


def _rebuilt(host: Host) -> Journal:
    """As far as this host can tell: what runs, with the secrets that are live, or else the newest that belong to it."""
    systems: dict[str, Serial] = {}
    for serial in sorted(host.state.serials()):
        try:
            system = stored_manifest(host, serial).system
        except BentoError:
            continue
        if system is not None:
            systems[system] = serial
    running, live = host.running(), host.runtime.live()
    if running is not None and live is not None and Serial(live) in host.state.serials():
        systems[running] = Serial(live)
    committed = systems.get(running) if running is not None else None
    return Journal(committed=Point(running if committed is not None else None, committed), systems=systems)
