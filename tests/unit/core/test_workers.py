"""Evaluations run side by side as far as memory goes, and always one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick

from bento.core.workers import MOST_HOSTS, Workers, workers

GIB = 2**30


@pytest.mark.parametrize(
    ("wanted", "available", "one", "at_once", "hosts"),
    [
        (8, 16 * GIB, GIB, 8, 1),  # processors are what is scarce
        (8, 4 * GIB, GIB, 3, 1),  # memory is: three quarters of it
        (2, 8 * GIB, GIB, 2, 3),  # what the two don't need lets each take several hosts of a flake
        (4, GIB, 2 * GIB, 1, 1),  # not even one fits: it is tried all the same
        (4, 0, GIB, 1, 1),
        (2, 16 * GIB, 2**25, 2, MOST_HOSTS),
        (3, None, GIB, 3, MOST_HOSTS),  # the kernel doesn't say
        (3, 16 * GIB, None, 1, 1),  # not measured yet: one host alone
        (3, None, None, 1, 1),
        (3, 16 * GIB, 0, 3, MOST_HOSTS),
    ],
)
def test_so_many_fit(wanted: int, available: int | None, one: int | None, at_once: int, hosts: int) -> None:
    fit = workers(wanted, available, one)
    assert (fit.at_once, fit.hosts) == (at_once, hosts)


@quick
@given(st.integers(1, 64), st.integers(0, 2**40), st.integers(1, 2**36))
def test_all_together_stay_within_three_quarters_wherever_one_does(wanted: int, available: int, one: int) -> None:
    fit = workers(wanted, available, one)
    assert 1 <= fit.at_once <= wanted
    assert fit.memory is not None
    assert fit.at_once * fit.memory <= available * 3 // 4
    if one <= available * 3 // 4:
        assert fit.hosts * one <= fit.memory
    else:
        assert fit == Workers(1, 1, available * 3 // 4)
