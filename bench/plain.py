"""What a fleet's work can't do without, by bare programs: prints the seconds it took, the interpreter's start aside."""

import json
import os
import sys
import time
import tomllib
from pathlib import Path

from bare import write


def walk(*folders: Path) -> None:
    """Look at every file."""
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                os.stat(f"{parent}/{name}")  # noqa: PTH116 — pathlib would double the time


def copy(published: Path, to: Path) -> None:
    """Write every published file, and see that it and its name are on the disk."""
    for parent, _, names in os.walk(published):
        folder = to / Path(parent).relative_to(published)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            write(folder / name, (Path(parent) / name).read_bytes())


def report(published: Path) -> None:
    """Read one report of each host."""
    for host in os.listdir(published):  # noqa: PTH208
        folder = f"{published}/{host}/reports"
        if Path(folder).is_dir():
            with open(f"{folder}/{max(os.listdir(folder))}", "rb") as file:  # noqa: PTH123, PTH208
                file.read()


def words(published: Path, settings: Path) -> None:
    """Read and take apart what a state follows from: each host's release, its newest report and the one before."""
    tomllib.loads(settings.read_text())
    for host in os.listdir(published):  # noqa: PTH208
        folder = f"{published}/{host}/reports"
        if not Path(folder).is_dir():
            continue
        newest = sorted(os.listdir(folder))[-2:]  # noqa: PTH208
        for path in (f"{published}/{host}/release/manifest", *(f"{folder}/{name}" for name in newest)):
            with open(path, "rb") as file:  # noqa: PTH123
                json.loads(file.readline())


if __name__ == "__main__":
    works = {"walk": walk, "copy": copy, "report": report, "words": words}
    started = time.perf_counter()
    works[sys.argv[1]](*map(Path, sys.argv[2:]))
    sys.stdout.write(f"{time.perf_counter() - started}\n")
