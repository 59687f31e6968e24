"""System users for sshd, made for one test session and removed with it."""

import pwd
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_TRIES = 20  # another session may hold the lock of /etc/passwd


@contextmanager
def system_user(name: str) -> Iterator[str]:
    """A system user and a group of the same name, with a password that is unusable but not locked."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} can't be a user's name")
    # Without PAM sshd refuses an account whose password field starts with "!": useradd's own default.
    _admin("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
           "--shell", "/usr/sbin/nologin", "--password", "*", name)  # fmt: skip
    try:
        yield name
    finally:
        _admin("userdel", name)


def user_exists(name: str) -> bool:
    """Whether the system knows the user now."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _admin(*argv: str) -> None:
    for attempt in range(_TRIES):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "lock" not in done.stderr or attempt == _TRIES - 1:
            raise RuntimeError(f"{argv[0]} failed: {done.stderr.strip()}")
        time.sleep(0.1)
