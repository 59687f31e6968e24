"""A host's state, from serials and verified reports, never from file times."""

from dataclasses import dataclass
from typing import Literal

from bento.core.deploy_plan import MAX_AHEAD
from bento.core.self_update import is_about
from bento.models.manifest import Manifest
from bento.models.report import Heartbeat, Report
from bento.models.signed import sha256
from bento.names import Serial

State = Literal[
    "not published",
    "unreadable",
    "new machine",
    "rebuild pending",
    "sync pending",
    "up to date",
    "auto updated",
    "degraded",
    "reboot needed",
    "failing",
    "rolled back",
    "unconfirmed",
    "refused",
    "drifted",
]

# The worst first: what a person looks for in a long list.
TROUBLE: tuple[State, ...] = (
    "refused",
    "failing",
    "rolled back",
    "unconfirmed",
    "unreadable",
    "drifted",
    "degraded",
    "reboot needed",
    "rebuild pending",
    "sync pending",
    "new machine",
    "not published",
    "auto updated",
    "up to date",
)

_BY_OUTCOME: dict[str, State] = {
    "succeeded": "up to date",
    "auto-updated": "auto updated",
    "degraded": "degraded",
    "reboot-needed": "reboot needed",
    "failed": "failing",
    "rolled-back": "rolled back",
    "unconfirmed": "unconfirmed",
    "refused": "refused",
}


_INSTALLED = ("succeeded", "degraded", "reboot-needed", "auto-updated")


@dataclass(frozen=True, slots=True)
class HostState:
    """`state` and the report it follows from; `running` is the newest word on the running system.

    `last_seen` is by the host's own clock, which is `behind` where it tells of a release before that could be signed.
    `committed` is the release that it has in force, as far as it said.
    `extra_runs` are reports on the published release beyond the first: tries, and runs that somebody started by hand.
    """

    state: State
    report: Report | None
    running: str | None
    last_seen: int | None
    extra_runs: int = 0
    committed: Serial | None = None
    behind: bool = False


def _speaking(reports: list[Report], heartbeat: Heartbeat | None) -> Report | None:
    """The newest report that still holds. A refusal is over once a later poll went well (a heartbeat came after it)."""
    for report in reports:
        if report.outcome == "refused" and heartbeat is not None and heartbeat.after >= report.counter:
            continue
        return report
    return None


def derive(
    published: Manifest | None, reports: list[Report], heartbeat: Heartbeat | None, *, unread: bool = False
) -> HostState:
    """The state of one host from its published release, its verified reports and its verified heartbeat.

    With `unread` there may be more than these, so that silence says nothing.
    """
    reports = sorted(reports, key=lambda one: one.counter, reverse=True)
    report = _speaking(reports, heartbeat)
    newest = reports[0] if reports else None
    fresh = heartbeat is not None and (newest is None or heartbeat.after >= newest.counter)
    running = heartbeat.running if heartbeat is not None and fresh else (newest.running if newest else None)
    word = heartbeat if fresh else newest  # the last by its counter: a clock may have been set back since
    state = _state(published, report, running)
    if unread and state == "new machine":
        state = "unreadable"
    committed = heartbeat.serial if heartbeat is not None and fresh else None
    return HostState(
        state,
        report,
        running,
        None if word is None else word.time,
        _extra_runs(published, reports),
        committed or _installed(reports),
        word is not None and word.serial is not None and word.serial > word.time + MAX_AHEAD,
    )


def enough(published: Manifest | None, reports: list[Report], *, first: bool = False) -> bool:
    """Whether reports older than these, newest first and all of one place, can't change what `derive` says.

    None before the last one is about the published release, since serials only rise: the last one is about an earlier
    one, or, as is known of it then, the `first` about its own. And a success is among them.
    """
    last = reports[-1]
    if last.outcome == "refused" or last.serial is None or published is None or last.serial > published.serial:
        return False
    return (first or last.serial < published.serial) and _installed(reports) is not None


def is_first(report: Report, before: Report) -> bool:
    """Whether a report is the first about its release; `before` is the one before it, of the same place.

    A server that keeps one back between them only makes `extra_runs` smaller, as it can at any time.
    """
    if "refused" in (report.outcome, before.outcome) or report.serial is None or before.serial is None:
        return False
    return before.counter < report.counter and before.serial < report.serial


def _installed(reports: list[Report]) -> Serial | None:
    """The release of the newest report of a success; `reports` are newest first."""
    return next((one.serial for one in reports if one.outcome in _INSTALLED), None)


def _extra_runs(published: Manifest | None, reports: list[Report]) -> int:
    """Refusals don't count: they are about what was put in the release's place. Nor does what settings ask for."""
    if published is None:
        return 0
    serial, inputs = published.serial, published.settings.self_update
    runs = [one for one in reports if one.serial == serial and one.outcome not in ("refused", "auto-updated")]
    return max(0, sum(not is_about(inputs, one.reason) for one in runs) - 1)


def _state(published: Manifest | None, report: Report | None, running: str | None) -> State:
    if published is None:
        return "refused" if report is not None and report.outcome == "refused" else "not published"
    if report is None:
        return "new machine"
    if report.outcome == "refused" and _refuses(report, published):
        return "refused"
    if report.outcome == "failed" and report.serial is None:
        return "failing"  # about no release: the host itself can't go on
    if report.serial != published.serial:
        if published.system is not None and running != published.system:
            return "rebuild pending"
        return "sync pending"
    state = _BY_OUTCOME[report.outcome]
    if state == "reboot needed" and running == report.new_system != report.running:
        return "up to date"  # it has rebooted since
    if state in ("up to date", "auto updated") and report.running is not None and running != report.running:
        return "drifted"
    return state


def _refuses(report: Report, published: Manifest) -> bool:
    """The refusal is of what is published now, or of something put in place of a release that the host has seen."""
    about_this = report.digest == sha256(published.line)
    return about_this or (report.serial is not None and report.serial >= published.serial)
