"""Which waiting reports are kept, and when to try again to send them. Pure."""

from collections.abc import Sequence
from typing import Final

MOST: Final = 50  # reports
MOST_BYTES: Final = 4 * 1024 * 1024  # of all of them: a report of 1,000 secrets is about 300 KiB
PAUSES: Final = (1.0, 4.0)  # seconds before the second and the third try to send


def dropped(sizes: Sequence[int]) -> int:
    """How many of the oldest go. `sizes` in bytes, oldest first; the newest always stays."""
    kept, total = 0, 0
    for size in reversed(sizes):
        total += size
        if kept == MOST or (kept > 0 and total > MOST_BYTES):
            break
        kept += 1
    return len(sizes) - kept


def pause(number: int, chance: float) -> float | None:
    """Seconds until try `number` + 1, from half to one and a half of its pause: `chance` is from 0 to 1.

    Without the spread, hosts that a server turned away together would come back together. None: give up for now.
    """
    return PAUSES[number - 1] * (0.5 + chance) if number <= len(PAUSES) else None
