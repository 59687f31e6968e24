"""`bento logs`: what a host said of its runs."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from bento.admin.hosts_word import verified_report
from bento.admin.inventory import Fleet, Host
from bento.admin.standing import each_target
from bento.admin.status import missed_mirror
from bento.admin.targets import reading, targets_of
from bento.errors import InputError
from bento.models.report import Report
from bento.models.trust import Trust


@dataclass(frozen=True)
class Logged:
    """One report. Without `report`, `why` says why it can't be believed; nothing of it is passed on."""

    report: Report | None
    why: str = ""


def logs(
    fleet: Fleet, trust: Trust, host: Host, last: int, warn: Callable[[str], None] = lambda _: None
) -> tuple[Logged, ...]:
    """The host's `last` newest reports, the newest at the end. `warn` gets a sentence for each mirror it can't read.

    Raises EnvironmentFailed where none can.
    """
    with reading(targets_of(fleet, trust)) as reached:
        missed = dict(reached.missed)
        read = each_target(reached.targets, missed, lambda target: [*islice(target.read_words(host.name), 1, last + 1)])
    for name, error in missed.items():
        warn(missed_mirror(name, error))
    raws = {raw: None for _, found in read for raw in found}
    found = [_one(raw, host, trust) for raw in raws]
    if len(read) > 1:  # a host reports to the mirror that it reached: put them in one order
        found.sort(key=lambda one: one.report.counter if one.report is not None else 0, reverse=True)
    return tuple(found[:last])[::-1]


def _one(raw: bytes | None, host: Host, trust: Trust) -> Logged:
    try:
        return Logged(verified_report(raw, host, trust))
    except InputError as error:
        return Logged(None, error.message)
