"""`bento trigger` through a host's trigger socket. Anybody could answer there: his word is shown, not believed."""

import re
from collections.abc import Callable

from bento.adapters.trigger_socket import lines
from bento.errors import WorkFailed
from bento.models.trigger import GREETING, RUNNING, WORDS, TriggerPlace

_ENDED = re.compile(r"ended ([0-9]{1,3})(?:: .*)?")


def trigger_by_socket(place: TriggerPlace, tell: Callable[[str], None]) -> tuple[int, str]:
    """Have the host poll: the exit code of its agent, and what that means. `tell` gets lines as they came.

    Raises EnvironmentFailed where nobody answers, WorkFailed where he doesn't say how it ended.
    """
    said = lines(place)
    greeting = next(said, None)
    if greeting is None:
        raise WorkFailed(
            f"{place} hung up: it polls for somebody else, or did less than ten seconds ago",
            "try again in a moment, or see what came of it: bento status",
        )
    if greeting != GREETING:
        raise WorkFailed(f"{place} is no trigger socket of Bento's", "look at trigger = … in bento.toml")
    for line in said:
        found = _ENDED.fullmatch(line)
        if found is not None and int(found[1]) in WORDS:
            return int(found[1]), WORDS[int(found[1])]
        if line != RUNNING:
            tell(line)
    raise WorkFailed(f"{place} didn't say how the poll ended", "see what came of it: bento status")
