"""What fleets of 100 to 100,000 hosts ask of their servers, by arithmetic and a small simulation, from measured costs.

.venv/bin/python bench/simulate.py
.venv/bin/python bench/simulate.py --poll-cpu 0.02 --interval 300 --splay 120 --json
"""

import argparse
import heapq
import json
import math
import random
import sys
from dataclasses import asdict, dataclass

HOSTS = (100, 1_000, 10_000, 100_000)
BUSY = 0.7  # of a core: above it, queues of randomly arriving work grow long
_SEED = 1


@dataclass(frozen=True)
class Costs:
    """Measured: `python bench poll` gives `poll_cpu`; bytes are those of a session (docs/performance.md)."""

    poll_cpu: float = 0.02  # seconds of sshd for a poll with nothing new
    poll_bytes: int = 6_600  # both ways, key exchange and heartbeat included
    fetch_cpu: float = 0.07  # seconds of sshd for taking a release: three logins, to fetch, to confirm, and to report
    fetch_bytes: int = 20_400  # both ways, for a release that brings one small secret
    interval: float = 300.0  # seconds from a host's poll to its next
    splay: float = 120.0  # at most so many seconds more, the same on a host each time


@dataclass(frozen=True)
class Load:
    """What one number of hosts asks. Rates are per second; times are in seconds."""

    hosts: int
    polls: float
    bytes: float
    release_bytes: int  # that one release costs all of them
    cores: int
    all_have_it: float  # until 99 % of the hosts have fetched a release
    together: float  # the same without splay, all hosts polling at one moment, which has just passed
    waiting: float  # the longest that a poll waits for its turn then


def load(hosts: int, costs: Costs) -> Load:
    """What `hosts` ask of servers that together have just enough cores for the steady state."""
    chance = random.Random(_SEED)  # noqa: S311 — no secret
    # The timer's splay is a host's own and stays the same, so that hosts drift apart and a release meets them anywhere.
    periods = [costs.interval + costs.splay * (number + 0.5) / hosts for number in range(hosts)]
    polls = sum(1 / period for period in periods)
    cores = max(1, math.ceil(polls * costs.poll_cpu / BUSY))
    spread, _ = served([period * chance.random() for period in periods], costs.fetch_cpu, cores)
    # Without splay nothing drives hosts apart whose timers a power cut has started at once.
    together, waiting = served([costs.interval] * hosts, costs.fetch_cpu, cores)
    return Load(
        hosts,
        polls,
        polls * costs.poll_bytes,
        hosts * costs.fetch_bytes,
        cores,
        at(0.99, spread),
        at(0.99, together),
        waiting,
    )


def served(arrivals: list[float], seconds: float, cores: int) -> tuple[list[float], float]:
    """When each arrival has been served by `cores`, in turn, `seconds` of one core each; and the longest wait."""
    free = [0.0] * cores
    done, longest = [], 0.0
    for arrival in sorted(arrivals):
        begin = max(arrival, heapq.heappop(free))
        longest = max(longest, begin - arrival)
        heapq.heappush(free, begin + seconds)
        done.append(begin + seconds)
    return done, longest


def at(share: float, times: list[float]) -> float:
    """When `share` of them have come."""
    return sorted(times)[max(1, math.ceil(share * len(times))) - 1]


def main() -> int:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(
        prog="simulate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, value in asdict(Costs()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value}")
    parser.add_argument("--hosts", type=int, nargs="+", default=HOSTS)
    parser.add_argument("--json", action="store_true")
    options = vars(parser.parse_args())
    hosts, as_json = options.pop("hosts"), options.pop("json")
    costs = Costs(**options)
    loads = [load(number, costs) for number in hosts]
    if as_json:
        sys.stdout.write(json.dumps({"costs": asdict(costs), "loads": [asdict(one) for one in loads]}) + "\n")
        return 0
    sys.stdout.write("  hosts  polls/s     kB/s  release MB  cores  99 % have it  without splay  longest wait then\n")
    for one in loads:
        sys.stdout.write(
            f"{one.hosts:7} {one.polls:8.1f} {one.bytes / 1000:8.1f} {one.release_bytes / 1e6:11.1f} {one.cores:6} "
            f"{one.all_have_it:11.1f} s {one.together:12.1f} s {one.waiting:16.1f} s\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
