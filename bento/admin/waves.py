"""`bento deploy --canary`: publish to a few hosts, wait for their reports, then go on with the rest or stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bento.admin.build import AS_USUAL, How
from bento.admin.deploy import plan_hosts, prepare, tidy_up
from bento.admin.inventory import Fleet
from bento.admin.progress import Say
from bento.admin.publish import Published
from bento.admin.publishing import Deployed, Prepared, publish_prepared
from bento.admin.signing import check_signers
from bento.admin.status import HostStatus, status
from bento.admin.targets import Reached, still_there, targets_of, writing
from bento.admin.workspace import Workspace
from bento.core.waves import Verdict, judge
from bento.errors import InputError
from bento.models.trust import Trust
from bento.names import HostName

PAUSE = 2.0  # seconds between two looks at the reports


@dataclass(frozen=True)
class Clocks:
    """`now` gives UTC seconds, `elapsed` seconds that never go back; `sleep` waits so many."""

    now: Callable[[], int]
    elapsed: Callable[[], float]
    sleep: Callable[[float], None]


@dataclass(frozen=True)
class Canary:
    """One canary when the wait was over. `said` is its state, with the reason it gave; from the host, so unclean."""

    verdict: Verdict
    said: str


@dataclass(frozen=True)
class Waved:
    """What became of all hosts, as a deploy says it, and of the canaries. It stopped where hosts are `left`.

    With `interrupted` a person ended the wait; `canaries` is then what was seen until there, and may be empty.
    """

    done: Deployed
    canaries: Mapping[HostName, Canary]
    left: tuple[HostName, ...]  # hosts that nothing was published for, because of the canaries
    proved: bool  # whether a canary got anything new at all
    interrupted: bool = False


def canaries_among(chosen: tuple[HostName, ...], wanted: tuple[HostName, ...]) -> tuple[HostName, ...]:
    """The canaries of a deploy to `chosen`. Raises InputError where there is none, or where all are."""
    canaries = tuple(name for name in chosen if name in wanted)
    if not wanted:
        raise InputError("--wait is for canaries", "name some: bento deploy --canary @TAG --wait 10m")
    if not canaries:
        raise InputError("no canary is among the chosen hosts", "name one of those that --on chooses")
    if len(canaries) == len(chosen):
        raise InputError("all of the chosen hosts are canaries", "leave out --canary, or choose more hosts with --on")
    return canaries


def deploy_in_waves(
    fleet: Fleet,
    trust: Trust,
    chosen: tuple[HostName, ...],
    canaries: tuple[HostName, ...],
    wait: int,
    clocks: Clocks,
    say: Say,
    how: How = AS_USUAL,
    *,
    break_lock: bool = False,
    drop_signers: bool = False,
) -> Waved:
    """Build all, publish to `canaries`, and to the rest of `chosen` once every canary is good within `wait` seconds.

    What the rest gets is what was built at the beginning. Others may publish while this waits, not build here.
    A Ctrl-C in the wait ends that. Raises as `deploy` does.
    """
    check_signers(fleet.signing_keys, trust)
    workspace = Workspace(fleet.root)
    stamps = workspace.stamps(trusting=not how.anew)
    targets = targets_of(fleet, trust, clocks.now, break_lock=break_lock, stamps=stamps)
    plan = plan_hosts(fleet, chosen, clocks.now(), stamps)
    others = tuple(name for name in chosen if name not in canaries)

    def publish(prepared: Prepared, hosts: tuple[HostName, ...], reached: Reached) -> Deployed:
        return publish_prepared(
            prepared, hosts, fleet, trust, reached, workspace, clocks.now, say, drop_signers=drop_signers
        )

    with workspace.locked():
        with writing(targets) as reached:
            prepared = prepare(plan, fleet, trust, reached.targets, workspace, say, how, frozenset(others))
            first = publish(prepared, canaries, still_there(reached))
        proved = any(one.changed is not None for one in first.published.values())
        seen: dict[HostName, Canary] = {}
        interrupted = False
        try:
            if not first.failed:
                _wait(fleet, trust, first.published, wait, clocks, say, seen)
        except KeyboardInterrupt:
            interrupted = True
        if interrupted or first.failed or any(one.verdict != "good" for one in seen.values()):
            left = tuple(name for name in others if name not in prepared.failed)
            return Waved(replace(first, failed={**prepared.failed, **first.failed}), seen, left, proved, interrupted)
        with writing(targets) as reached:
            rest = publish(prepared, others, reached)
        tidy_up(fleet, chosen, workspace, prepared, stamps)
    done = Deployed(
        {**first.published, **rest.published},
        {**first.failed, **rest.failed},
        prepared.built,
        tuple(dict.fromkeys((*first.warnings, *rest.warnings))),
        {**first.missed, **rest.missed},
    )
    return Waved(done, seen, (), proved)


def _wait(
    fleet: Fleet,
    trust: Trust,
    published: Mapping[HostName, Published],
    wait: int,
    clocks: Clocks,
    say: Say,
    seen: dict[HostName, Canary],
) -> None:
    """Look until all canaries are good, or one is bad, or the time is up. `seen` always has what was seen last."""
    until = clocks.elapsed() + wait
    while True:
        for one in status(fleet, trust, published):
            name, canary = one.host.name, _canary(one, published)
            if seen.get(name) != canary:
                said = {"good": "good", "waiting": "waiting for its report", "bad": "bad"}[canary.verdict]
                say(name, said, "failed" if canary.verdict == "bad" else "done")
            seen[name] = canary
        verdicts = {one.verdict for one in seen.values()}
        if verdicts <= {"good"} or "bad" in verdicts or clocks.elapsed() + PAUSE > until:
            return
        clocks.sleep(PAUSE)


def _canary(one: HostStatus, published: Mapping[HostName, Published]) -> Canary:
    release = one.published
    if release is None or release.serial != published[one.host.name].serial:
        return Canary("bad", "something else was published for it meanwhile")
    verdict = judge(one.state, release)
    report = one.state.report
    if one.state.state == "unreadable":
        return Canary(verdict, "its reports can't be read")
    if verdict == "waiting":
        return Canary(verdict, "no report yet" if one.state.last_seen is not None else "never heard of")
    return Canary(verdict, one.state.state if report is None else f"{one.state.state}: {report.reason}")
