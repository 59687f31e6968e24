"""The simulation's arithmetic, held to what can be said in closed form."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate", Path(__file__).parents[2] / "bench/simulate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate"] = module
    spec.loader.exec_module(module)
    return module


def test_without_splay_hosts_wait_for_one_another_in_a_queue_as_long_as_their_number(simulate: ModuleType) -> None:
    costs = simulate.Costs(splay=0.0, interval=300.0, fetch_cpu=0.03, poll_cpu=0.02)
    one = simulate.load(1000, costs)
    assert one.polls == pytest.approx(1000 / 300)
    assert one.cores == 1
    assert one.waiting == pytest.approx(999 * 0.03)
    assert one.together == pytest.approx(300 + 990 * 0.03)


def test_a_release_meets_hosts_anywhere_between_two_polls(simulate: ModuleType) -> None:
    costs = simulate.Costs(splay=0.0, interval=300.0, fetch_cpu=0.0)
    assert simulate.load(10_000, costs).all_have_it == pytest.approx(0.99 * 300, rel=0.01)
    with_splay = simulate.load(10_000, simulate.Costs(splay=120.0, interval=300.0, fetch_cpu=0.0))
    # P(later than t) is the mean of (1 - t/p) over periods p from t to 420, spread evenly over 300 to 420
    t = with_splay.all_have_it
    later = sum(max(0.0, 1 - t / (300 + 120 * (step + 0.5) / 1000)) for step in range(1000)) / 1000
    assert later == pytest.approx(0.01, abs=0.002)


def test_cores_are_counted_so_that_none_is_busier_than_the_limit(simulate: ModuleType) -> None:
    costs = simulate.Costs(splay=0.0, interval=300.0, poll_cpu=0.02)
    for hosts in simulate.HOSTS[:3]:
        one = simulate.load(hosts, costs)
        busy = one.polls * costs.poll_cpu
        assert busy / one.cores <= simulate.BUSY
        assert one.cores == 1 or busy / (one.cores - 1) > simulate.BUSY


def test_a_server_serves_in_turn_and_idles_between(simulate: ModuleType) -> None:
    assert simulate.served([0.0, 0.0, 10.0], 2.0, 1) == ([2.0, 4.0, 12.0], 2.0)
    assert simulate.served([0.0, 0.0, 10.0], 2.0, 2) == ([2.0, 2.0, 12.0], 0.0)
