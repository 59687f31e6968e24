"""When a host updates inputs by itself, and what it makes of what it finds."""

import pytest

from bento.core.self_update import INTERVAL, Tried, begin, is_due, next_step
from bento.names import Digest, Serial

NOW = 1_795_000_000
OLD, NEW, OTHER = (Digest(letter * 64) for letter in "abc")
RELEASE = Serial(7)


@pytest.mark.parametrize(
    ("ago", "due"),
    [
        (0, False),
        (INTERVAL - 1, False),
        (INTERVAL, True),
        (-60, False),  # the clock was set back by a minute: that is no reason
        (1 - INTERVAL, False),
        (-INTERVAL, True),
        (-20 * 365 * 24 * 3600, True),  # it was years ahead: else this host would wait as long
    ],
)
def test_a_try_is_due_a_day_after_the_last_one_whichever_way_the_clock_went(ago: int, due: bool) -> None:  # noqa: FBT001 — a table
    assert is_due(Tried(NOW - ago, RELEASE), NOW) is due


def test_the_first_try_is_due_at_once_and_each_puts_the_next_one_off() -> None:
    assert is_due(None, NOW)
    for clock in (NOW, 0, NOW, NOW + INTERVAL):  # a clock that jumps there and back costs one try a jump
        assert not is_due(begin(None, RELEASE, clock), clock + 300)


def test_a_try_remembers_the_one_before_it_only_upon_the_same_release() -> None:
    before = Tried(5, RELEASE, NEW, failed=True)
    assert begin(before, RELEASE, NOW) == Tried(NOW, RELEASE, NEW, failed=True)
    assert begin(before, Serial(8), NOW) == Tried(NOW, Serial(8))
    assert begin(None, RELEASE, NOW) == Tried(NOW, RELEASE)


@pytest.mark.parametrize(
    ("tried", "held", "found", "step"),
    [
        (Tried(NOW, RELEASE), OLD, OLD, "rest"),
        (Tried(NOW, RELEASE), OLD, NEW, "build"),
        (Tried(NOW, RELEASE, NEW), NEW, NEW, "rest"),  # it was switched to, and that went well
        (Tried(NOW, RELEASE, NEW), NEW, OTHER, "build"),
        (Tried(NOW, RELEASE, NEW), NEW, OLD, "build"),  # the input went back, as a branch can
        (Tried(NOW, RELEASE, NEW), OLD, NEW, "leave it"),  # it was switched to, and undone
        (Tried(NOW, RELEASE, NEW), OLD, OTHER, "build"),
        (Tried(NOW, RELEASE, NEW), OLD, OLD, "say it is over"),
        (Tried(NOW, RELEASE, failed=True), OLD, OLD, "say it is over"),
        (Tried(NOW, RELEASE, failed=True), OLD, NEW, "build"),  # what failed before a switch disturbed nobody
        (Tried(NOW, RELEASE, NEW, failed=True), OLD, NEW, "leave it"),
        (Tried(NOW, RELEASE, NEW, failed=True), NEW, NEW, "say it is over"),
    ],
)
def test_what_is_made_of_a_lock_file(tried: Tried, held: Digest, found: Digest, step: str) -> None:
    assert next_step(tried, held, found) == step
