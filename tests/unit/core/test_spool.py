"""Reports that wait: bounded by number and by bytes, the newest always kept; tried again with a spread that ends."""

from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick

from bento.core.spool import MOST, MOST_BYTES, PAUSES, dropped, pause


@quick
@given(st.lists(st.integers(0, MOST_BYTES) | st.just(MOST_BYTES * 2), max_size=80))
def test_what_is_kept_is_the_newest_within_both_bounds_and_no_less(sizes: list[int]) -> None:
    gone = dropped(sizes)
    kept = sizes[gone:]
    assert bool(kept) == bool(sizes)
    assert len(kept) <= MOST
    assert sum(kept) <= MOST_BYTES or len(kept) == 1
    if gone:
        assert len(kept) == MOST or sum(sizes[gone - 1 :]) > MOST_BYTES


@quick
@given(st.floats(0, 1))
def test_pauses_grow_are_spread_and_come_to_an_end(chance: float) -> None:
    pauses = [pause(number, chance) for number in range(1, len(PAUSES) + 2)]
    assert pauses[-1] is None
    assert [0.5 * one for one in PAUSES] <= [one or 0 for one in pauses[:-1]] <= [1.5 * one for one in PAUSES]
    assert pause(1, 0.0) != pause(1, 1.0)
