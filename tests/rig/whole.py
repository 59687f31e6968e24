"""What must be true of a host that was broken (rig/faulty.py): promises 1, 4 and 5, convergence, honest reports."""

from pathlib import Path

from bento.agent import run
from bento.agent.control import retry
from rig.faulty import MARKER, FaultyHost
from rig.markers import hits

RUNS = 4  # within so many it has converged
GOOD, BAD = ("succeeded", "degraded"), ("rolled-back", "failed")


def check_at_once(host: FaultyHost) -> None:
    """What must be true at any moment."""
    host.check_boot()
    if host.made.state.journal().phase == "idle":
        assert host.in_force() in (host.all_of("old"), host.all_of("new"))


def check_leaks(host: FaultyHost) -> None:
    """No plaintext lies anywhere but on the tmpfs."""
    assert leaks(host) == []


def leaks(host: FaultyHost) -> list[Path]:
    """The host's and its server's files that hold some. What strace wrote shows writes to the tmpfs too."""
    elsewhere = [path for path in host.folder.iterdir() if path not in (host.runtime.root, host.folder / "trace")]
    return hits(MARKER.encode(), *elsewhere)


def check_after(host: FaultyHost, end: str, *, error: bool = False) -> None:
    """The next runs converge to `end`, and report what is there. `error`: the disk had refused something."""
    for _ in range(RUNS):
        ran = run.run(host.made)
        if ran.outcome is None:
            break
    else:
        raise AssertionError(f"no end: {ran}")
    assert host.made.state.journal().phase == "idle"
    check_reports(host)
    if error and host.in_force() == host.all_of("old") and end == "new":
        # The release is left alone until somebody has looked.
        retry(host.made)
        assert run.run(host.made).outcome in GOOD
        check_reports(host)
    assert host.in_force() == host.all_of(end)
    host.check_boot()


def check_reports(host: FaultyHost) -> None:
    """At least one arrived, none waits, and the last one says what is in force."""
    reports = host.reports()
    assert reports
    assert host.made.state.spooled() == []
    assert len({report.counter for report in reports}) == len(reports) <= RUNS
    last = reports[-1]
    word = "new" if last.outcome in GOOD else "old"
    assert last.outcome in GOOD + BAD
    assert host.in_force() == host.all_of(word), last
    assert last.running == host.made.running()
    assert last.serial == host.serials["new"]
