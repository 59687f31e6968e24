"""Run commands in turns, and say by how much one is slower than another. Trust the ratios, not the times."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_MEMORY = 150.0  # MB


@dataclass(frozen=True)
class Sample:
    """One run: seconds, and the highest resident set in MB."""

    seconds: float
    memory: float = 0.0


@dataclass(frozen=True)
class Result:
    """What came of one measure. `ratio`: at most `most`, or at least `least`. `seconds`: medians by side."""

    name: str
    work: str
    beside: str
    ratio: float
    seconds: Mapping[str, float]
    memory: float
    most: float | None = None
    least: float | None = None
    age_ratio: float | None = None
    memory_below: float = MAX_MEMORY

    @property
    def reached(self) -> bool:
        """Whether ratio and memory are what they should be."""
        slow = self.most is not None and self.ratio > self.most
        return not slow and (self.least is None or self.ratio >= self.least) and self.memory < self.memory_below

    @property
    def wanted(self) -> str:
        """The limit on the ratio, in words."""
        if self.most is not None:
            return f"at most {self.most}"
        return "-" if self.least is None else f"at least {self.least}"

    def facts(self) -> dict[str, object]:
        """For JSON."""
        return {
            "bench": self.name,
            "work": self.work,
            "beside": self.beside,
            "ratio": round(self.ratio, 2),
            "at_most": self.most,
            "at_least": self.least,
            "age_ratio": None if self.age_ratio is None else round(self.age_ratio, 2),
            "seconds": {side: round(value, 4) for side, value in self.seconds.items()},
            "memory_mb": round(self.memory, 1),
            "memory_below_mb": self.memory_below,
            "reached": self.reached,
        }


def run(argv: Sequence[str | Path], cwd: Path) -> Sample:
    """One command as a process, interpreter start and all; it must succeed."""
    os.sync()  # what the run before left to write is not this one's
    started = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))} ended with {process.returncode}")
    return Sample(seconds, usage.ru_maxrss / 1024)


def loop(commands: Sequence[tuple[Sequence[str | Path], bytes | None]]) -> tuple[Sample, list[bytes]]:
    """Commands one after the other, each with its stdin; what they wrote."""
    started = time.perf_counter()
    written = [subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=True).stdout for argv, data in commands]
    return Sample(time.perf_counter() - started), written


def take_turns(rounds: int, sides: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
    """`rounds` of each side, after one that isn't counted; who begins changes, so that a busy machine slows both."""
    samples: dict[str, list[Sample]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        order = list(sides.items())
        for side, work in order if number % 2 else reversed(order):
            samples[side].append(work())
    return {side: taken[1:] for side, taken in samples.items()}


def paired_ratio(one: Sequence[Sample], other: Sequence[Sample]) -> float:
    """The median, over the rounds, of how much longer `one` took than `other` a moment before or after."""
    return statistics.median(a.seconds / b.seconds for a, b in zip(one, other, strict=True))


def medians(samples: Mapping[str, Sequence[Sample]]) -> dict[str, float]:
    """Seconds, by side."""
    return {side: statistics.median(one.seconds for one in taken) for side, taken in samples.items()}


def peak(samples: Sequence[Sample]) -> float:
    """MB, the highest."""
    return max(one.memory for one in samples)
