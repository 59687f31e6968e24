"""How long a secret's content may live: `36h`, `90d`, `12w`, `1y`."""

import re

from bento_secrets.errors import BadName
from bento_secrets.names import printable

_AGE = re.compile(r"([1-9][0-9]{0,4})([hdwy])")
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def parse_max_age(text: str) -> str:
    """The age as it is kept, a number and a unit (hours, days, weeks, years of 365 days); BadName."""
    if not _AGE.fullmatch(text):
        raise BadName(f"'{printable(text)}' is no age", "use a number and h, d, w or y, for example 90d")
    return text


def age_seconds(max_age: str) -> int:
    """In seconds."""
    number, unit = max_age[:-1], max_age[-1]
    return int(number) * _SECONDS[unit]


def ahead(sealed: int, now: int) -> bool:
    """Whether a time, UTC seconds, lies over a day ahead: one of the two clocks was wrong, and tells no age."""
    return sealed > now + _SECONDS["d"]


def too_old(max_age: str, sealed: int, now: int) -> bool:
    """Whether content sealed then is older than `max_age`, or may be. Times are UTC seconds."""
    return now - sealed > age_seconds(max_age) or ahead(sealed, now)
