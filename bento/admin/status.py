"""What the admin sees of each host: published release, verified reports, and the state that follows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from bento.adapters.transport import PublishTarget
from bento.adapters.verdicts import About, Verdicts
from bento.admin.hosts_word import heartbeat_of, last_of, verified_report
from bento.admin.inventory import Fleet, Host
from bento.admin.standing import each_target, read_manifest
from bento.admin.targets import reading, targets_of
from bento.admin.workspace import Workspace
from bento.core.host_state import HostState, derive, enough, is_first
from bento.errors import BentoError, InputError, WorkFailed
from bento.models.manifest import Manifest
from bento.models.report import Heartbeat, Report
from bento.models.trust import Trust
from bento.names import HostName

LOOKED_AT = 20  # the newest reports of a host; older ones can't change its state
_MOSTLY_ENOUGH = 2  # reports: the newest of the published release and the one before
_FIRST = "first report"  # a verdict: the one before it was about an earlier release
_TOGETHER = 1024  # hosts that are asked about in one go


@dataclass(frozen=True, slots=True)
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
    fleet: Fleet,
    trust: Trust,
    chosen: Iterable[HostName],
    warn: Callable[[str], None] = lambda _: None,
    verdicts: Verdicts | None = None,
) -> tuple[HostStatus, ...]:
    """The state of each chosen host, from all publish targets together: a host reports to the one that it reached.

    `warn` gets a sentence for each that can't be read, or not to the end; what is said is then what the others know.
    What was verified before, by this machine's memory or by `verdicts`, isn't verified again.
    Raises what the first one did where nothing is left to read a host from.
    """
    hosts = [fleet.hosts[name] for name in chosen]
    known = verdicts if verdicts is not None else Workspace(fleet.root).verdicts()
    signers = " ".join(key.blob.hex() for key in trust.signers)
    with reading(targets_of(fleet, trust)) as reached:
        missed = dict(reached.missed)
        found: list[HostStatus] = []
        for start in range(0, len(hosts), _TOGETHER):
            some = hosts[start : start + _TOGETHER]
            for target in reached.targets:
                target.look_ahead({host.name: () for host in some}, _MOSTLY_ENOUGH)
            for host in some:
                about = known.about(trust.fleet, signers, host.name, *(key.blob.hex() for key in host.keys))
                found.append(_one(reached.targets, host, trust, missed, about))
    if verdicts is None:
        known.save(whole=not missed and len(hosts) == len(fleet.hosts))
    for name, error in missed.items():
        warn(missed_mirror(name, error))
    return tuple(found)


def missed_mirror(name: str, error: BentoError) -> str:
    """The sentence on a target that couldn't be read, where others could."""
    return f"{name} can't be read: {error.message}; shown is what the other mirrors know"


@dataclass(slots=True)
class _Said:
    """What one target says of a host."""

    published: Manifest | None = None
    reports: list[Report] = field(default_factory=list)
    heartbeat: Heartbeat | None = None
    notes: list[str] = field(default_factory=list)
    unread: bool = False  # something of the host's can't be read there


def _one(
    targets: Sequence[PublishTarget], host: Host, trust: Trust, missed: dict[str, BentoError], verdicts: About
) -> HostStatus:
    said = each_target(targets, missed, lambda target: _ask(target, host, trust, verdicts))
    notes = [note for _, one in said for note in one.notes]
    published = _newest(said, host, notes)
    reports = {report.counter: report for _, one in reversed(said) for report in one.reports}
    newest = sorted(reports.values(), key=lambda one: one.counter, reverse=True)[:LOOKED_AT]
    latest = last_of(one.heartbeat for _, one in said if one.heartbeat is not None)
    state = derive(published, newest, latest, unread=any(one.unread for _, one in said))
    return HostStatus(host, published, state, tuple(notes))


def _ask(target: PublishTarget, host: Host, trust: Trust, verdicts: About) -> _Said:
    """What can't be read of this host alone is a note; raises EnvironmentFailed where the target is away."""
    said = _Said()
    try:
        said.published = read_manifest(target, host.name, trust, verdicts)
    except (InputError, WorkFailed) as error:
        said.notes.append(error.message)
    try:
        words = target.read_words(host.name)
        sign_of_life = next(words)
        _read_reports(words, host, trust, said, verdicts)
        said.heartbeat = heartbeat_of(sign_of_life, host, trust, said.notes, verdicts)
    except WorkFailed as error:
        said.notes.append(error.message)
        said.unread = True
    return said


def _newest(said: Sequence[tuple[PublishTarget, _Said]], host: Host, notes: list[str]) -> Manifest | None:
    """The newest release on any target; a note for each that has another."""
    newest = max((one.published for _, one in said if one.published), key=lambda one: one.serial, default=None)
    if newest is not None:
        notes.extend(
            f"{target.name} doesn't have its newest release; next: bento deploy --on {host.name}"
            for target, one in said
            if one.published is not newest and one.published != newest
        )
    return newest


def _read_reports(raws: Iterator[bytes | None], host: Host, trust: Trust, said: _Said, verdicts: About) -> None:
    """Put the newest verified reports into `said`, down to where older ones can't change the state.

    That one is the first about its release is remembered, and spares reading the one before it the next time.
    One that isn't in order is a note: a host's file can't stop the admin's work.
    """
    bad, newer = 0, b""
    for raw in islice(raws, LOOKED_AT):
        try:
            report = verified_report(raw, host, trust, verdicts)
        except InputError:
            bad += 1
            continue
        first = raw is not None and verdicts.has(_FIRST, raw)
        if newer and not bad and is_first(said.reports[-1], report):
            verdicts.add(_FIRST, newer)
        said.reports.append(report)
        if enough(said.published, said.reports, first=first):
            break
        newer = raw or b""
    if bad:
        said.notes.append(f"{bad} of its reports can't be verified")
