"""A disk that doesn't give what it holds: a run ends in words, never by a crash, and the next one converges.

Here at some of the files and folders that a run opens; at all of them by `make faults` (README.md beside this file).
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bento.agent import run
from bento.agent.install import stored_manifest
from bento.agent.reporting import make_report
from bento.errors import BentoError
from rig.faulty import FaultyHost, breakable
from rig.inject import CRASHED, ENDED, traced
from rig.whole import check_after, check_at_once, check_leaks

ALL = os.environ.get("BENTO_FAULTS") == "all"


def settled(host: FaultyHost) -> None:
    """The host has the release, and there is nothing to do."""
    host.rewind()
    run.run(host.made)


def waiting(host: FaultyHost) -> None:
    """The same, and a report waits."""
    settled(host)
    made, serial = host.made, host.serials["new"]
    make_report(made, "succeeded", "again", manifest=stored_manifest(made, serial))


@pytest.mark.root
@pytest.mark.programs("strace", "ssh-keygen")
@pytest.mark.timeout(1800 if ALL else 240)
@pytest.mark.parametrize("begin", [FaultyHost.rewind, settled, waiting], ids=["a release", "a poll", "a report"])
def test_a_run_whose_disk_does_not_give_what_it_holds_ends_in_words_and_the_next_converges(
    begin: Callable[[FaultyHost], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FaultyHost(tmp_path)
    wrong, hits = [], 0
    with breakable(host, monkeypatch):
        begin(host)
        whole = traced(lambda: run.run(host.made), host.folder, reads=True)
        assert whole.code == ENDED, whole.said
        calls = [call for call in whole.calls if call.path.startswith("state/")]
        calls = calls if ALL else list({(call.state, call.path): call for call in calls}.values())[::4]
        for call in calls:
            begin(host)
            done = traced(lambda: run.run(host.made), host.folder, (call, "EIO"), reads=True)
            hits += done.hit is not None
            try:
                assert done.code != CRASHED, done.said
                check_at_once(host)
                check_leaks(host)
                check_after(host, "new", error=True)
            except (AssertionError, BentoError, OSError) as error:
                wrong.append(f"EIO at {call}; the run said {done.said[-300:]!r}: {error!r:.300}")
    print(f"\n== {len(calls)} openings, {hits} errors")  # noqa: T201
    assert wrong == []
    assert hits >= len(calls) * 0.95 > 0
