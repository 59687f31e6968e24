"""Whether a canary is good: whether the rest of the fleet may get what it got."""

import re
from typing import Literal

from bento.core.host_state import HostState
from bento.errors import InputError
from bento.models.manifest import Manifest
from bento.models.signed import sha256
from bento.names import printable

Verdict = Literal["good", "waiting", "bad"]

_GOOD = ("succeeded", "auto-updated", "reboot-needed")
_TRIED_AGAIN = "unconfirmed"  # the server was away: no word on the release
_UNITS = {"s": 1, "m": 60, "h": 3600}


def judge(state: HostState, release: Manifest) -> Verdict:
    """The verdict on a host whose published release is `release`.

    Good is what installed it with nothing left to say: degraded isn't. A host that fell back to another system since
    isn't good either. Silence is "waiting".
    """
    report = state.report
    if state.state in ("refused", "drifted"):
        return "bad"
    if report is None or report.serial != release.serial or report.digest != sha256(release.line):
        return "waiting"
    if report.outcome in _GOOD:
        return "good"
    return "waiting" if report.outcome == _TRIED_AGAIN else "bad"


def parse_wait(text: str) -> int:
    """A time such as 90s, 10m or 1h, in seconds. Raises InputError."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}[smh]", text):
        raise InputError(f"'{printable(text)}' is no time", "write it as 90s, 10m or 1h")
    return int(text[:-1]) * _UNITS[text[-1]]
