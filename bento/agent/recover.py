"""What a run finds when the one before it died, and what the boot finds: bring system and secrets to one release."""

from bento.agent.activate import Log, close, prepare_commit, prepare_roll_back
from bento.agent.host import Host
from bento.agent.install import (
    flip,
    flip_for_users,
    is_lost,
    known_manifest,
    link_leniently,
    open_for_users,
    open_generation,
    settle_owners,
    stored_manifest,
)
from bento.agent.reboot import rescue
from bento.agent.reporting import make_report
from bento.agent.take import Taken
from bento.core import journal as rules
from bento.core import trust_rules
from bento.core.journal import Journal
from bento.errors import BentoError
from bento.names import Serial
from bento_secrets.runtime import Unowned


def recover(host: Host, journal: Journal, *, gave_up: bool = False) -> Taken:
    """Finish a confirmed switch, undo any other; idempotent. Leaves a report in the spool.

    `gave_up`: the run didn't die by itself, it hung until its time was over.
    The journal goes idle last: a kill before it costs a second report, never the only one.
    """
    log = Log(host.say)
    way = rules.recovery(journal, host.running())
    cut = f"not done within {host.settings.deadline} seconds" if gave_up else "cut off"
    host.say(f"the last run was {cut} while {journal.phase}: it must {way}")
    after = journal
    try:
        if way == "go forward":
            taken, after = _finish(host, journal, log, cut)
        else:
            after = prepare_roll_back(host, journal, log)
            taken = Taken("rolled-back", f"the run was {cut} while {journal.phase}")
    except (BentoError, OSError) as error:
        after = host.state.journal()
        also = "; rebooting into the old system" if rescue(host) else ""
        taken = Taken("failed", f"recovering from a run that was {cut}: {error}{also}")
    host.say(f"{taken.outcome}: {taken.reason}")
    if taken.outcome == "succeeded" and _by_itself(host, journal):
        taken = Taken("auto-updated", taken.reason)
    manifest = known_manifest(host, journal.new.serial if journal.new is not None else None)
    systems = (journal.old.system if journal.old else None, journal.new.system if journal.new else None)
    make_report(host, taken.outcome, taken.reason, manifest=manifest, systems=systems, log=log.text)
    _settle(host, journal, taken, gave_up=gave_up)
    close(host, after)
    return taken


def _finish(host: Host, journal: Journal, log: Log, cut: str) -> tuple[Taken, Journal]:
    """Go forward; where that can't be done, back. What came of it, and the journal to write."""
    try:
        if journal.new is not None and journal.new.serial is not None:
            reinstall(host, journal.new.system)
        after = prepare_commit(host, journal, log)
    except BentoError as error:
        after = prepare_roll_back(host, journal, log)
        return Taken("rolled-back", f"the run was {cut} while committing, which failed: {error.message}"), after
    return Taken("succeeded", f"installed; the run was {cut} while committing and has been finished"), after


def _by_itself(host: Host, journal: Journal) -> bool:
    """Whether the switch was no release's: it began when its release was installed already."""
    floor, serial = host.state.floor(), journal.committed.serial
    if floor is None or journal.new is None or floor.progress != "finished":
        return False
    return serial == journal.new.serial == floor.serial


def _settle(host: Host, journal: Journal, taken: Taken, *, gave_up: bool) -> None:
    floor = host.state.floor()
    if floor is None or journal.new is None or floor.serial != journal.new.serial:
        return
    if _by_itself(host, journal):  # the release stays installed; what was tried is written down already
        return
    if taken.outcome == "succeeded":
        host.state.write_floor(trust_rules.finished(floor))
    else:
        # Where the run itself had failed, what counts is how this host is now that it is back. One that hung would
        # hang again; one that was cut off by a person or the power needn't be.
        until = host.circumstances() if gave_up or floor.until is not None else None
        host.state.write_floor(trust_rules.failed(floor, until=until))


def reinstall_for_users(host: Host, system: str | None) -> Serial | None:
    """Make what must be there before users live, of the release that belongs to `system`, offline. Its serial."""
    serial = rules.serial_for(host.state.journal(), system, host.state.serials())
    if serial is not None:
        host.ensure_runtime()
        if not _as_it_was_opened(host, serial):
            open_for_users(host, stored_manifest(host, serial))
        flip_for_users(host, serial)
    return serial


def _as_it_was_opened(host: Host, serial: Serial) -> bool:
    """Whether a release that is lost is still there from before."""
    return is_lost(host, serial) and host.runtime.has(serial)


def reinstall(host: Host, system: str | None) -> tuple[Serial | None, tuple[Unowned, ...]]:
    """Make the secrets that belong to `system` live, offline. Returns the serial, and those without owner.

    A link that is refused is said: the secrets themselves are at the path that never changes.
    """
    serial = rules.serial_for(host.state.journal(), system, host.state.serials())
    if serial is None:
        return None, ()
    host.ensure_runtime()
    if not _as_it_was_opened(host, serial):
        open_generation(host, stored_manifest(host, serial))
    flip(host, serial)
    for trouble in link_leniently(host, serial):
        host.say(trouble)
    return serial, settle_owners(host, serial)
