"""Reboots: parts of a day, across midnight too, and which parts of a system only a reboot exchanges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import complaint_of, quick

from bento.core.reboots import Window, changed_parts


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("02:00-05:30", (120, 329), (119, 330, 0, 1439)),
        ("23:00-01:00", (1380, 1439, 0, 59), (60, 1379, 720)),
        ("00:00-00:00", (0, 720, 1439), ()),
        ("12:00-12:00", (0, 720, 1439), ()),
    ],
)
def test_a_window_holds_its_minutes_and_no_others(
    window: str, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    parsed = Window.parse(window)
    assert all(parsed.holds(minute) for minute in inside)
    assert not any(parsed.holds(minute) for minute in outside)


@pytest.mark.parametrize("text", ["", "2:00-5:00", "24:00-05:00", "02:60-05:00", "02:00", "02:00-05:00\n", "a-b"])
def test_what_is_no_window_is_refused(text: str) -> None:
    assert complaint_of(Window.parse, text) is not None


minutes = st.integers(0, 1439)


@quick
@given(minutes, minutes, minutes)
def test_a_window_and_the_one_from_its_end_to_its_begin_share_the_day(begins: int, ends: int, minute: int) -> None:
    if begins != ends:
        assert Window(begins, ends).holds(minute) != Window(ends, begins).holds(minute)


def test_only_what_is_known_on_both_sides_and_differs_is_exchanged() -> None:
    booted = {"kernel": "/k1", "initrd": "/i1", "kernel-modules": None}
    assert changed_parts(booted, booted) == ()
    assert changed_parts(booted, {"kernel": "/k2", "initrd": "/i1", "kernel-modules": "/m"}) == ("kernel",)
    assert changed_parts(booted, {"kernel": "/k2", "initrd": "/i2"}) == ("kernel", "initrd")
    assert changed_parts({}, booted) == ()
