"""The journal: which system belongs to which release, and what a run that died was doing. Pure; state.py stores it.

Everything that can happen to it is in `TABLE`, which docs/recovery.md shows and explains.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from bento.errors import WorkFailed
from bento.names import Serial

Phase = Literal["idle", "switching", "committing"]
PHASES: Final[tuple[Phase, ...]] = ("idle", "switching", "committing")

Event = Literal[
    "a release is to be switched to",
    "the new system is confirmed",
    "the new system is the boot default",
    "the old one is in force again",
    "found, and the new system runs",
    "found, and another system runs",
]
Action = Literal["capture", "go forward", "commit", "abandon", "go back", "nothing", "refuse"]

# State and event → what is done, and the state after it.
TABLE: Final[Mapping[tuple[Phase, Event], tuple[Action, Phase]]] = {
    ("idle", "a release is to be switched to"): ("capture", "switching"),
    ("idle", "the new system is confirmed"): ("refuse", "idle"),
    ("idle", "the new system is the boot default"): ("refuse", "idle"),
    ("idle", "the old one is in force again"): ("refuse", "idle"),
    ("idle", "found, and the new system runs"): ("nothing", "idle"),
    ("idle", "found, and another system runs"): ("nothing", "idle"),
    ("switching", "a release is to be switched to"): ("refuse", "switching"),
    ("switching", "the new system is confirmed"): ("go forward", "committing"),
    ("switching", "the new system is the boot default"): ("refuse", "switching"),
    ("switching", "the old one is in force again"): ("abandon", "idle"),
    ("switching", "found, and the new system runs"): ("go back", "switching"),
    ("switching", "found, and another system runs"): ("go back", "switching"),
    ("committing", "a release is to be switched to"): ("refuse", "committing"),
    ("committing", "the new system is confirmed"): ("go forward", "committing"),
    ("committing", "the new system is the boot default"): ("commit", "idle"),
    ("committing", "the old one is in force again"): ("abandon", "idle"),
    ("committing", "found, and the new system runs"): ("go forward", "committing"),
    ("committing", "found, and another system runs"): ("go back", "committing"),
}


@dataclass(frozen=True)
class Point:
    """A system (any store path) and the release whose secrets belong to it; None before the first release."""

    system: str | None
    serial: Serial | None


@dataclass(frozen=True)
class Journal:
    """`committed` is where the host is; `old` and `new` are set while a switch is under way.

    `old_profile` is what the system profile pointed to before. `systems` maps each system path to the newest release
    committed with it: at boot this tells whose secrets to open. `going_back`: the switch under way is being undone.
    """

    phase: Phase = "idle"
    committed: Point = Point(None, None)
    old: Point | None = None
    new: Point | None = None
    old_profile: str | None = None
    systems: Mapping[str, Serial] = field(default_factory=dict)
    going_back: bool = False

    @property
    def serials(self) -> frozenset[Serial]:
        """Every release that it names."""
        points = (point.serial for point in (self.committed, self.old, self.new) if point is not None)
        return frozenset((*(serial for serial in points if serial is not None), *self.systems.values()))


def _after(journal: Journal, event: Event) -> Phase:
    """The state that the table gives. Raises WorkFailed where it has no way."""
    action, phase = TABLE[journal.phase, event]
    if action != "refuse":
        return phase
    if journal.phase != "idle":
        raise WorkFailed("a switch that was cut off is not undone yet", "undo it first: bento-agent run")
    raise WorkFailed("no switch is under way", "see what this host is at: bento-agent status")


def begin_switch(journal: Journal, old: Point, new: Point, old_profile: str | None) -> Journal:
    """A switch starts: from here on a crash leads back to `old`.

    Raises WorkFailed while another one is under way: its `old` is the only way back, and is never replaced.
    """
    phase = _after(journal, "a release is to be switched to")
    return replace(journal, phase=phase, old=old, new=new, old_profile=old_profile)


def begin_commit(journal: Journal) -> Journal:
    """The new system is confirmed: from here on a crash leads forward. Raises WorkFailed without a switch."""
    return replace(journal, phase=_after(journal, "the new system is confirmed"))


def commit(journal: Journal) -> Journal:
    """The switch is done; the new point is where the host is. Raises WorkFailed before `begin_commit`."""
    phase = _after(journal, "the new system is the boot default")
    new = journal.committed if journal.new is None else journal.new
    systems = dict(journal.systems)
    if new.system is not None and new.serial is not None:
        systems[new.system] = new.serial
    return Journal(phase, committed=new, systems=systems)


def abandon(journal: Journal) -> Journal:
    """The switch was rolled back; the host is where it was. Raises WorkFailed without a switch."""
    phase = _after(journal, "the old one is in force again")
    return Journal(phase, committed=journal.committed, systems=journal.systems)


def go_back(journal: Journal) -> Journal:
    """The switch is being undone: a system that is both the old and the new one gets the old secrets from here on."""
    return replace(journal, going_back=journal.phase != "idle")


def recovery(journal: Journal, current_system: str | None) -> Action:
    """What a run that finds this journal must do first: "nothing", "go forward" or "go back".

    Committing goes forward only on the system that was confirmed: after a power cut the old one may have booted. What
    was being undone is undone.
    """
    if journal.going_back:
        return "go back"
    runs_new = journal.new is not None and current_system == journal.new.system
    action, _ = TABLE[journal.phase, "found, and the new system runs" if runs_new else "found, and another system runs"]
    return action


def serial_for(journal: Journal, system: str | None, stored: Container[Serial]) -> Serial | None:
    """Whose secrets belong to `system` while it is being activated (docs/recovery.md, "What is true in each state").

    While switching to it: the candidate. Going back: the captured old one. Else the newest committed with that path;
    an unknown path, or none given, or one whose release isn't `stored` any more, gets the committed release.
    """
    back = journal.going_back and journal.old is not None and system == journal.old.system
    if journal.phase != "idle" and journal.new is not None and system == journal.new.system and not back:
        return journal.new.serial
    if journal.phase != "idle" and journal.old is not None and system == journal.old.system:
        return journal.old.serial
    if system is not None and journal.systems.get(system) in stored:
        return journal.systems[system]
    return journal.committed.serial


def forget_systems(journal: Journal, bootable: Container[str]) -> Journal:
    """The journal without the systems that can't be booted any more: it would else grow with every release."""
    points = {point.system for point in (journal.committed, journal.old, journal.new) if point is not None}
    kept = {system: serial for system, serial in journal.systems.items() if system in bootable or system in points}
    return replace(journal, systems=kept)


def serials_in_use(journal: Journal, systems_kept: frozenset[str]) -> frozenset[Serial]:
    """Releases whose manifests and ciphertext must stay: committed, under way, or of a system still in the profile."""
    points = (journal.committed, journal.old, journal.new)
    kept = {point.serial for point in points if point is not None and point.serial is not None}
    kept |= {serial for system, serial in journal.systems.items() if system in systems_kept}
    return frozenset(kept)
