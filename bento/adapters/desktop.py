"""Notices on the desktops of whoever is logged in, by the program notify-send, as that user and never as root."""

import pwd
import stat
from pathlib import Path

from bento.adapters.process import probe
from bento.errors import EnvironmentFailed

_SESSIONS = Path("/run/user")  # systemd-logind's: one folder a user, his session bus in it
_LEAST_USER = 1000  # below are the system's own, a login screen's for one
_TIMEOUT = 5.0  # seconds: what answers there is the user's own doing
_PATH = "/run/current-system/sw/bin:/usr/bin:/bin"


def notify(title: str, text: str) -> None:
    """Show a notice to each user with a session. Silently nothing where there is no desktop, or no notify-send."""
    for folder in sorted(_SESSIONS.glob("[0-9]*")):
        user = _user_of(folder)
        if user is None:
            continue
        # Root leaves everything of its own behind first: the socket and what listens there are the user's.
        become = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--bounding-set=-all")
        clean = ("env", "--ignore-environment", f"PATH={_PATH}", f"HOME={user.pw_dir}", f"XDG_RUNTIME_DIR={folder}")
        bus = f"DBUS_SESSION_BUS_ADDRESS=unix:path={folder}/bus"
        try:
            probe([*become, *clean, bus, "notify-send", "--app-name=Bento", "--", title, text], _TIMEOUT)
        except EnvironmentFailed:
            return  # no setpriv here


def _user_of(folder: Path) -> pwd.struct_passwd | None:
    """Whose session it is; None where there is none, or the folder isn't what its name says."""
    try:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or folder.name != str(status.st_uid) or status.st_uid < _LEAST_USER:
            return None
        if not stat.S_ISSOCK((folder / "bus").lstat().st_mode):
            return None
        return pwd.getpwuid(status.st_uid)
    except (OSError, KeyError):
        return None
