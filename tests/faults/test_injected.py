"""Promises 1, 4 and 5 at every system call: killed there, or refused by the disk, a host comes out whole and says so.

Here a few of each state; all of them by `make faults` (README.md beside this file).
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from bento.agent import run
from bento.agent.activate import Log, begin, switch
from bento.agent.control import recover_now
from bento.agent.install import open_generation, stored_manifest
from bento.core import journal as rules
from bento.core.journal import Point
from bento.errors import BentoError
from rig.faulty import FaultyHost, breakable, published
from rig.inject import CRASHED, ENDED, Call, Traced, killed, state, traced
from rig.whole import check_after, check_at_once, check_leaks, leaks

ALL = os.environ.get("BENTO_FAULTS") == "all"
ERRORS = ("ENOSPC", "EIO", "EROFS")


@dataclass(frozen=True)
class Scenario:
    """What is broken: `begin` brings the host there, `work` is the victim, `end` what must come of it at last."""

    begin: Callable[[FaultyHost], object]
    work: Callable[[FaultyHost], object]
    end: str
    states: frozenset[str]
    same: bool = False


def one_run(host: FaultyHost) -> object:
    return run.run(host.made)


def refusing(host: FaultyHost) -> None:
    """The new system can't be switched to: it runs, and says that it failed."""
    host.rewind()
    host.fault("new", "test", "exit 2", when="after")


def under_way(host: FaultyHost) -> None:
    """A run died that had just switched."""
    host.rewind()
    run._poll(host.made, None)
    made, serial = host.made, host.serials["new"]
    open_generation(made, stored_manifest(made, serial))
    switch(made, begin(made, Point(host.system("new"), serial)), Log(made.say))


def confirmed(host: FaultyHost) -> None:
    """A run died that had just begun to commit."""
    under_way(host)
    host.made.state.write_journal(rules.begin_commit(host.made.state.journal()))


_TAKING = frozenset({"fetch", "unpack", "secrets", "build", "switch", "confirm", "commit", "report"})
SCENARIOS = {
    "a release with a new system": Scenario(FaultyHost.rewind, one_run, "new", _TAKING),
    "a release with a new secret": Scenario(
        FaultyHost.rewind, one_run, "new", _TAKING - {"unpack", "build"}, same=True
    ),
    "a release that fails": Scenario(refusing, one_run, "old", (_TAKING | {"rollback"}) - {"confirm", "commit"}),
    "going back after a cut": Scenario(
        under_way, lambda host: recover_now(host.made), "new", frozenset({"rollback", "report"})
    ),
    "going forward after a cut": Scenario(
        confirmed, lambda host: recover_now(host.made), "new", frozenset({"secrets", "commit", "report"})
    ),
}


@dataclass
class Tally:
    """What was injected, and what came of it."""

    hits: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    kills: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    of_all: ClassVar[dict[str, int]] = {}

    def count(self, done: Traced, fault: str) -> bool:
        """Whether the fault counts: the target died of it, or the trace shows the error."""
        if done.hit is None or (fault == "KILL") != killed(done):
            return False
        self.hits[done.hit.state, done.hit.name, done.hit.path] += 1
        if fault == "KILL":
            self.kills += 1
        else:
            self.errors[fault] += 1
        return True

    def show(self, title: str) -> None:
        """Print all of it."""
        self.of_all[title] = self.kills
        print(f"\n== {title}: {self.kills} kills, {dict(self.errors)}, {len(self.hits)} distinct")  # noqa: T201
        print(*self.wrong, sep="\n")  # noqa: T201
        if ALL:
            for (where, name, path), number in sorted(self.hits.items()):
                print(f"{number:5} {where:9} {name:10} {path}")  # noqa: T201


