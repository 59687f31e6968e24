"""What a host says of itself: read from the targets as hostile input, believed only where its own key signed it."""

from collections.abc import Iterable, Sequence

from bento.adapters import signatures
from bento.adapters.transport import PublishTarget
from bento.admin.inventory import Host
from bento.admin.standing import each_target
from bento.errors import InputError
from bento.models.report import Heartbeat, Report, parse_heartbeat, parse_report
from bento.models.signed import split
from bento.models.trust import NAMESPACE_REPORT, Trust


def verified_report(raw: bytes | None, host: Host, trust: Trust) -> Report:
    """The report of these bytes. Raises InputError, saying why it isn't one of this host; its bytes are not quoted."""
    report = parse_report(_verified(raw, host))
    if (report.host, report.fleet) != (host.name, trust.fleet):
        raise InputError("it is about another host or fleet")
    return report


def newest_heartbeat(targets: Sequence[PublishTarget], host: Host, trust: Trust, notes: list[str]) -> Heartbeat | None:
    """The host's last sign of life on any target; a note for each that can't be verified, or read.

    Raises what the first target raised where none can be read.
    """
    read = each_target(targets, {}, lambda target: heartbeat_on(target, host, trust, notes))
    found = [one for _, one in read if one is not None]
    return last_of(found)


def last_of(found: Iterable[Heartbeat]) -> Heartbeat | None:
    """The newest of a host's signs of life."""
    return max(found, key=lambda one: (one.after, one.time), default=None)


def heartbeat_on(target: PublishTarget, host: Host, trust: Trust, notes: list[str]) -> Heartbeat | None:
    """The host's last sign of life on this target; a note for one that can't be verified."""
    raw = target.read_heartbeat(host.name)
    if raw is None:
        return None
    try:
        heartbeat = parse_heartbeat(_verified(raw, host))
    except InputError:
        notes.append("its heartbeat can't be verified")
        return None
    return heartbeat if (heartbeat.host, heartbeat.fleet) == (host.name, trust.fleet) else None


def _verified(raw: bytes | None, host: Host) -> bytes:
    if raw is None:
        raise InputError("it is no plain file, too large, or unreadable")
    document = split(raw, "the report")
    if not signatures.verified_here(document, host.keys, NAMESPACE_REPORT):
        raise InputError("it is not signed by the host")
    return document.line
