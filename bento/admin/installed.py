"""Which version of each secret the hosts have, by their verified reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bento.admin.inventory import Fleet, load_trust
from bento.admin.status import status
from bento.models.report import Report
from bento.names import Digest, HostName, SecretName

Word = Literal["installed", "pending", "failed", "unknown"]


@dataclass(frozen=True)
class Installed:
    """`digest` is the version that the host named in its report of `time` (UTC seconds), whether or not it is today's.

    Pending: it has another version than the secret store, or none yet. Unknown: there is no report.
    """

    word: Word
    digest: Digest | None = None
    time: int | None = None


def read_reports(
    fleet: Fleet, hosts: Iterable[HostName], warn: Callable[[str], None] = lambda _: None
) -> Mapping[HostName, Report | None]:
    """The report that tells each host's state; `warn` gets a sentence for each host whose reports can't be read.

    Raises EnvironmentFailed, InputError where nothing can be read.
    """
    found = status(fleet, load_trust(fleet.root), hosts)
    for one in found:
        if one.state.state == "unreadable":
            warn(f"what {one.host.name} has is unknown: {'; '.join(one.notes)}")
    return {one.host.name: one.state.report for one in found}


def installed(report: Report | None, name: SecretName, digest: Digest | None) -> Installed:
    """What `report` says of the secret whose copy in the store is `digest`."""
    if report is None:
        return Installed("unknown")
    said = next((one for one in report.secrets if one.name == name), None)
    if said is None:
        return Installed("pending", None, report.time)
    if said.digest != digest:
        return Installed("pending", said.digest, report.time)
    return Installed("failed" if said.state == "failed" else "installed", said.digest, report.time)
