"""What is evaluated when, and with what: by a stand-in for Nix that knows which hosts are broken."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bento.adapters import evaluation
from bento.adapters.evaluation import Flake
from bento.adapters.nix import BuildFailed, BuildInput, Derivation
from bento.admin.crew import Crew
from bento.admin.progress import State
from bento.errors import WorkFailed
from bento.names import HostName

GIB = 2**30
TREE = Path("/tree")


@dataclass
class Nix:
    """`broken` hosts can't be evaluated; `size` is what one takes. Keeps who was evaluated with whom, in order."""

    broken: frozenset[str] = frozenset()
    size: int = GIB
    eval_jobs: bool = False
    knows_select: bool = True
    starts: Callable[[], None] = lambda: None
    asked: list[tuple[str, ...]] = field(default_factory=list)
    workers: list[tuple[int, int | None]] = field(default_factory=list)
    at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _begin(self, *names: str) -> None:
        with self._lock:
            self.asked.append(names)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        self.starts()

    def _end(self) -> None:
        with self._lock:
            self._now -= 1

    def alone(self, source: BuildInput, _on_line: object = None) -> tuple[Derivation, int]:
        name = source.attribute or source.tree.name
        source.unpack()
        self._begin(name)
        self._end()
        if name in self.broken:
            raise BuildFailed(f"{name} is broken", "")
        return Derivation(name, name), self.size

    def together(self, flake: Flake, _on_line: object = None) -> dict[str, Derivation]:
        flake.unpack()
        self._begin(*flake.attributes)
        self._end()
        found = {}
        for name in flake.attributes:
            if name in self.broken:
                break
            found[name] = Derivation(name, name)
        return found

    def by_eval_jobs(self, flake: Flake, workers: int, memory: int | None) -> dict[str, Derivation]:
        self.workers.append((workers, memory))
        if not self.knows_select:
            return {}
        flake.unpack()
        self._begin(*flake.attributes)
        self._end()
        return {name: Derivation(name, name) for name in flake.attributes if name not in self.broken}


def crew(
    monkeypatch: pytest.MonkeyPatch, fake: Nix, *, wanted: int = 1, available: int | None = 64 * GIB
) -> tuple[Crew, list[str]]:
    """A crew on it, and the hosts as they are built."""
    monkeypatch.setattr(evaluation, "alone", fake.alone)
    monkeypatch.setattr(evaluation, "together", fake.together)
    monkeypatch.setattr(evaluation, "by_eval_jobs", fake.by_eval_jobs)
    monkeypatch.setattr(evaluation, "has_eval_jobs", lambda: fake.eval_jobs)
    built: list[str] = []

    def say(host: HostName, what: str, state: State = "done") -> None:
        pass

    return Crew(wanted, available, say, lambda host, _: built.append(host)), built


def flake(*names: str) -> dict[HostName, BuildInput]:
    return {HostName(name): BuildInput(TREE, "flake", name) for name in names}


def channel(*names: str) -> dict[HostName, BuildInput]:
    return {HostName(name): BuildInput(Path("/") / name, "channel", None) for name in names}


def test_a_flake_is_evaluated_once_for_all_hosts_after_the_first_which_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Nix()
    one, built = crew(monkeypatch, fake)
    one.work(flake("a", "b", "c", "d"))
    assert fake.asked == [("a",), ("b", "c", "d")]
    assert built == ["a", "b", "c", "d"]
    assert not one.failed


def test_a_host_of_a_flake_is_never_evaluated_with_another_flake_s_or_with_other_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Nix()
    one, _ = crew(monkeypatch, fake)
    other = {HostName("x"): BuildInput(Path("/other"), "flake", "x")}
    impure = {HostName("y"): BuildInput(TREE, "flake", "y", ("--impure",))}
    one.work({**flake("a", "b", "c"), **other, **impure, **channel("old")})
    assert sorted(fake.asked) == [("a",), ("b", "c"), ("old",), ("x",), ("y",)]


@pytest.mark.parametrize(
    ("broken", "asked"),
    [
        ("c", [("a",), ("b", "c", "d", "e"), ("c",), ("d", "e")]),
        ("a", [("a",), ("b",), ("c", "d", "e")]),
        ("b", [("a",), ("b", "c", "d", "e"), ("b",), ("c",), ("d",), ("e",)]),
        ("abcde", [("a",), ("b",), ("c",), ("d",), ("e",)]),
    ],
)
def test_a_broken_host_harms_only_itself_and_its_error_is_its_own(
    monkeypatch: pytest.MonkeyPatch, broken: str, asked: list[tuple[str, ...]]
) -> None:
    fake = Nix(frozenset(broken))
    one, built = crew(monkeypatch, fake)
    one.work(flake(*"abcde"))
    assert sorted(built) == sorted(set("abcde") - set(broken))
    assert {name: error.message for name, error in one.failed.items()} == {name: f"{name} is broken" for name in broken}
    assert fake.asked == asked


@pytest.mark.parametrize("eval_jobs", [False, True])
def test_a_configuration_that_can_t_be_unpacked_harms_only_the_hosts_that_have_it(
    monkeypatch: pytest.MonkeyPatch, *, eval_jobs: bool
) -> None:
    def full() -> None:
        raise WorkFailed("can't unpack the configuration: No space left on device")

    work, built = crew(monkeypatch, Nix(eval_jobs=eval_jobs))
    hosts = {HostName(name): BuildInput(Path("/full"), "flake", name, unpack=full) for name in ("a", "b", "c")}
    work.work({**channel("first"), **hosts, **flake("x", "y")})
    assert built == ["first", "x", "y"]
    assert set(work.failed) == set(hosts)
    assert all("No space left" in error.message for error in work.failed.values())


