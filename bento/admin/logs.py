"""`bento logs`: what a host said of its runs."""

from dataclasses import dataclass
from itertools import islice

from bento.admin.hosts_word import verified_report
from bento.admin.inventory import Fleet, Host
from bento.admin.targets import reading, targets_of
from bento.errors import InputError
from bento.models.report import Report
from bento.models.trust import Trust


@dataclass(frozen=True)
class Logged:
    """One report. Without `report`, `why` says why it can't be believed; nothing of it is passed on."""

    report: Report | None
    why: str = ""


def logs(fleet: Fleet, trust: Trust, host: Host, last: int) -> tuple[Logged, ...]:
    """The host's `last` newest reports, the newest at the end. Raises EnvironmentFailed where none can be read."""
    with reading(targets_of(fleet, trust)) as reached:
        raws = {raw: None for target in reached.targets for raw in islice(target.read_reports(host.name), last)}
    found = [_one(raw, host, trust) for raw in raws]
    if len(reached.targets) > 1:  # a host reports to the mirror that it reached: put them in one order
        found.sort(key=lambda one: one.report.counter if one.report is not None else 0, reverse=True)
    return tuple(found[:last])[::-1]


def _one(raw: bytes | None, host: Host, trust: Trust) -> Logged:
    try:
        return Logged(verified_report(raw, host, trust))
    except InputError as error:
        return Logged(None, error.message)
