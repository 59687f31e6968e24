"""Take a verified, fetched release: open its secrets, build, switch, confirm, commit; or leave everything as it was."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bento.adapters import bootloader, desktop, nix
from bento.adapters.declared import declaration_of
from bento.adapters.tree import unpack
from bento.agent.activate import Log, NeedsReboot, begin, commit, roll_back, switch
from bento.agent.confirm import check_health, failed_units
from bento.agent.fetch import objects_of
from bento.agent.host import Host
from bento.agent.install import check_links, known_manifest, open_generation, prune_generations, stored_manifest
from bento.agent.link import reachable_within
from bento.agent.reboot import reason_to_reboot, rescue
from bento.agent.reporting import make_report
from bento.agent.state import Damaged
from bento.agent.turn import AgentBusy, refuse_busy
from bento.core import journal as journal_rules
from bento.core import trust_rules
from bento.core.declared import check_satisfied
from bento.core.deploy_plan import same_build
from bento.core.journal import Journal, Point
from bento.core.trust_rules import Floor
from bento.errors import BentoError, InputError, Refused
from bento.models.manifest import Manifest
from bento.names import Digest, Serial

if TYPE_CHECKING:
    from bento.models.report import Outcome

# A builder that says nothing for two hours hangs; without an end to it no later release would ever be tried.
_PATIENCE = ("--max-silent-time", "7200")  # seconds, to Nix
PROBE_AGAIN = 10.0  # seconds at least given to the server after a rollback, to tell whose fault the silence was
_INSTALLED = ("succeeded", "degraded", "reboot-needed")


@dataclass(frozen=True)
class Taken:
    """What came of it."""

    outcome: "Outcome"
    reason: str
    again: bool = False  # though refused, worth another try while nothing changes here


def take_release(host: Host, manifest: Manifest, floor: Floor) -> Taken:
    """Install the release, and leave a report of it in the spool. Raises AgentBusy, with nothing switched."""
    log = Log(host.say)
    before = host.running()
    new_system: str | None = None
    try:
        open_generation(host, manifest)
        check_links(host, manifest.serial)
        new_system, built = _system(host, manifest, log)
        check_declaration(new_system, manifest)
    except Refused as error:
        taken = Taken("refused", error.message, again=isinstance(error, nix.NotToBeHad))
    except (BentoError, OSError) as error:
        taken = Taken("failed", str(error))
    else:
        taken = activate_system(host, manifest, new_system, built, log)
    # The report first: a kill in between costs a second report, not the only one.
    try:
        make_report(host, taken.outcome, taken.reason, manifest=manifest, systems=(before, new_system), log=log.text)
    except BentoError:
        if taken.outcome not in _INSTALLED and taken.outcome != "unconfirmed":
            host.state.write_floor(trust_rules.failed(floor))  # another try brings the report, but not for ever
        raise
    _settle_floor(host, floor, taken)
    notify(host, before, taken)
    tidy_up(host)
    return taken


def notify(host: Host, before: str | None, taken: Taken) -> None:
    """Tell who is at the machine what he would else only wonder about: another system, or a reboot that is wanted."""
    if not host.settings.desktop:
        return
    installed = ("succeeded", "auto-updated")
    if taken.outcome == "reboot-needed" or (taken.outcome in installed and reason_to_reboot(host) is not None):
        desktop.notify("This computer has an update", "It takes effect when the computer is started anew.")
    elif taken.outcome == "auto-updated":
        desktop.notify("This computer was updated", "It fetched newer versions of its software by itself.")
    elif taken.outcome in ("succeeded", "degraded") and host.running() != before:
        desktop.notify("This computer was updated", f"It now has release {host.state.journal().committed.serial}.")


def _settle_floor(host: Host, floor: Floor, taken: Taken) -> None:
    if taken.outcome in _INSTALLED:
        host.state.write_floor(trust_rules.finished(floor))
        return
    # What was built, switched to and rolled back would be so again, and people would notice. What failed before that
    # (a build without a link to its caches, say) disturbs nobody: it is tried again at once, and then more seldom.
    refused = taken.outcome == "refused" and not taken.again
    disturbed = refused or taken.outcome == "rolled-back" or host.state.journal().phase != "idle"
    until, clock = (host.circumstances(), None) if disturbed else (None, host.clock())
    counts = taken.outcome != "unconfirmed"
    host.state.write_floor(trust_rules.failed(floor, counts=counts, until=until, clock=clock))


def _system(host: Host, manifest: Manifest, log: Log) -> tuple[str, bool]:
    """The release's system, and whether it was built for it. Raises BuildFailed, Refused if it isn't the signed one."""
    committed = host.state.journal().committed
    if committed.system is not None and committed.serial is not None and _in_place(host, committed.system):
        last = known_manifest(host, committed.serial)  # it may be what this host made of it by itself: that stays
        if last is not None and same_build(last, manifest):
            host.say("the configuration is the one that runs: no build")
            return committed.system, False
    if manifest.settings.evaluate == "server":
        return _fetched(host, manifest), True
    with unpacked(host, manifest) as tree:
        system = build_tree(host, manifest, tree, log)
    if manifest.system is not None and system != manifest.system:
        said = f"this host builds {system}, the admin built {manifest.system}"
        if manifest.settings.on_difference == "refuse":
            raise Refused(said)
        log.add(said + "\n")
    return system, True


@contextmanager
def unpacked(host: Host, manifest: Manifest) -> Iterator[Path]:
    """The release's configuration as a folder, for as long as it is needed."""
    tree = host.state.config / manifest.config.digest
    shutil.rmtree(tree, ignore_errors=True)
    unpack(host.state.objects / manifest.config.digest, tree)
    try:
        yield tree
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def build_tree(host: Host, manifest: Manifest, tree: Path, log: Log) -> str:
    """The system of an unpacked configuration, kept from garbage collection. Raises BuildFailed."""
    host.say("building")
    args = (*_PATIENCE, *manifest.settings.args)  # the last word is the admin's
    source = nix.BuildInput(tree, manifest.config.kind, manifest.config.attribute, args)
    try:
        return nix.build(source, host.gc_root("new"))
    except nix.BuildFailed as error:
        log.add(error.log)
        raise