def test_two_hosts_may_be_one_system_of_a_flake(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nix()
    one, built = crew(monkeypatch, fake)
    same = {HostName("twin"): BuildInput(TREE, "flake", "b")}
    one.work({**flake("a", "b"), **same, **flake("c")})
    assert fake.asked == [("a",), ("b", "c")]
    assert sorted(built) == ["a", "b", "c", "twin"]


@pytest.mark.parametrize(("available", "at_once"), [(64 * GIB, 4), (3 * GIB, 2), (GIB, 1), (None, 4)])
def test_as_many_evaluations_run_at_once_as_fit_into_memory_once_the_first_one_is_known(
    monkeypatch: pytest.MonkeyPatch, available: int | None, at_once: int
) -> None:
    first = threading.Event()
    all_in = threading.Barrier(at_once)

    def starts() -> None:
        if not first.is_set():
            first.set()
            return
        if at_once > 1:
            all_in.wait(60)  # broken, an error, where fewer run at once

    fake = Nix(starts=starts)
    one, built = crew(monkeypatch, fake, wanted=4, available=available)
    one.work(channel("first", *(f"h{number}" for number in range(4))))
    assert fake.at_once == at_once
    assert len(built) == 5


def test_hosts_that_turn_out_larger_than_the_first_lower_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nix(size=GIB)
    one, _ = crew(monkeypatch, fake, wanted=4, available=8 * GIB)
    one.work(channel("small"))
    assert one._plan().at_once == 4
    fake.size = 3 * GIB
    one.work(channel("large"))
    assert one._plan().at_once == 2
    fake.size = GIB
    one.work(channel("small"))
    assert one._plan().at_once == 2


def test_an_evaluation_takes_no_more_hosts_than_its_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nix()
    one, _ = crew(monkeypatch, fake, available=4 * GIB)
    one.work(flake(*(f"h{number}" for number in range(8))))
    assert [len(names) for names in fake.asked] == [1, 3, 3, 1]


def test_nix_eval_jobs_gets_what_is_left_with_workers_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nix(frozenset("ce"), eval_jobs=True, size=GIB // 2)
    one, built = crew(monkeypatch, fake, wanted=4, available=2 * GIB)
    one.work(flake("a", "b", "c", "d", "e"))
    assert fake.workers == [(3, GIB // 2)]
    assert fake.asked == [("a",), ("b", "c", "d", "e"), ("c",), ("e",)]
    assert sorted(built) == ["a", "b", "d"]
    assert one.failed[HostName("c")].message == "c is broken"


def test_what_nix_eval_jobs_leaves_is_evaluated_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nix(frozenset("ce"), eval_jobs=True)
    one, _ = crew(monkeypatch, fake)
    one.work(flake("a", "b", "c", "d", "e"))
    assert fake.asked == [("a",), ("b", "c", "d", "e"), ("c",), ("e",)]


def test_without_a_nix_eval_jobs_that_can_do_it_nix_itself_does(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nix(eval_jobs=True, knows_select=False)
    one, built = crew(monkeypatch, fake)
    one.work(flake("a", "b", "c"))
    assert fake.asked == [("a",), ("b", "c")]
    assert sorted(built) == ["a", "b", "c"]


def test_a_build_that_fails_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one, built = crew(monkeypatch, Nix())

    def build(host: HostName, _derivation: Derivation) -> None:
        if host == "b":
            raise WorkFailed("no room")
        built.append(host)

    one.build = build
    one.work(flake("a", "b", "c"))
    assert built == ["a", "c"]
    assert {name: error.message for name, error in one.failed.items()} == {"b": "no room"}


def test_what_is_evaluated_is_built_before_more_is(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fake = Nix()
    one, _ = crew(monkeypatch, fake)
    one.build = lambda host, _: order.append(f"{host} after {len(fake.asked)}")
    one.work(channel("a", "b", "c"))
    assert order == ["a after 1", "b after 2", "c after 3"]


def test_nothing_is_begun_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nix(frozenset("b"))
    one, built = crew(monkeypatch, fake)
    noticed: list[bool] = []
    main = threading.get_ident()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored

    def interrupted() -> None:
        if len(fake.asked) > 1:  # in a thread, while three hosts are evaluated together
            signal.pthread_kill(main, signal.SIGINT)
            noticed.append(one._stopped.wait(60))

    fake.starts = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            one.work({**flake("a", "b", "c", "d"), **channel("old")})
    finally:
        signal.signal(signal.SIGINT, before)
    assert noticed == [True]
    assert fake.asked == [("a",), ("b", "c", "d")]
    assert built == ["a"]


def test_what_an_interrupt_has_ended_is_not_said_to_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nix(frozenset("ab"))
    one, _ = crew(monkeypatch, fake)
    said: list[tuple[HostName, str]] = []
    one.say = lambda host, _what, state="done": said.append((host, state))
    main = threading.get_ident()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted() -> None:
        if len(fake.asked) > 1:  # what Nix was doing for b is ended, and so it fails
            signal.pthread_kill(main, signal.SIGINT)
            assert one._stopped.wait(120)

    fake.starts = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            one.work(channel("a", "b"))
    finally:
        signal.signal(signal.SIGINT, before)
    # a failed by itself, and that is said
    assert said == [("a", "working"), ("a", "failed"), ("b", "working")]
