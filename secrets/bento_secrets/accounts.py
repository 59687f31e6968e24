"""Users and groups of this host, by name or number."""

import grp
import pwd

_LAST = 2**32 - 2  # the number after it means "leave as it is" to chown(2)


def user_number(text: str) -> int | None:
    """The user's number; None if there is no such user. A number needs no entry in /etc/passwd."""
    if text.isdecimal():
        return _number(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        return None


def group_number(text: str) -> int | None:
    """The group's number; None if there is no such group. A number needs no entry in /etc/group."""
    if text.isdecimal():
        return _number(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        return None


def _number(text: str) -> int | None:
    return int(text) if int(text) <= _LAST else None
