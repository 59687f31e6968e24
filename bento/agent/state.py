"""What a host remembers across reboots, under `/var/lib/bento`: whole and on the disk before it is relied on."""

import re
import shlex
import shutil
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from bento.adapters.files import read_capped, store, sweep
from bento.core import spool, trust_rules
from bento.core.journal import PHASES, Journal, Point
from bento.core.self_update import Tried
from bento.core.trust_rules import PROGRESS, Floor
from bento.errors import BentoError, EnvironmentFailed, InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.signed import SignedDocument, canonical, split
from bento.models.strict import Table, parse_json_table
from bento.names import MAX_SERIAL, Digest, Serial
from bento_secrets.durable import fsync_dir

_SMALL = 1024 * 1024  # bytes; more than any of the small state files
_SERIAL = re.compile(r"[1-9][0-9]{0,15}")
# What a host does without a file that is no matter of trust. Where it is one, see agent/trust.py.
_WITHOUT = {
    "counter.json": "reports go on being counted from the clock, if you put it aside",
    "links.json": "links that are there stay, and are yours from then on, if you put it aside",
    "rebooted.json": "this host may reboot once more for the same, if you put it aside",
    "suspended.json": "updates are taken, if you put it aside",
    "told.json": "a refusal may be reported once more, if you put it aside",
}


class Damaged(EnvironmentFailed):
    """A state file that can't be read. Nothing is assumed in its place."""


