"""What becomes of processes that a test didn't start by itself."""

import time
from contextlib import suppress
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    with suppress(OSError):  # it ends while we look
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def ended(pid: int) -> bool:
    """Whether it is gone; it was killed just before, perhaps, and is waited for."""
    deadline = time.monotonic() + 120
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
