"""How much memory this machine has to spare."""

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def available(file: Path = MEMINFO) -> int | None:
    """MemAvailable in bytes: what can be used without swapping. None where the kernel doesn't say."""
    try:
        found = re.search(r"^MemAvailable:\s+([0-9]+) kB$", file.read_text("ascii"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    return int(found[1]) * 1024 if found is not None else None
