"""`bento status --watch`: the fleet's state again and again, as it changes."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.watch import Wait, polling, watching
from bento.admin.inventory import Fleet
from bento.admin.status import HostStatus, status
from bento.admin.workspace import Workspace
from bento.errors import BentoError
from bento.models.trust import Trust
from bento.names import HostName

FOLDERS = (".", "release", "reports")


@dataclass(frozen=True)
class Seen:
    """The hosts as they were last known, and a sentence for each thing that keeps from knowing more."""

    hosts: tuple[HostStatus, ...]
    troubles: tuple[str, ...]


def watch(fleet: Fleet, trust: Trust, chosen: tuple[HostName, ...], seconds: float) -> Iterator[Seen]:
    """The state of the chosen hosts now, after every change, and at least every `seconds`. Never ends by itself.

    A server that goes away later is a trouble, and is asked again. Raises EnvironmentFailed where the first look fails.
    """
    verdicts = Workspace(fleet.root).verdicts()
    troubles: list[str] = []

    def look(names: Iterable[HostName]) -> dict[HostName, HostStatus]:
        troubles.clear()
        return {one.host.name: one for one in status(fleet, trust, names, troubles.append, verdicts)}

    with _noticing(fleet, chosen) as wait:  # before the first look: nothing falls in between
        known = look(chosen)
        verdicts.save(whole=len(chosen) == len(fleet.hosts))
        unseen: set[str] = set()
        while True:
            yield Seen(tuple(known[name] for name in chosen), tuple(troubles))
            unseen |= wait(seconds)
            try:
                known.update(look(name for name in chosen if name in unseen))
            except BentoError as error:
                troubles[:] = [f"{error.message}; shown is what was known before, and it is tried again"]
            else:
                unseen.clear()


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
