"""Programs whose clock is wrong: Python reads the time as a machine whose clock is off by so many seconds would."""

import time
from pathlib import Path

YEARS = 10 * 365 * 24 * 3600

_PATCH = """\
import time

_real, _real_ns = time.time, time.time_ns
time.time = lambda: _real() + {seconds}
time.time_ns = lambda: _real_ns() + {seconds} * 10**9
_localtime, _gmtime = time.localtime, time.gmtime
time.localtime = lambda seconds=None: _localtime(time.time() if seconds is None else seconds)
time.gmtime = lambda seconds=None: _gmtime(time.time() if seconds is None else seconds)
"""


def off_by(folder: Path, seconds: int) -> dict[str, str]:
    """The environment of such programs. `folder` is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_PATCH.format(seconds=seconds))
    return {"PYTHONPATH": str(folder)}


def stopped(folder: Path) -> dict[str, str]:
    """The same, for commands that all run within this very second."""
    folder.mkdir(parents=True, exist_ok=True)
    now = int(time.time())
    (folder / "sitecustomize.py").write_text(
        f"import time\ntime.time = lambda: {now}.5\ntime.time_ns = lambda: {now}_500_000_000\n"
    )
    return {"PYTHONPATH": str(folder)}


def in_1970(folder: Path) -> dict[str, str]:
    """The same, for a machine that lost its battery: it is the second of January 1970."""
    return off_by(folder, 24 * 3600 - int(time.time()))
