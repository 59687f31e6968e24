"""The benchmarks run, with hardly any work; and what misses its goal is said to."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure", BENCH / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(600)
def test_benchmarks_of_each_sort_run_and_leave_nothing(tmp_path: Path) -> None:
    """One or two of each file; their neighbours in it measure the same commands on other fleets."""
    names = ["seal", "rekey", "install", "changed", "status", "poll", "sshd", "sftp"]
    argv = [sys.executable, str(BENCH), *names, "--tiny", "--folder", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [one["bench"] for one in results] == names
    assert all(one["ratio"] > 0 and one["memory_mb"] > 0 for one in results)
    assert list(tmp_path.iterdir()) == []


def test_a_missed_goal_is_a_missed_goal(measure: ModuleType) -> None:
    result = measure.Result("x", "work", "other", 2.0, {}, 149.0, most=2.0)
    assert result.reached
    for missed in (
        replace(result, ratio=2.1),
        replace(result, memory=150.0),
        replace(result, most=None, least=2.1),
    ):
        assert not missed.reached
        assert missed.facts()["reached"] is False


def test_a_ratio_is_that_of_neighbours_so_that_a_busy_machine_cancels_out(measure: ModuleType) -> None:
    busy = [1.0, 10.0, 3.0, 1.0, 7.0]
    slow, quick = ([measure.Sample(factor * load) for load in busy] for factor in (3.0, 2.0))
    assert measure.paired_ratio(slow, quick) == pytest.approx(1.5)
