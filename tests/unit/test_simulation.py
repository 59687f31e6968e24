"""The simulation of large fleets, beside what can be said of a queue without one."""

import importlib.util
import json
import math
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[2] / "bench/simulate.py"


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate"] = module
    spec.loader.exec_module(module)
    return module


def test_all_at_once_are_served_one_after_the_other_and_the_rest_is_turned_away(simulate: ModuleType) -> None:
    costs = simulate.Costs(cpu=0.02, splay=0, patience=20)
    row = simulate.simulate(500, costs, cores=1)
    assert (row.turned_away, row.seconds_to_99) == (0, pytest.approx(495 * 0.02))
    assert simulate.simulate(500, costs, cores=4).seconds_to_99 == pytest.approx(495 * 0.02 / 4)
    # Whoever's turn comes within the patience is served: the first, and one for each 20 ms of it.
    assert simulate.simulate(5000, replace(costs, cpu=0.015625), cores=1).turned_away == 5000 - (20 * 64 + 1)


def test_where_a_share_is_turned_away_each_interval_leaves_that_share_of_those_who_lack_it(
    simulate: ModuleType,
) -> None:
    costs = simulate.Costs(cpu=0.015625, splay=0, patience=20, interval=300)
    row = simulate.simulate(2000, costs, cores=1)
    left = row.turned_away / 2000
    intervals = math.ceil(math.log(0.01) / math.log(left)) - 1
    assert intervals >= 4  # else this says nothing
    assert intervals * 300 < row.seconds_to_99 <= intervals * 300 + 20 + costs.cpu


def test_with_splay_99_of_100_have_it_after_99_hundredths_of_the_splay(simulate: ModuleType) -> None:
    costs = simulate.Costs(cpu=0.001, splay=300)
    row = simulate.simulate(10_000, costs)
    assert row.turned_away == 0
    assert row.seconds_to_99 == pytest.approx(297, rel=0.01)


def test_polls_wait_as_long_as_pollaczek_and_khinchin_say(simulate: ModuleType) -> None:
    serving, load, polls = 0.02, 0.7, 40_000
    times = simulate.offsets(polls, polls * serving / load)
    ends, away = simulate.queue(times, serving, math.inf)
    waited = statistics.mean(end - serving - at for at, end in zip(times, ends, strict=True))
    assert away == 0
    assert waited == pytest.approx(load * serving / (2 * (1 - load)), rel=0.15)


def test_cores_are_what_carries_the_polls_at_the_wanted_load_or_the_bytes(simulate: ModuleType) -> None:
    costs = simulate.Costs(cpu=0.021, interval=300, load=0.7)
    assert [simulate.cores_for(hosts, costs) for hosts in (100, 10_000, 100_000)] == [1, 1, 10]
    assert simulate.cores_for(100_000, replace(costs, wire=1_000_000, link=125e6 / 10)) == 27


def test_it_prints_each_size_with_and_without_splay(simulate: ModuleType) -> None:
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, check=True, timeout=200)
    rows = json.loads(done.stdout)["rows"]
    assert [(row["hosts"], row["splay"]) for row in rows] == [
        (hosts, splay) for hosts in simulate.HOSTS for splay in (300.0, 0.0)
    ]
    assert len(done.stderr.splitlines()) == len(rows) + 1
    assert all(row["polls_a_second"] == pytest.approx(row["hosts"] / 300) for row in rows)
