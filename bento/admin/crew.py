"""Who evaluates and builds: at most so many at once, evaluations within memory, hosts of one flake together."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from bento.adapters import evaluation
from bento.adapters.evaluation import Flake
from bento.adapters.nix import BuildInput, Derivation
from bento.adapters.process import stop_children
from bento.admin.progress import Say
from bento.core.workers import Workers, workers
from bento.errors import BentoError, WorkFailed
from bento.names import HostName

# A signal that comes just before this thread begins to wait would else be heeded only when something ends.
_HEED = 0.5  # seconds
_EVAL_JOBS = 50  # hosts a worker of one run of nix-eval-jobs; builds wait for all of them

Show = Callable[[HostName, str], None]  # takes a line that Nix said for a host
Source = tuple[HostName, BuildInput]


@dataclass(frozen=True)
class _Given:
    """What evaluating some hosts gave. `peak`: the most bytes that one host by itself took; None where none was."""

    found: Mapping[HostName, Derivation]
    failed: Mapping[HostName, BentoError]
    peak: int | None


@dataclass(frozen=True)
class _Task:
    """What a thread does. `processes` of Nix; whether they evaluate."""

    processes: int
    evaluates: bool


@dataclass
class Crew:
    """`wanted` processes of Nix at once; `available` bytes of memory for them, None where that isn't known.

    `build` is called for each host that was evaluated, in a thread of its own; `show` gets what Nix says.
    """

    wanted: int
    available: int | None
    say: Say
    build: Callable[[HostName, Derivation], None] | None = None
    show: Show | None = None
    found: dict[HostName, Derivation] = field(default_factory=dict)
    failed: dict[HostName, BentoError] = field(default_factory=dict)
    _one: int | None = None  # bytes that one host's evaluation takes, as far as is known
    _stopped: Event = field(default_factory=Event)
    _running: dict[Future[Any], _Task] = field(default_factory=dict)
    _ended: "SimpleQueue[Future[Any]]" = field(default_factory=SimpleQueue)

    def work(self, sources: Mapping[HostName, BuildInput]) -> None:
        """Evaluate all, build what came of it, and leave both results in `found` and `failed`.

        One host's failure is no other's. What is evaluated is built before more is. If this is interrupted, what is
        under way is ended.
        """
        todo = _by_flake(sources)
        ready: deque[HostName] = deque()
        with ThreadPoolExecutor(self.wanted) as pool:
            try:
                while todo or ready or self._running:
                    while ready and self._free():
                        self._began(pool.submit(self._build, ready.popleft()), _Task(1, evaluates=False))
                    while todo and (slots := min(self._free(), self._may_evaluate())) > 0:
                        self._start(pool, todo, slots)
                    # No `continue`: Python 3.11 takes a signal that is heeded there for one before the `try`.
                    if (ended := self._one_that_ended()) is not None:
                        del self._running[ended]
                        ready.extend(self._take(ended.result()))
            except BaseException:
                # Ctrl-C or SIGTERM: no build goes on behind the admin's back.
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                stop_children()
                raise

    def _began(self, future: Future[Any], task: _Task) -> None:
        self._running[future] = task
        future.add_done_callback(self._ended.put)

    def _one_that_ended(self) -> Future[Any] | None:
        try:
            return self._ended.get(timeout=_HEED)
        except Empty:
            return None

    def _free(self) -> int:
        return self.wanted - sum(task.processes for task in self._running.values())

    def _plan(self) -> Workers:
        return workers(self.wanted, self.available, self._one)

    def _may_evaluate(self) -> int:
        return self._plan().at_once - sum(task.processes for task in self._running.values() if task.evaluates)

    def _start(self, pool: ThreadPoolExecutor, todo: deque[list[Source]], slots: int) -> None:
        """Evaluate some hosts of the first flake."""
        plan, group = self._plan(), todo[0]
        eval_jobs = len(group) > 1 and self._one is not None and evaluation.has_eval_jobs()
        if eval_jobs:  # it divides them among its workers, and starts one anew that has grown too large
            mine, processes = group[: _EVAL_JOBS * slots], slots
        else:
            mine, processes = group[: min(plan.hosts, -(-len(group) // slots))], 1
        del group[: len(mine)]
        if not group:
            todo.popleft()
        begun = pool.submit(self._evaluate, mine, plan, processes if eval_jobs else 0)
        self._began(begun, _Task(processes, evaluates=True))

    def _evaluate(self, sources: Sequence[Source], plan: Workers, eval_jobs: int) -> _Given:
        """Evaluate hosts of one flake, by nix-eval-jobs with so many workers if there are any."""
        for host, _ in sources:
            self.say(host, "evaluating", "working")
        found: dict[HostName, Derivation] = {}
        failed: dict[HostName, BentoError] = {}
        peaks: list[int] = []
        rest = list(sources)
        if eval_jobs:
            with suppress(WorkFailed):  # each host says it by itself
                found.update(_of_hosts(rest, evaluation.by_eval_jobs(_flake(rest), eval_jobs, plan.memory)))
            rest = [one for one in rest if one[0] not in found]
        several = plan.hosts > 1 and not found
        while rest and not self._stopped.is_set():
            if several and len(rest) > 1:
                some = rest[: plan.hosts]
                given: Mapping[HostName, Derivation] = {}
                with suppress(WorkFailed):
                    given = _of_hosts(some, evaluation.together(_flake(some), self._show_of(some)))
                found.update(given)
                several = bool(given)  # where the first one fails the others may well do too
                rest = [one for one in rest if one[0] not in found]
                if len(given) == len(some) or self._stopped.is_set():
                    continue
            host, source = rest.pop(0)
            try:
                found[host], peak = evaluation.alone(source, None if self.show is None else partial(self.show, host))
                peaks.append(peak)
            except BentoError as error:
                failed[host] = error
                self._say_failed(host, "evaluation failed")
        return _Given(found, failed, max(peaks, default=None))

    def _take(self, given: _Given | None) -> Sequence[HostName]:
        """Note what an evaluation gave; the hosts that can be built."""
        if given is None:
            return ()
        self.found.update(given.found)
        self.failed.update(given.failed)
        if given.peak is not None:
            self._one = max(given.peak, self._one or 0)
        return () if self.build is None else tuple(given.found)

    def _build(self, host: HostName) -> None:
        if self.build is None:
            return
        self.say(host, "building", "working")
        try:
            self.build(host, self.found[host])
        except BentoError as error:
            self.failed[host] = error
            self._say_failed(host, "build failed")

    def _say_failed(self, host: HostName, what: str) -> None:
        """Not of what was ended because a person stopped the whole work: that is no host's failure."""
        if not self._stopped.is_set():
            self.say(host, what, "failed")

    def _show_of(self, sources: Sequence[Source]) -> Callable[[str, str], None] | None:
        show = self.show
        if show is None:
            return None
        hosts = {str(source.attribute): host for host, source in sources}
        return lambda attribute, line: show(hosts[attribute], line)


def _by_flake(sources: Mapping[HostName, BuildInput]) -> deque[list[Source]]:
    """Hosts that can be evaluated together; a channel host is by itself."""
    groups: dict[object, list[Source]] = {}
    for host, source in sources.items():
        key = (source.tree, source.args) if source.kind == "flake" else host
        groups.setdefault(key, []).append((host, source))
    return deque(groups.values())


def _flake(sources: Sequence[Source]) -> Flake:
    attributes = tuple(dict.fromkeys(str(source.attribute) for _, source in sources))
    return Flake(sources[0][1].tree, attributes, sources[0][1].args, sources[0][1].unpack)


def _of_hosts(sources: Sequence[Source], given: Mapping[str, Derivation]) -> Mapping[HostName, Derivation]:
    return {host: given[str(source.attribute)] for host, source in sources if str(source.attribute) in given}
