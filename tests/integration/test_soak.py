"""The soak, for two seconds with a few hosts; and that it would see what it looks for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

_RUN = """
import json, os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from served import ServedWorld
import soak
with ServedWorld(Path(sys.argv[2]), 3) as world:
    facts = soak.soak(world, 2)
    program = Path(sys.argv[1]) / "soak_agents.py"
    argv = [sys.executable, program, world.folder / "keys", world.fleet / "utils/trust.toml"]
    def once(*hosts):
        return json.loads(subprocess.run([*argv, "0", *hosts], stdout=subprocess.PIPE, check=True).stdout)
    # One host's object is another of the same size; one host's manifest is another's.
    named = json.loads(world.manifest("host-0").splitlines()[0])["config"]["digest"]
    damaged = world.published / "host-0/release/objects" / named
    damaged.write_bytes(bytes(damaged.stat().st_size))
    (world.published / "host-1/release/manifest").write_bytes(world.manifest("host-2"))
    mixed = once("host-0", "host-1")["mixed"]
    (sent,) = once("host-2")["sent"].values()
    report = next((world.published / "host-2/reports").glob(f"*{sent[0][0]}.report"))
    whole = soak.missing(world, "host-2", sent)
    other = soak.missing(world, "host-2", [(sent[0][0], 1)])
    report.write_bytes(report.read_bytes().replace(b"soak", b"sock"))
    unsigned = soak.missing(world, "host-2", sent)
    report.unlink()
    gone = soak.missing(world, "host-2", sent)
print(json.dumps({"facts": facts, "mixed": mixed, "missing": [whole, other, unsigned, gone]}))
"""


@pytest.mark.root
def test_a_short_soak_holds_and_a_lost_report_and_a_mixed_release_would_be_seen(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, BENCH, tmp_path], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    facts = found["facts"]
    assert facts["polls"] >= facts["releases_taken"] == facts["reports_sent"] >= 3
    assert facts["deploys"] >= 1
    assert (facts["reports_lost"], facts["mixed_releases"], facts["hosts_without_a_report"]) == ([], [], 0)
    assert not facts["failed_polls"]
    damaged, foreign = found["mixed"]
    assert "is another" in damaged
    assert "is for the host 'host-2'" in foreign
    whole, other, unsigned, gone = found["missing"]
    assert whole == []
    assert "is about another release" in other[0]
    assert "isn't signed" in unsigned[0]
    assert "is gone" in gone[0]


@pytest.mark.parametrize(("late", "grown"), [(100.0, False), (111.0, True)])
def test_memory_that_grows_by_more_than_a_tenth_is_not_flat(late: float, *, grown: bool) -> None:
    code = "import sys, json; sys.path.insert(0, sys.argv[1]); import soak; print(soak.grown(json.loads(sys.argv[2])))"
    memory = [[1, 100.0], [2, 100.0], [6, 100.0], [8, late], [9, late]]
    done = subprocess.run(
        [sys.executable, "-c", code, BENCH, json.dumps(memory)], capture_output=True, text=True, check=True
    )
    assert (float(done.stdout) > 0.1) is grown
