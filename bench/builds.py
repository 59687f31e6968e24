"""Evaluate the hosts of one flake, together and one by one, with one job and with two. See docs/performance.md.

    .venv/bin/python bench/builds.py                       # stand-ins for NixOS
    .venv/bin/python bench/builds.py --flake FOLDER        # a flake of your own

It is real Nix, as your environment has it; NIX_REMOTE='local?root=FOLDER' gives it a store of its own.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bento.adapters import evaluation, nix
from bento.adapters.evaluation import Flake
from bento.adapters.flakes import configurations
from bento.adapters.meminfo import available
from bento.admin.crew import Crew
from bento.admin.progress import State
from bento.demo.systems import System, write_flake
from bento.names import HostName

Sources = Mapping[HostName, nix.BuildInput]


def quietly(_host: HostName, _what: str, _state: State = "done") -> None:
    """Nobody watches."""


def apart(sources: Sources) -> int:
    """Each host in a process of its own, one after the other; the most bytes that one took."""
    return max(evaluation.alone(source)[1] for source in sources.values())


def at_once(sources: Sources, jobs: int) -> int:
    """As Bento does it with so many jobs."""
    crew = Crew(jobs, available(), quietly)
    crew.work(sources)
    if crew.failed:
        raise next(iter(crew.failed.values()))
    return 0


def in_one(sources: Sources) -> int:
    """All hosts in one process."""
    attributes = tuple(str(source.attribute) for source in sources.values())
    found = evaluation.together(Flake(next(iter(sources.values())).tree, attributes))
    if len(found) < len(attributes):
        raise RuntimeError(f"only {len(found)} hosts were evaluated")
    return 0


def main() -> None:
    """Measure, the ways in turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flake", type=Path)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = asked.flake or Path(folder) / "flake"
        if asked.flake is None:
            write_flake(tree, {f"host-{number}": System(str(number)) for number in range(asked.hosts)})
        names = configurations(tree)[: asked.hosts]
        sources = {HostName(name): nix.BuildInput(tree, "flake", name) for name in names}
        ways: dict[str, Callable[[], int]] = {
            "one by one": lambda: apart(sources),
            "in one process": lambda: in_one(sources),
            "Bento, 1 job": lambda: at_once(sources, 1),
            "Bento, 2 jobs": lambda: at_once(sources, 2),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        peak = 0
        for _ in range(asked.rounds):
            for way, work in ways.items():
                began = time.perf_counter()
                peak = max(peak, work())
                taken[way].append(time.perf_counter() - began)
    for way, seconds in taken.items():
        ratio = statistics.median(a / b for a, b in zip(taken["one by one"], seconds, strict=True))
        sys.stdout.write(f"{way}: {statistics.median(seconds):.2f} s, one by one takes {ratio:.2f} times as long\n")
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB
    sys.stdout.write(f"{len(names)} hosts; one takes up to {peak / 2**20:.0f} MiB, all in one {most / 1024:.0f} MiB\n")


if __name__ == "__main__":
    main()
