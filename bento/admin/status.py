"""What the admin sees of each host: published release, verified reports, and the state that follows."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from bento.adapters import signatures
from bento.adapters.folder import PublishFolder
from bento.admin.inventory import Fleet, Host
from bento.admin.publish import read_published
from bento.core.host_state import HostState, derive
from bento.errors import InputError
from bento.models.manifest import Manifest
from bento.models.report import Heartbeat, Report, parse_heartbeat, parse_report
from bento.models.signed import split
from bento.models.trust import NAMESPACE_REPORT, Trust
from bento.names import HostName

LOOKED_AT = 20  # the newest reports of a host; older ones can't change its state


@dataclass(frozen=True)
class HostStatus:
    """One row. `notes` are sentences about what isn't as it should be."""

    host: Host
    published: Manifest | None
    state: HostState
    notes: tuple[str, ...]

    @property
    def installed(self) -> int:
        """How many of the published release's secrets the host has installed, by its last report."""
        report = self.state.report
        if report is None or self.published is None:
            return 0
        have = {(one.name, one.digest) for one in report.secrets if one.state != "failed"}
        return sum((secret.name, secret.digest) in have for secret in self.published.secrets)

    @property
    def expected(self) -> int:
        """How many secrets the published release has."""
        return len(self.published.secrets) if self.published is not None else 0


def status(fleet: Fleet, trust: Trust, chosen: Iterable[HostName]) -> tuple[HostStatus, ...]:
    """The state of each chosen host. Raises EnvironmentFailed where the publish folder can't be read."""
    folder = PublishFolder(fleet.publish_root)
    return tuple(_one(folder, fleet.hosts[name], trust) for name in chosen)


def _one(folder: PublishFolder, host: Host, trust: Trust) -> HostStatus:
    notes: list[str] = []
    published: Manifest | None = None
    try:
        found = read_published(folder, host.name, trust)
        published = found[1] if found is not None else None
    except InputError as error:
        notes.append(error.message)
    reports = _reports(folder, host, trust, notes)
    heartbeat = _heartbeat(folder, host, trust, notes)
    return HostStatus(host, published, derive(published, reports, heartbeat), tuple(notes))


def _reports(folder: PublishFolder, host: Host, trust: Trust, notes: list[str]) -> list[Report]:
    """The newest verified reports. One that isn't in order is a note: a host's file can't stop the admin's work."""
    reports: list[Report] = []
    bad = 0
    for raw in islice(folder.read_reports(host.name), LOOKED_AT):
        try:
            reports.append(verified_report(raw, host, trust))
        except InputError:
            bad += 1
    if bad:
        notes.append(f"{bad} of its reports can't be verified")
    return reports


def verified_report(raw: bytes | None, host: Host, trust: Trust) -> Report:
    """The report of these bytes. Raises InputError, saying why it isn't one of this host; its bytes are not quoted."""
    report = parse_report(_verified(raw, host))
    if (report.host, report.fleet) != (host.name, trust.fleet):
        raise InputError("it is about another host or fleet")
    return report


def _heartbeat(folder: PublishFolder, host: Host, trust: Trust, notes: list[str]) -> Heartbeat | None:
    raw = folder.read_heartbeat(host.name)
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
