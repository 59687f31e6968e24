"""What the admin sees of each host: published release, verified reports, and the state that follows."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from bento.adapters.transport import PublishTarget
from bento.admin.hosts_word import newest_heartbeat, verified_report
from bento.admin.inventory import Fleet, Host
from bento.admin.standing import read_published
from bento.admin.targets import reading, targets_of
from bento.core.host_state import HostState, derive, enough
from bento.errors import InputError
from bento.models.manifest import Manifest
from bento.models.report import Report
from bento.models.trust import Trust
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


def status(
    fleet: Fleet, trust: Trust, chosen: Iterable[HostName], warn: Callable[[str], None] = lambda _: None
) -> tuple[HostStatus, ...]:
    """The state of each chosen host, from all publish targets together: a host reports to the one that it reached.

    `warn` gets a sentence for each that can't be read; what is said is then what the others know. Raises what the first
    one did if that is all of them.
    """
    hosts = [fleet.hosts[name] for name in chosen]
    with reading(targets_of(fleet, trust)) as reached:
        for one in reached.missed.values():
            warn(f"{one.message}; shown is what the other mirrors know")
        at_once = max(target.looks_at_once for target in reached.targets)
        if at_once == 1:
            return tuple(_one(reached.targets, host, trust) for host in hosts)
        with ThreadPoolExecutor(at_once) as pool:
            return tuple(pool.map(lambda host: _one(reached.targets, host, trust), hosts))


def _one(targets: Sequence[PublishTarget], host: Host, trust: Trust) -> HostStatus:
    notes: list[str] = []
    published = _published(targets, host, trust, notes)
    reports: dict[int, Report] = {}
    for target in targets:
        for report in _reports(target, host, trust, published, notes):
            reports.setdefault(report.counter, report)
    newest = sorted(reports.values(), key=lambda one: one.counter, reverse=True)[:LOOKED_AT]
    latest = newest_heartbeat(targets, host, trust, notes)
    return HostStatus(host, published, derive(published, newest, latest), tuple(notes))


def _published(targets: Sequence[PublishTarget], host: Host, trust: Trust, notes: list[str]) -> Manifest | None:
    """The newest release on any target; a note for each that has another."""
    found: dict[str, Manifest | None] = {}
    for target in targets:
        try:
            read = read_published(target, host.name, trust)
        except InputError as error:
            notes.append(error.message)
            read = None
        found[target.name] = read[1] if read is not None else None
    newest = max((one for one in found.values() if one is not None), key=lambda one: one.serial, default=None)
    if newest is not None:
        behind = [name for name, one in found.items() if one != newest]
        notes.extend(f"{name} doesn't have its newest release; next: bento deploy --on {host.name}" for name in behind)
    return newest


def _reports(
    target: PublishTarget, host: Host, trust: Trust, published: Manifest | None, notes: list[str]
) -> list[Report]:
    """The newest verified reports, down to where older ones can't change the state.

    One that isn't in order is a note: a host's file can't stop the admin's work.
    """
    reports: list[Report] = []
    bad = 0
    for raw in islice(target.read_reports(host.name), LOOKED_AT):
        try:
            reports.append(verified_report(raw, host, trust))
        except InputError:
            bad += 1
        else:
            if enough(published, reports):
                break
    if bad:
        notes.append(f"{bad} of its reports can't be verified")
    return reports
