"""Work on many hosts of one command at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from bento.adapters.transport import PublishTarget

_TOGETHER: Final = 256  # hosts looked at before those of them that are new are written
Item = TypeVar("Item")
Seen = TypeVar("Seen")


def look_and_write(
    look: Callable[[Item], Seen | None],
    write: Callable[[Seen], None],
    tell: Callable[[Item], None],
    items: Sequence[Item],
    targets: Sequence[PublishTarget],
) -> None:
    """Look at hosts and write as many at once as the targets like, and `tell` of each.

    To look at a disk one after the other is quickest, while of those that wait for it to have written many may wait
    together. They are told of in order; over a network as they come.
    """
    looks = max(target.looks_at_once for target in targets)
    writes = max(target.writes_at_once for target in targets)

    def both(item: Item) -> None:
        if (seen := look(item)) is not None:
            write(seen)
        tell(item)

    if looks > 1:
        each(both, items, looks)
        return
    for start in range(0, len(items), _TOGETHER):
        some = items[start : start + _TOGETHER]
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
