"""Measure Bento beside the same work done otherwise; exit 1 where a goal was missed. See bench/README.md."""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from math import inf
from pathlib import Path

import commands
import fleet
import poll
import remote
import seal
from measure import Result

# What, how much of it, and how much for a look whether the programs run.
MEASURES = {
    "seal": (seal.measure, 1000, 3),
    "add": (commands.add, 1000, 3),
    "rekey": (commands.rekey, 1000, 3),
    "check": (commands.check, 10_000, 9),
    "install": (commands.install, 100, 3),
    "first": (fleet.first, 100, 3),
    "unchanged": (fleet.unchanged, 1000, 3),
    "poll": (poll.poll, 1, 1),
    "sshd": (poll.sshd, 10, 2),
    "sftp": (remote.remote, 1000, 2),
}
NEED_ROOT = {"install", "poll", "sshd", "sftp"}  # they mount


def main() -> int:
    """Exit status: 1 if a goal was missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="counted ones, of each side (default 7)")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk to measure on")  # noqa: S108
    parser.add_argument("--hosts", type=int, help="for first (default 100), unchanged and sftp (default 1000)")
    parser.add_argument("--tiny", action="store_true", help="only see that the programs run: little work, no goals")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    results = []
    for name in options.names or MEASURES:
        if name in NEED_ROOT and os.geteuid() != 0:
            sys.stderr.write(f"{name} is left out: it needs root\n")
            continue
        measure, much, little = MEASURES[name]
        if options.hosts and measure in (fleet.first, fleet.unchanged, remote.remote):
            much = options.hosts
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="bento-bench-") as folder:
            if options.tiny:
                result = replace(measure(Path(folder), little, 1), most=None, least=None, memory_below=inf)
            else:
                result = measure(Path(folder), much, options.rounds)
        results.append(result)
        show(result)
    reached = all(result.reached for result in results)
    facts = {"rounds": options.rounds, "reached": reached, "results": [result.facts() for result in results]}
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0 if reached else 1


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
