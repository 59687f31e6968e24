"""Many hosts poll a real sshd while deploys go on: no lost report, no mixed release, memory flat. `make soak`; root."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from served import ServedWorld

HERE = Path(__file__).parent
WORKERS = 4
CHANGED = 100  # one host in so many changes with each deploy
PAUSE = 10.0  # seconds between two deploys
GROWTH = 0.1  # of memory, between the first and the last third of the time


def main() -> int:
    """Exit status: 1 where a report was lost, a release mixed, or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))  # noqa: S108
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.folder, prefix="bento-soak-") as folder,
        ServedWorld(Path(folder), options.hosts) as world,
    ):
        facts = soak(world, options.seconds)
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0 if facts["held"] else 1


def soak(world: ServedWorld, seconds: float) -> dict[str, object]:
    """The facts, as `make soak` prints them."""
    from soak_agents import resident

    world.bento()
    began = time.monotonic()
    argv = [sys.executable, HERE / "soak_agents.py", world.folder / "keys", world.fleet / "utils/trust.toml"]
    workers = [
        subprocess.Popen([*argv, str(seconds), *world.names[one::WORKERS]], stdout=subprocess.PIPE)
        for one in range(min(WORKERS, len(world.names)))
    ]
    deploying: list[tuple[float, float]] = []
    listening: list[tuple[float, float]] = []
    releases = 0
    while not deploying or time.monotonic() < began + seconds:
        changed = world.names[releases % CHANGED :: CHANGED]
        for name in changed:
            (world.fleet / "hosts" / name / "module-0.nix").write_text(f"# {name} {time.time_ns()}\n")
        deploying.append((time.monotonic() - began, world.bento().memory))
        listening.append((time.monotonic() - began, resident(world.sshd.pid)))
        releases += len(changed)
        time.sleep(min(PAUSE, max(0.0, began + seconds - time.monotonic())))
    told = [json.loads(worker.communicate()[0]) for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError("a process of agents ended before its time")
    sent = {host: reports for one in told for host, reports in one["sent"].items()}
    lost = [f"{host}: {why}" for host, reports in sent.items() for why in missing(world, host, reports)]
    mixed = [what for one in told for what in one["mixed"]]
    growth = {
        "agents": max(grown(one["memory"]) for one in told),
        "deploy": grown(deploying),
        "sshd": grown(listening),
    }
    polls = sum(one["polls"] for one in told)
    never = len(world.names) - len(sent)
    failed = sum((Counter(one["failed"]) for one in told), Counter())
    return {
        "hosts": len(world.names),
        "seconds": round(time.monotonic() - began),
        "polls": polls,
        "polls_a_second": round(polls / (time.monotonic() - began), 1),
        "failed_polls": dict(failed),
        "deploys": len(deploying),
        "releases_published": releases,
        "releases_taken": sum(one["taken"] for one in told),
        "reports_sent": sum(map(len, sent.values())),
        "reports_lost": lost,
        "mixed_releases": mixed,
        "hosts_without_a_report": never,
        "memory_mb": {
            "agents": round(max(mb for one in told for _, mb in one["memory"]), 1),
            "deploy": round(max(mb for _, mb in deploying), 1),
            "sshd": round(max(mb for _, mb in listening), 1),
        },
        "growth": {what: round(value, 3) for what, value in growth.items()},
        "held": not lost and not mixed and not never and max(growth.values()) <= GROWTH,
    }


def missing(world: ServedWorld, host: str, reports: Sequence[Sequence[int]]) -> list[str]:
    """What is wrong with the reports that the server took from a host, as the admin's side reads them."""
    from bento.adapters import sshsig
    from bento.models.report import parse_report
    from bento.models.signed import split
    from bento.models.trust import NAMESPACE_REPORT
    from bento_secrets.ssh_keys import SshPublicKey

    signer = SshPublicKey.parse(world.key(host).with_suffix(".pub").read_text())
    wrong = []
    for counter, serial in reports:
        path = world.published / host / f"reports/{counter:020}.report"
        if not path.exists():
            wrong.append(f"the report {counter} is gone")
            continue
        document = split(path.read_bytes(), "the report")
        if not any(sshsig.good(document.line, armour, (signer,), NAMESPACE_REPORT) for armour in document.armours):
            wrong.append(f"the report {counter} isn't signed")
        elif parse_report(document.line).serial != serial:
            wrong.append(f"the report {counter} is about another release")
    return wrong


def grown(memory: Sequence[Sequence[float]]) -> float:
    """By what share memory grew from the first third of the time to the last. Pairs of seconds and MB."""
    third = memory[-1][0] / 3
    early = [mb for at, mb in memory if at <= third] or [memory[0][1]]
    late = [mb for at, mb in memory if at >= 2 * third]
    return statistics.median(late) / statistics.median(early) - 1


if __name__ == "__main__":
    sys.exit(main())
