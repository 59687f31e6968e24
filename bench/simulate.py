"""What fleets of 100 to 100,000 hosts ask of their servers, from costs that were measured. No network, no clock.

    .venv/bin/python bench/simulate.py [--interval 300] [--splay 300] [--cpu 0.021] [--wire 5500]

A host polls each `interval` seconds. With splay its offset within the interval is its own and always the same
(systemd's RandomizedDelaySec with FixedRandomDelay); without, all poll at the same instant. A core serves one poll in
`cpu` seconds, first come, first served; who would wait longer than `patience` is sent away until the next interval.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

HOSTS = (100, 1_000, 10_000, 100_000)
SHARE = 0.99


@dataclass(frozen=True)
class Costs:
    """`cpu`: a poll's seconds of a core at the server; `wire`: its bytes, both ways (docs/performance.md)."""

    cpu: float = 0.021
    wire: int = 5_500
    interval: float = 300.0
    splay: float = 300.0
    patience: float = 20.0  # the agent's timeout for a server that doesn't answer
    load: float = 0.7  # of a core, that may be used up on average
    link: float = 125e6  # bytes a second that one server can send


@dataclass(frozen=True)
class Row:
    """One size of fleet. `seconds_to_99`: from a release until 99 % of the hosts have it."""

    hosts: int
    splay: float
    polls_a_second: float
    bytes_a_second: float
    cores: int
    seconds_to_99: float
    turned_away: int


def cores_for(hosts: int, costs: Costs) -> int:
    """Cores that carry the polls of an interval at the wanted load, by processor time and by bytes."""
    by_cpu = hosts * costs.cpu / costs.interval / costs.load
    by_link = hosts * costs.wire / costs.interval / costs.link
    return max(1, math.ceil(max(by_cpu, by_link)))


def offsets(hosts: int, splay: float, seed: int = 0) -> list[float]:
    """When each host polls within the interval, in seconds, in order."""
    chance = random.Random(seed)  # noqa: S311 — a simulation
    return sorted(chance.uniform(0, splay) for _ in range(hosts))


def queue(arrivals: Sequence[float], serving: float, patience: float) -> tuple[list[float], int]:
    """One queue that takes `serving` seconds for each poll: when those end that are served, and how many aren't."""
    free, away = 0.0, 0
    ends: list[float] = []
    for at in arrivals:
        starts = max(at, free)
        if starts - at > patience:
            away += 1
        else:
            free = starts + serving
            ends.append(free)
    return ends, away


def simulate(hosts: int, costs: Costs, cores: int | None = None) -> Row:
    """A release is published at the start of an interval; each host asks at each interval, whether it has it or not.

    Where some are turned away, chance decides each time who: of the hosts that lack it, the same share is served again.
    """
    cores = cores_for(hosts, costs) if cores is None else cores
    ends, away = queue(offsets(hosts, costs.splay), costs.cpu / cores, costs.patience)
    turned_away = away / hosts
    lacking, intervals = 1.0, 0
    while lacking * turned_away > 1 - SHARE:
        lacking *= turned_away
        intervals += 1
    share = 1 - (1 - SHARE) / lacking  # of an interval's polls, that must have been served in the last one
    last = ends[math.ceil(round(share * hosts, 6)) - 1]
    rate = hosts / costs.interval
    return Row(hosts, costs.splay, rate, rate * costs.wire, cores, intervals * costs.interval + last, away)


def main() -> None:
    """Print the rows: a table on stderr, JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in (("cpu", float), ("wire", int), ("interval", float), ("splay", float), ("patience", float)):
        parser.add_argument(f"--{name}", type=kind, default=getattr(Costs, name))
    options = parser.parse_args()
    costs = Costs(**vars(options))
    rows = [simulate(hosts, one) for hosts in HOSTS for one in (costs, replace(costs, splay=0.0))]
    sys.stderr.write("   hosts  splay  polls/s    kB/s  cores  99 % after  turned away\n")
    for row in rows:
        sys.stderr.write(
            f"{row.hosts:8,} {row.splay:6.0f} {row.polls_a_second:8.1f} {row.bytes_a_second / 1000:7.0f} {row.cores:6}"
            f" {row.seconds_to_99:9.0f} s {row.turned_away:12,}\n"
        )
    sys.stdout.write(json.dumps({"costs": asdict(costs), "rows": [asdict(row) for row in rows]}) + "\n")


if __name__ == "__main__":
    main()