def _fetched(host: Host, manifest: Manifest) -> str:
    """The signed system, from a substituter: for a host without the memory to evaluate. Raises Refused."""
    if manifest.system is None:
        raise Refused("the release names no system, and its settings forbid this host to evaluate")
    host.say(f"fetching {manifest.system}")
    nix.fetch(manifest.system, host.gc_root("new"))
    return manifest.system


def check_declaration(system: str, manifest: Manifest) -> None:
    """Refused where the system wants other secrets than the release brings: its services would start without them."""
    try:
        declaration = declaration_of(Path(system))
    except InputError as error:
        raise Refused(error.message) from None
    if declaration is not None:
        check_satisfied(declaration, manifest.secrets, manifest.templates)


def _in_place(host: Host, system: str) -> bool:
    return host.running() == system and host.profile() == system


def activate_system(host: Host, manifest: Manifest, system: str, built: bool, log: Log) -> Taken:  # noqa: FBT001 — one fact about `system`
    """Switch to the system and the release's secrets, whose generation is there; confirm; commit, or go back.

    Raises AgentBusy, with nothing switched.
    """
    refuse_busy(host)
    failed_before = failed_units(host)
    try:
        journal = begin(host, Point(system, manifest.serial))
    except BentoError as error:
        return Taken("failed", error.message)
    try:
        if manifest.settings.action == "boot" and not _in_place(host, system):
            raise NeedsReboot("the release takes effect at the next boot, as its settings ask")
        notes = list(switch(host, journal, log, failed_before))
        if not reachable_within(host, host.settings.confirm_timeout):
            return _unreachable(host, journal, log)
        notes.extend(note for note in check_health(host, failed_before) if note not in notes)
        commit(host, journal, log)
    except AgentBusy:
        raise
    except NeedsReboot as error:
        return _at_next_boot(host, journal, log, error.message)
    except (BentoError, OSError) as error:
        return _undo(host, journal, log, str(error))
    if built and (full := bootloader.tight(host.settings.paths.boot, system)) is not None:
        notes.append(full)
    wish = reason_to_reboot(host)
    if wish is not None:
        host.say(wish)
    if notes:
        return Taken("degraded", "; ".join(notes))
    if built and manifest.system is not None and system != manifest.system:
        return Taken("succeeded", "installed; this host builds another system than the admin did")
    installed = "installed" if built else "installed without a rebuild"
    return Taken("succeeded", installed if wish is None else f"{installed}; {wish}")


def _at_next_boot(host: Host, journal: Journal, log: Log, reason: str) -> Taken:
    try:
        commit(host, journal, log)
    except BentoError as error:
        return _undo(host, journal, log, error.message)
    return Taken("reboot-needed", reason)


def _undo(host: Host, journal: Journal, log: Log, why: str) -> Taken:
    try:
        roll_back(host, journal, log)
    except BentoError as error:
        also = "; rebooting into the old system" if rescue(host) else ""
        return Taken("failed", f"{why}; then {error.message}{also}")
    return Taken("rolled-back", why)


def _unreachable(host: Host, journal: Journal, log: Log) -> Taken:
    """The server went silent after the switch. If it stays so on the old system, the release wasn't to blame."""
    undone = _undo(host, journal, log, f"after the switch {host.silence}")
    # A network that comes back as slowly as it may come up: else a release that breaks it would be tried for ever.
    if undone.outcome == "rolled-back" and not reachable_within(host, max(PROBE_AGAIN, host.settings.confirm_timeout)):
        return Taken("unconfirmed", f"{host.silence}, neither with the new system nor with the old")
    return undone


def tidy_up(host: Host) -> None:
    """`prune`, where it can be done: what isn't tidied up now is by the next release."""
    try:
        prune(host)
    except (BentoError, OSError) as error:
        host.say(f"can't remove what isn't needed any more: {error}")


def prune(host: Host) -> None:
    """Forget generations, manifests and objects that no committed release and no bootable system needs."""
    journal = host.state.journal()
    if journal.phase != "idle":
        return
    bootable = nix.profile_systems(host.settings.paths.profile, tuple(filter(None, (host.running(),))))
    less = journal_rules.forget_systems(journal, bootable)
    if less != journal:
        host.state.write_journal(less)
    serials = set(journal_rules.serials_in_use(journal, bootable))
    floor = host.state.floor()
    if floor is not None:
        serials.add(floor.serial)
    live = host.runtime.live()
    if live is not None:  # after a release for the next boot, the live one is neither committed nor the newest
        serials.add(Serial(live))
    prune_generations(host, {serial for serial in (live, journal.committed.serial) if serial is not None})
    objects: set[Digest] = set()
    for serial in serials & host.state.serials():
        try:
            objects |= set(objects_of(stored_manifest(host, serial)))
        except (Damaged, InputError) as error:  # lost; one that the disk only doesn't give now needs its objects
            host.say(error.message)
    host.state.prune(serials, objects)
    host.state.prune_locks(journal.committed.system)
