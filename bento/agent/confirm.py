"""Confirm a new system while it is only tested: the server, the units, the host's own checks; until a deadline."""

import time
from collections.abc import Sequence

from bento.adapters.process import probe
from bento.agent.host import Host
from bento.agent.turn import systemd_of
from bento.core.switch_outcome import judge_units
from bento.errors import BentoError, WorkFailed
from bento.models.agent_settings import HealthCommand
from bento.names import printable

_PAUSE = 2.0  # seconds between two rounds of checks


class NotConfirmed(WorkFailed):
    """The new system runs, but a check says that it isn't well."""


def failed_units(host: Host) -> frozenset[str]:
    """The units that are failed now; said, and none, where systemd doesn't answer."""
    try:
        return systemd_of(host).failed()
    except BentoError as error:
        host.say(error.message)
        return frozenset()


def check_health(host: Host, failed_before: frozenset[str]) -> tuple[str, ...]:
    """Run the host's own checks until all pass, then look at the units. Returns what is degraded.

    Raises NotConfirmed: a check that still fails at the deadline, or a failed unit where the policy says "fail".
    """
    deadline = time.monotonic() + host.settings.confirm_timeout
    waiting: Sequence[HealthCommand] = host.settings.health
    while True:
        troubles = [(one, trouble) for one in waiting if (trouble := _trouble(one, deadline)) is not None]
        if not troubles:
            break
        for _, trouble in troubles:
            host.say(f"not confirmed yet: {trouble}")
        if time.monotonic() + _PAUSE > deadline:
            raise NotConfirmed(troubles[0][1])
        waiting = [one for one, _ in troubles]
        time.sleep(_PAUSE)
    failed = failed_units(host) - failed_before
    if not failed:
        return ()
    verdict = judge_units(failed, host.settings.failed_units)
    if verdict.ending == "failed":
        raise NotConfirmed(verdict.why)
    return (verdict.why,) if verdict.why else ()


def _trouble(one: HealthCommand, deadline: float) -> str | None:
    """Why a check doesn't pass. Its output may quote secrets: nothing of it is kept."""
    name = printable(" ".join(one.run), 80)
    allowed = max(1.0, min(one.timeout, deadline - time.monotonic()))
    try:
        code = probe(one.run, allowed)
    except BentoError as error:
        return f"the check '{name}' can't be run: {error.message}"
    if code is None:
        return f"the check '{name}' didn't end within {allowed:.0f} seconds"
    return None if code == 0 else f"the check '{name}' ended with exit {code}"
