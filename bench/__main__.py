"""Measure Bento beside the same work done otherwise; exit 1 where a goal was missed. See bench/README.md."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path

import commands
import fleet
import poll
import remote
import seal
from measure import Result

SIZES = (10, 100, 1000, fleet.LARGE)  # hosts
# What, how much of it (several sizes for the slope between them), and how much for a look whether the programs run.
MEASURES = {
    "seal": (seal.measure, (1000,), 3),
    "add": (commands.add, (1000,), 3),
    "rekey": (commands.rekey, (1000,), 3),
    "check": (commands.check, (10_000,), 9),
    "install": (commands.install, (100,), 3),
    "first": (fleet.first, SIZES, 3),
    "shared": (fleet.shared, (1000,), 3),
    "unchanged": (fleet.unchanged, SIZES, 3),
    "changed": (fleet.changed, SIZES, 3),
    "status": (fleet.status, SIZES, 3),
    "poll": (poll.poll, (1,), 1),
    "sshd": (poll.sshd, (10,), 2),
    "sftp": (remote.remote, (1000,), 2),
    "sftp-all": (remote.publish_all, (300,), 2),
}
FLEETS = ("first", "shared", "unchanged", "changed", "status", "sftp", "sftp-all")
NEED_ROOT = {"install", "poll", "sshd", "sftp", "sftp-all"}  # they mount


def main() -> int:
    """Exit status: 1 if a goal was missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="counted ones, of each side (default 7)")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk to measure on")  # noqa: S108
    parser.add_argument("--hosts", type=int, nargs="+", help="for fleets: how many (default 10 to 10000)")
    parser.add_argument("--tiny", action="store_true", help="only see that the programs run: little work, no goals")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    results: list[Result] = []
    slopes: dict[str, dict[str, float]] = {}
    for name in options.names or MEASURES:
        if name in NEED_ROOT and os.geteuid() != 0:
            sys.stderr.write(f"{name} is left out: it needs root\n")
            continue
        measure, sizes, little = MEASURES[name]
        if options.hosts and name in FLEETS:
            sizes = tuple(options.hosts)
        found = {}
        for much in (little,) if options.tiny else sizes:
            once = options.tiny or (name in FLEETS and much >= fleet.LARGE)  # of so many one round is minutes
            with tempfile.TemporaryDirectory(dir=options.folder, prefix="bento-bench-") as folder:
                result = measure(Path(folder), much, 1 if once else options.rounds)
            if options.tiny:
                result = replace(result, most=None, least=None, memory_below=inf)
            found[much] = result
            show(result)
        results += found.values()
        if len(found) > 1:
            slopes[name] = slope(found)
    reached = all(result.reached for result in results)
    facts = {
        "rounds": options.rounds,
        "reached": reached,
        "results": [result.facts() for result in results],
        "slopes": slopes,
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0 if reached else 1


def slope(found: Mapping[int, Result]) -> dict[str, float]:
    """Milliseconds that each more host costs, from the smallest fleet to the largest, by side."""
    small, large = min(found), max(found)
    more = {
        side: (seconds - found[small].seconds[side]) * 1000 / (large - small)
        for side, seconds in found[large].seconds.items()
    }
    said = ", ".join(f"{side} {value:.2f} ms" for side, value in more.items())
    sys.stderr.write(f"         each more host, from {small} to {large}: {said}\n")
    return {side: round(value, 4) for side, value in more.items()}


def show(result: Result) -> None:
    """One measure for a person, on stderr."""
    times = ", ".join(f"{side} {value:.3f} s" for side, value in result.seconds.items())
    age = "" if result.age_ratio is None else f"; age in a loop takes {result.age_ratio:.1f} times as long"
    missed = "" if result.reached else "  MISSED"
    sys.stderr.write(
        f"{result.name:8} {result.work}, beside {result.beside}{missed}\n"
        f"         ratio {result.ratio:.2f} ({result.wanted}), memory {result.memory:.0f} MB "
        f"(below {result.memory_below:.0f}); {times}{age}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