class State:
    """The state folder. `prepare` makes it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifests = root / "manifests"
        self.objects = root / "objects"
        self.config = root / "config"
        self.spool = root / "spool"
        self.roots = root / "roots"
        self.locks = root / "self-update"  # lock files, by the system that was built with them
        self.awaiting = root / "awaiting"  # the serial that an admin is to confirm; gone once he has

    def prepare(self) -> None:
        """Make the folders, 0700. Raises EnvironmentFailed."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.root.stat().st_mode & 0o077:  # else one that is read-only would hide itself
                self.root.chmod(0o700)
            for folder in (self.manifests, self.objects, self.config, self.spool, self.roots, self.locks):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"can't make the state folder {self.root}: {error.strerror}",
                f"run it as root, or see whose it is: ls -ld {shlex.quote(str(self.root.parent))}",
            ) from None

    # What this host has accepted.

    def floor(self) -> Floor | None:
        """The floor; None before the first release. Raises Damaged, also where it doesn't fit what is installed.

        A floor that is gone, or lower than what this host has had, would open the way back to any older release.
        """
        floor = self.written_floor()
        known = trust_rules.highest(floor, {*self.journal().serials, *self.serials()})
        if known is not None and (floor is None or floor.serial < known):
            said = "it is gone" if floor is None else f"it says {floor.serial}"
            raise self._damaged("floor.json", InputError(f"{said}, but this host has known release {known}"))
        return floor

    def written_floor(self) -> Floor | None:
        """What floor.json says by itself; None where it is gone. Raises Damaged."""
        table = self._read("floor.json")
        if table is None:
            return None
        try:
            line = table.optional_text("line") if table.has("line") else table.text("line")
            floor = Floor(
                Serial.parse(table.number("serial", least=1, most=MAX_SERIAL)),
                None if line is None else table.parse("line", line, Digest.parse),
                table.choice("progress", PROGRESS),
                table.number("tries", least=0, most=1_000_000),
                table.parse("until", table.text("until"), Digest.parse) if table.has("until") else None,
                Serial.parse(table.number("over", least=1, most=MAX_SERIAL)) if table.has("over") else None,
                table.number("later", least=0, most=MAX_SERIAL) if table.has("later") else None,
            )
            table.done()
        except InputError as error:
            raise self._damaged("floor.json", error) from None
        return floor

    def write_floor(self, floor: Floor) -> None:
        """Persist the floor."""
        fields: dict[str, object] = {"serial": floor.serial, "line": floor.line, "progress": floor.progress}
        fields["tries"] = floor.tries
        further = {"until": floor.until, "over": floor.over, "later": floor.later}
        fields |= {name: value for name, value in further.items() if value is not None}
        self._write("floor.json", fields)

    def rebooted_for(self) -> str | None:
        """What this host has rebooted for by itself last. Raises Damaged."""
        table = self._read("rebooted.json")
        try:
            return None if table is None else table.text("purpose")
        except InputError as error:
            raise self._damaged("rebooted.json", error) from None

    def write_rebooted_for(self, purpose: str) -> None:
        """Remember it: once is enough."""
        self._write("rebooted.json", {"purpose": purpose})

    def suspended_until(self) -> int | None:
        """When a person wants updates again, in UTC seconds; None for now. Raises Damaged."""
        table = self._read("suspended.json")
        try:
            return None if table is None else table.number("until", least=0, most=MAX_SERIAL)
        except InputError as error:
            raise self._damaged("suspended.json", error) from None

    def write_suspended_until(self, until: int | None) -> None:
        """Remember it; None forgets it."""
        if until is not None:
            self._write("suspended.json", {"until": until})
        else:
            _remove(self.root / "suspended.json")

    # What this host does with the inputs of its flake by itself.

    def tried(self) -> Tried | None:
        """The last try; None before the first. One that can't be read costs no more than another try."""
        try:
            table = self._read("self-update.json")
            if table is None:
                return None
            tried = Tried(
                table.number("at", least=0, most=MAX_SERIAL),
                Serial.parse(table.number("serial", least=1, most=MAX_SERIAL)),
                table.parse("switched", table.text("switched"), Digest.parse) if table.has("switched") else None,
                table.has("failed") and table.choice("failed", ("yes",)) == "yes",
            )
            table.done()
        except (Damaged, InputError):
            return None
        return tried

    def write_tried(self, tried: Tried | None) -> None:
        """Persist it; None forgets it."""
        if tried is None:
            _remove(self.root / "self-update.json")
            return
        fields: dict[str, object] = {"at": tried.at, "serial": tried.serial}
        if tried.switched is not None:
            fields["switched"] = tried.switched
        if tried.failed:
            fields["failed"] = "yes"
        self._write("self-update.json", fields)

    def lock_of(self, system: str) -> bytes | None:
        """The lock file that this host built a system with by itself; None for a release's own. Raises InputError."""
        path = self.locks / f"{Path(system).name}.lock"
        return read_capped(path, _SMALL, f"the lock file {path}")

    def keep_lock(self, system: str, lock: bytes) -> None:
        """Store it."""
        store(self.locks / f"{Path(system).name}.lock", lock, 0o600)

    def prune_locks(self, system: str | None) -> None:
        """Forget all but that of `system`."""
        for path in self.locks.iterdir():
            if system is None or path.name != f"{Path(system).name}.lock":
                path.unlink(missing_ok=True)

    # What the run is doing.

    def journal(self) -> Journal:
        """The journal; an empty one before the first switch. Raises Damaged, also where it must have been there."""
        journal = self.written_journal()
        if journal is not None:
            return journal
        floor = self.written_floor()
        if floor is not None and floor.progress == "finished":
            why = f"it is gone, but release {floor.serial} was installed"
            raise self._damaged("journal.json", InputError(why))
        return Journal()

    def written_journal(self) -> Journal | None:
        """What journal.json says by itself; None where it is gone. Raises Damaged."""
        table = self._read("journal.json")
        if table is None:
            return None
        try:
            journal = Journal(
                phase=table.choice("phase", PHASES),
                committed=_point(table.table("committed")),
                old=_point(table.table("old")) if table.has("old") else None,
                new=_point(table.table("new")) if table.has("new") else None,
                old_profile=table.optional_text("old_profile"),
                systems={system: Serial.parse(serial) for system, serial in table.table("systems").rest().items()},
                going_back=table.has("way") and table.choice("way", ("back",)) == "back",
            )
            table.done()
        except InputError as error:
            raise self._damaged("journal.json", error) from None
        return journal

    def write_journal(self, journal: Journal) -> None:
        """Persist the journal."""
        fields: dict[str, object] = {
            "phase": journal.phase,
            "committed": asdict(journal.committed),
            "old_profile": journal.old_profile,
            "systems": dict(journal.systems),
        }
        if journal.going_back:
            fields["way"] = "back"
        for name, point in (("old", journal.old), ("new", journal.new)):
            if point is not None:
                fields[name] = asdict(point)
        self._write("journal.json", fields)

    # Releases.

    def manifest_line(self, serial: Serial) -> bytes:
        """The JSON line of a release that this host verified when it accepted it. Raises Damaged."""
        return self.manifest(serial).line

    def manifest(self, serial: Serial) -> SignedDocument:
        """A release's manifest, with its signatures. Raises Damaged; WorkFailed where only the disk doesn't give it."""
        what = f"the stored manifest {serial}"
        try:
            raw = read_capped(self.manifests / str(serial), LIMITS.manifest, what)
            if raw is None:
                raise InputError(f"{what} is gone")
            return split(raw, what)
        except InputError as error:
            raise Damaged(
                error.message,
                "the next run stores it anew, if it is still what is published: bento-agent run",
                "or it takes the next release without it; on the admin's machine: bento deploy",
            ) from None

    def serials(self) -> frozenset[Serial]:
        """The releases whose manifests are stored. Raises Damaged."""
        named = _names(self.manifests)
        return frozenset(Serial(int(name)) for name in named if _SERIAL.fullmatch(name) and int(name) <= MAX_SERIAL)

    def keep_manifest(self, serial: Serial, raw: bytes) -> None:
        """Store a verified manifest, as it came."""
        store(self.manifests / str(serial), raw, 0o600)

    def prune(self, serials: Collection[Serial], objects: Collection[Digest]) -> None:
        """Forget manifests and objects that nothing needs any more, and configurations that a killed build left."""
        for folder, keep in ((self.manifests, {str(serial) for serial in serials}), (self.objects, set(objects))):
            for path in folder.iterdir():
                if path.name not in keep:
                    path.unlink(missing_ok=True)
        for tree in self.config.iterdir():
            shutil.rmtree(tree, ignore_errors=True)
        sweep(self.root)
        sweep(self.spool)

    # Links to secrets, which lie outside of the state.

    def links(self) -> tuple[str, ...]:
        """Where this host has made links and not removed them. Raises Damaged."""
        table = self._read("links.json")
        if table is None:
            return ()
        try:
            paths = table.texts("paths")
            table.done()
        except InputError as error:
            raise self._damaged("links.json", error) from None
        return paths

    def write_links(self, paths: Collection[str]) -> None:
        """Remember where links are."""
        if sorted(paths) != sorted(self.links()):
            self._write("links.json", {"paths": sorted(paths)})

    # Reports.

    def next_counter(self, now: int = 0) -> int:
        """A number that this host has never used for a report: on the disk before it is used.

        At least `now` (UTC seconds), so that a host that lost its state goes on above what it used before.
        """
        counter = max(self.last_counter() + 1, now)
        self._write("counter.json", {"counter": counter})
        return counter

    def last_counter(self) -> int:
        """The newest report's number; 0 before the first. Raises Damaged."""
        table = self._read("counter.json")
        if table is None:
            return 0
        try:
            return table.number("counter", least=0, most=MAX_SERIAL - 1)
        except InputError as error:
            raise self._damaged("counter.json", error) from None

    def last_told(self) -> Digest | None:
        """What was refused or could not be kept last, and why, so that it is reported once."""
        table = self._read("told.json")
        try:
            return None if table is None else Digest.parse(table.text("told"))
        except InputError as error:
            raise self._damaged("told.json", error) from None

    def told_of_damage(self) -> bool:
        """Whether that was about this host's own memory: then it is to be told too when that is in order again."""
        table = self._read("told.json")
        return table is not None and table.has("damage")

    def write_told(self, told: Digest | None, *, damage: bool = False) -> None:
        """Remember what was reported; None forgets it, because it is over."""
        if told is not None:
            self._write("told.json", {"told": told, **({"damage": "yes"} if damage else {})})
        else:
            _remove(self.root / "told.json")

    def spooled(self) -> list[Path]:
        """Reports that wait to be sent, oldest first. Raises Damaged."""
        return sorted(self.spool / name for name in _names(self.spool) if name.endswith(".report"))

    def put_in_spool(self, counter: int, raw: bytes) -> None:
        """Keep a report until it is sent; of too many, the oldest go."""
        store(self.spool / f"{counter:020}.report", raw, 0o600)
        waiting = self.spooled()
        for path in waiting[: spool.dropped([path.stat().st_size for path in waiting])]:
            _remove(path)

    def sent(self, report: Path) -> None:
        """The report is on the server."""
        _remove(report)

    # Reading and writing.

    def _read(self, name: str) -> Table | None:
        try:
            data = read_capped(self.root / name, _SMALL, f"{self.root / name}")
            return None if data is None else parse_json_table(data, str(self.root / name))
        except (InputError, WorkFailed) as error:  # a disk that doesn't give it is no better than one that lost it
            raise self._damaged(name, error) from None

    def _write(self, name: str, fields: dict[str, object]) -> None:
        data = canonical(fields)
        if len(data) > _SMALL:  # it could never be read again
            raise EnvironmentFailed(
                f"{self.root / name} would grow beyond {_SMALL} bytes",
                "remove old generations of the system: nix-collect-garbage --delete-old",
            )
        store(self.root / name, data, 0o600)

    def _damaged(self, name: str, error: BentoError) -> Damaged:
        path = shlex.quote(str(self.root / name))
        hints = (
            (f"{_WITHOUT[name]}: mv {path} {path}.damaged",)
            if name in _WITHOUT
            else (
                "this host takes no release until a person here decides; see what it still knows: bento-agent trust",
                "go on from there: bento-agent trust --floor",
            )
        )
        return Damaged(f"{self.root / name} is damaged: {error.message}", *hints)


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError as error:
        raise Damaged(f"can't read {folder}: {error.strerror}", "see the disk: dmesg | tail") from None


def _remove(path: Path) -> None:
    """For good, if it is there. As `store`: a disk that refuses is an EnvironmentFailed."""
    try:
        path.unlink()
        fsync_dir(path.parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise EnvironmentFailed(
            f"can't remove {path}: {error.strerror}", f"see the disk: df -h {shlex.quote(str(path.parent))}"
        ) from None


def _point(table: Table) -> Point:
    serial = table.optional_number("serial")
    point = Point(table.optional_text("system"), None if serial is None else Serial.parse(serial))
    table.done()
    return point