def faults(calls: tuple[Call, ...], *, after: tuple[str, ...], few: int = 1) -> Iterator[tuple[Call, str, str]]:
    """Call, fault, and what follows it. Of each state `few` kills and errors, or everything."""
    for turn, where in enumerate(dict.fromkeys(call.state for call in calls)):
        there = [call for call in calls if call.state == where]
        for kind, able in (("KILL", there), ("", [call for call in there if call.changes])):
            sure = [call for call in able if call.counted][:: max(1, len(able) // few)][:few]
            for number, call in enumerate(able if ALL else sure):
                names = ("KILL",) if kind else ERRORS
                if not ALL:
                    names = (names[(turn + number) % len(names)],)
                for name in names:
                    for what in (after if kind else after[:1]) if ALL else (after[turn % len(after)],):
                        yield call, name, what


def break_once(host: FaultyHost, scenario: Scenario, fault: tuple[Call, str], after: str, tally: Tally) -> None:
    scenario.begin(host)
    done = traced(lambda: scenario.work(host), host.folder, fault)
    if not tally.count(done, fault[1]):
        return
    try:
        assert done.code != CRASHED, done.said
        check_at_once(host)
        check_leaks(host)
        if after == "reboot":
            host.reboot()
            assert host.content().decode().split()[1] == host.check_boot()
        check_after(host, scenario.end, error=fault[1] != "KILL")
        check_leaks(host)
    except (AssertionError, BentoError, OSError) as error:
        hit = done.hit
        tally.wrong.append(f"{fault[1]} at {hit}, then {after}; the run said {done.said[-300:]!r}: {error!r:.300}")


@pytest.mark.root
@pytest.mark.programs("strace", "ssh-keygen")
@pytest.mark.timeout(3600 if ALL else 240)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_broken_at_any_system_call_leaves_one_release_in_force_converges_and_reports(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = SCENARIOS[name]
    host = FaultyHost(tmp_path, same=scenario.same)
    tally = Tally()
    with breakable(host, monkeypatch):
        scenario.begin(host)
        whole = traced(lambda: scenario.work(host), host.folder)
        assert whole.code == ENDED, whole.said
        check_after(host, scenario.end)
        wanted = 0
        for call, fault, after in faults(whole.calls, after=("run", "reboot")):
            wanted += call.counted
            break_once(host, scenario, (call, fault), after, tally)
        # the control: it is there, and the search finds it elsewhere too
        shutil.copy(host.runtime.secrets / "token", planted := host.made.state.root / "planted")
        assert leaks(host) == [planted]
    tally.show(name)
    assert tally.wrong == []
    assert scenario.states - {where for where, _, _ in tally.hits} == set()
    assert tally.kills + tally.errors.total() >= wanted * 0.95


@pytest.mark.root
@pytest.mark.programs("strace", "ssh-keygen")
@pytest.mark.timeout(3600 if ALL else 240)
def test_a_publication_broken_at_any_system_call_leaves_one_whole_release_and_is_mended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FaultyHost(tmp_path)
    target = tmp_path / "target"
    tally = Tally()

    def work() -> None:
        state("publish")
        host.publish("new", target)

    def rewind() -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(tmp_path / "published-old", target)

    def word() -> str:
        return host.word_of(published(host.trust(), target, host.name))

    with breakable(host, monkeypatch):
        rewind()
        whole = traced(work, host.folder)
        assert whole.code == ENDED, whole.said
        wanted = list(
            faults(tuple(call for call in whole.calls if call.state == "publish"), after=("publish",), few=12)
        )
        for call, fault, _ in wanted:
            rewind()
            done = traced(work, host.folder, (call, fault))
            if not tally.count(done, fault):
                continue
            try:
                assert done.code != CRASHED, done.said
                assert word() in (("new",) if done.code == ENDED else ("old", "new"))
                host.publish("new", target)
                assert word() == "new"
            except (AssertionError, BentoError, OSError) as error:
                tally.wrong.append(f"{fault} at {done.hit}; it said {done.said[-300:]!r}: {error!r:.300}")
    tally.show("a publication")
    assert tally.wrong == []
    if ALL and {*SCENARIOS} < {*Tally.of_all}:
        print(f"\n== all: {sum(Tally.of_all.values())} kills")  # noqa: T201
        assert sum(Tally.of_all.values()) >= 1000
    assert {where for where, _, _ in tally.hits} == {"publish"}
    assert tally.kills + tally.errors.total() >= sum(call.counted for call, _, _ in wanted) * 0.95
