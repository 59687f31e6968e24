"""Work on many hosts of one command at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from bento.adapters.transport import PublishTarget

_TOGETHER: Final = 1024  # hosts looked at before those of them that are new are written
Item = TypeVar("Item")
Seen = TypeVar("Seen")


def look_and_write(
    ahead: Callable[[Sequence[Item]], None],
    look: Callable[[Item], Seen | None],
    write: Callable[[Seen], None],
    tell: Callable[[Item], None],
    items: Sequence[Item],
    targets: Sequence[PublishTarget],
) -> None:
    """Look at hosts, write as many at once as the targets like, and `tell` of each, in order.

    `ahead` is called with those that are looked at next. To look at them one after the other is quickest then, while of
    those that wait for a disk, or for a network, many may wait together.
    """
    writes = max(target.writes_at_once for target in targets)
    for start in range(0, len(items), _TOGETHER):
        some = items[start : start + _TOGETHER]
        ahead(some)
        each(write, [seen for seen in map(look, some) if seen is not None], writes)
        for item in some:
            tell(item)


def each(work: Callable[[Item], None], items: Sequence[Item], at_once: int) -> None:
    """Do `work` for each, `at_once` at a time. Raises what one of them raised; those that haven't begun are left."""
    if len(items) <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(at_once) as pool:
        try:
            list(pool.map(work, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
