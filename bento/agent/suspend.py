"""A person on the host has no use for an update now: none is taken, and no reboot made, until he resumes."""

import re
from typing import Final

from bento.agent.host import Host
from bento.errors import InputError
from bento.names import printable

LONGEST: Final = 30 * 24 * 3600  # seconds: a host that is forgotten must come back by itself

_UNITS: Final = {"m": 60, "h": 3600, "d": 24 * 3600}
_SPAN = re.compile(r"([1-9][0-9]{0,4})([mhd])")


def parse_span(text: str) -> int:
    """`30m`, `12h` or `7d` in seconds. Raises InputError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise InputError(f"'{printable(text)}' is no span of time", "write it so: 30m, 12h or 7d")
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > LONGEST:
        raise InputError(f"{text} is longer than 30d", "a host that is forgotten must come back by itself")
    return seconds


def suspended(host: Host) -> str | None:
    """For how long still, as words; None if updates aren't suspended. Raises Damaged."""
    until = host.state.suspended_until()
    now = host.clock()
    # A clock that was set back must not make it longer than a person could ask for.
    if until is None or not now < until <= now + LONGEST:
        return None
    minutes = -(-(until - now) // 60)
    if minutes < 2 * 60:
        return f"for {minutes} more min"
    return f"for {minutes // 60} more h" if minutes < 2 * 24 * 60 else f"for {minutes // (24 * 60)} more days"


def suspend(host: Host, seconds: int) -> str:
    """Take no updates for so long. Returns a sentence."""
    host.state.write_suspended_until(host.clock() + seconds)
    return f"updates are suspended {suspended(host)}; before that: bento-agent resume"


def resume(host: Host) -> str:
    """Take updates again. Returns a sentence."""
    was = suspended(host)
    host.state.write_suspended_until(None)
    return "updates weren't suspended" if was is None else "updates are taken again from the next run on"
