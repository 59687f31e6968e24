"""Work on many hosts of one command at once."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from bento.adapters.transport import PublishTarget

_TOGETHER: Final = 1024  # hosts looked at before those of them that are new are written
_SIGNED: Final = 64  # hosts signed by one process; what it has signed is written while the next signs
Item = TypeVar("Item")
Seen = TypeVar("Seen")
Signed = TypeVar("Signed")


def look_and_write(
    ahead: Callable[[Sequence[Item]], None],
    look: Callable[[Item], Seen | None],
    sign: Callable[[Sequence[Seen]], Iterable[Signed]],
    write: Callable[[Signed], None],
    tell: Callable[[Item], None],
    items: Sequence[Item],
    targets: Sequence[PublishTarget],
) -> None:
    """Look at hosts, sign, write as many at once as the targets like, and `tell` of each, in order.

    `ahead` is called with those that are looked at next. To look at them one after the other is quickest then, while of
    those that wait for a disk, or for a network, many may wait together.
    """
    writes = max(target.writes_at_once for target in targets)
    for start in range(0, len(items), _TOGETHER):
        some = items[start : start + _TOGETHER]
        ahead(some)
        seen = [one for one in map(look, some) if one is not None]
        parts = (seen[first : first + _SIGNED] for first in range(0, len(seen), _SIGNED))
        each(write, (one for part in parts for one in sign(part)), writes)
        for item in some:
            tell(item)


def each(work: Callable[[Item], None], items: Iterable[Item], at_once: int) -> None:
    """Do `work` for each as they come, `at_once` at a time. What one raises is raised; those not yet begun are left."""
    with ThreadPoolExecutor(at_once) as pool:
        try:
            list(pool.map(work, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
