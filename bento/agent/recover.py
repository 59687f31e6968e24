"""What a run finds when the one before it died, and what the boot finds: bring system and secrets to one release."""

from bento.agent.activate import Log, commit, roll_back
from bento.agent.host import Host
from bento.agent.install import (
    flip,
    flip_for_users,
    open_for_users,
    open_generation,
    settle_owners,
    stored_manifest,
)
from bento.agent.reporting import make_report
from bento.agent.take import Taken
from bento.core import journal as rules
from bento.core import trust_rules
from bento.core.journal import Journal
from bento.errors import BentoError
from bento.names import Serial
from bento_secrets.runtime import Unowned


def recover(host: Host, journal: Journal) -> Taken:
    """Finish a confirmed switch, undo any other; idempotent. Leaves a report in the spool."""
    log = Log(host.say)
    way = rules.recovery(journal, host.running())
    host.say(f"the last run was cut off while {journal.phase}: going {way}")
    try:
        if way == "forward":
            taken = _finish(host, journal, log)
        else:
            roll_back(host, journal, log)
            taken = Taken("rolled-back", f"the run was cut off while {journal.phase}")
    except BentoError as error:
        taken = Taken("failed", f"recovering from a run that was cut off: {error.message}")
    host.say(f"{taken.outcome}: {taken.reason}")
    serial = journal.new.serial if journal.new is not None else None
    manifest = None if serial is None else stored_manifest(host, serial)
    systems = (journal.old.system if journal.old else None, journal.new.system if journal.new else None)
    make_report(host, taken.outcome, taken.reason, manifest=manifest, systems=systems, log=log.text)
    _settle(host, journal, taken)
    return taken


def _finish(host: Host, journal: Journal, log: Log) -> Taken:
    """Go forward; where that can't be done, back."""
    try:
        if journal.new is not None and journal.new.serial is not None:
            reinstall(host, journal.new.system)
        commit(host, journal, log)
    except BentoError as error:
        roll_back(host, journal, log)
        return Taken("rolled-back", f"the run was cut off while committing, which failed: {error.message}")
    return Taken("succeeded", "installed; the run was cut off while committing and has been finished")


def _settle(host: Host, journal: Journal, taken: Taken) -> None:
    floor = host.state.floor()
    if floor is None or journal.new is None or floor.serial != journal.new.serial:
        return
    done = trust_rules.finished(floor) if taken.outcome == "succeeded" else trust_rules.failed(floor)
    host.state.write_floor(done)


def reinstall_for_users(host: Host, system: str | None) -> Serial | None:
    """Make what must be there before users live, of the release that belongs to `system`, offline. Its serial."""
    serial = rules.serial_for(host.state.journal(), system)
    if serial is not None:
        host.ensure_runtime()
        open_for_users(host, stored_manifest(host, serial))
        flip_for_users(host, serial)
    return serial


def reinstall(host: Host, system: str | None) -> tuple[Serial | None, tuple[Unowned, ...]]:
    """Make the secrets that belong to `system` live, offline. Returns the serial, and those without owner."""
    serial = rules.serial_for(host.state.journal(), system)
    if serial is None:
        return None, ()
    host.ensure_runtime()
    open_generation(host, stored_manifest(host, serial))
    flip(host, serial)
    return serial, settle_owners(host, serial)
