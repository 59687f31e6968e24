"""`bento status --watch`: the fleet's state again and again, as it changes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bento.adapters.watch import Wait, polling, watching
from bento.admin.inventory import Fleet
from bento.admin.status import HostStatus, status
from bento.admin.workspace import Workspace
from bento.models.trust import Trust
from bento.names import HostName

FOLDERS = (".", "release", "reports")


def watch(fleet: Fleet, trust: Trust, chosen: tuple[HostName, ...], seconds: float) -> Iterator[tuple[HostStatus, ...]]:
    """The state of the chosen hosts now, after every change, and at least every `seconds`. Never ends by itself.

    Raises EnvironmentFailed where the publish folder can't be read.
    """
    verdicts = Workspace(fleet.root).verdicts()
    with _noticing(fleet, chosen) as wait:  # before the first look: nothing falls in between
        known = {one.host.name: one for one in status(fleet, trust, chosen, verdicts=verdicts)}
        verdicts.save(whole=len(chosen) == len(fleet.hosts))
        while True:
            yield tuple(known[name] for name in chosen)
            changed = wait(seconds)
            again = [name for name in chosen if name in changed]
            known.update((one.host.name, one) for one in status(fleet, trust, again, verdicts=verdicts))


def _noticing(fleet: Fleet, chosen: tuple[HostName, ...]) -> AbstractContextManager[Wait]:
    roots = [to for to in fleet.publish_to if isinstance(to, Path)]
    if len(roots) < len(fleet.publish_to):
        return polling(chosen)
    # Where a host's own folder isn't there yet, its first release shows in the one above.
    return watching(
        {
            name: tuple(path for root in roots for path in (root, *(root / name / part for part in FOLDERS)))
            for name in chosen
        }
    )
