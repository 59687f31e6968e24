"""What a long command shows while it works, on stderr: on a terminal where it stands, else a line for each change."""

import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import click

from bento.admin.progress import State
from bento.cli.render import tidy
from bento.names import HostName

_WORDS: dict[State, str] = {
    "ready": "ready",
    "done": "done",
    "same": "unchanged",
    "failed": "failed",
    "working": "under way",
}


@contextmanager
def progress(total: int | None = None, *, verbose: bool = False) -> "Iterator[Progress]":
    """Progress of `total` hosts, where that is known; with `verbose` each line as it comes, whatever it says."""
    shown: Progress = _LiveProgress(total) if sys.stderr.isatty() and not verbose else Progress(verbose=verbose)
    try:
        yield shown
    finally:
        shown.close()


class Progress:
    """Plain lines: of hosts that have changed or failed, and with `verbose` of all that is done."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose

    def __call__(self, host: HostName, what: str, state: State = "done") -> None:
        """Say what is being done for a host. Neither a reader that has gone nor a full disk may stop the work."""
        if self._verbose or state in ("done", "failed"):
            with suppress(OSError):
                click.echo(f"{host}: {what}", err=True)

    def output(self, host: HostName, line: str) -> None:
        """A line that a program said for a host; what could steer the terminal is taken out."""
        with suppress(OSError):
            click.echo(f"{host}: {tidy(line)}", err=True)

    def close(self) -> None:
        """Nothing to tidy."""


@dataclass(frozen=True)
class _Line:
    what: str
    state: State
    since: float


class _LiveProgress(Progress):
    """A part of the terminal that is drawn anew: a line a host where they all fit, else of those under way; totals."""

    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self._total = total
        self._lines: dict[HostName, _Line] = {}
        self._working: dict[HostName, _Line] = {}
        self._counts: Counter[State] = Counter()
        self._lock = threading.Lock()
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4)
        self._live.start()

    def __call__(self, host: HostName, what: str, state: State = "done") -> None:
        """Rewrite the host's line; a failure that would have none stays, above all others."""
        line = _Line(what, state, time.monotonic())
        with self._lock:
            before = self._lines.get(host)
            if before is not None:
                self._counts[before.state] -= 1
            self._counts[state] += 1
            self._lines[host] = line
            self._working.pop(host, None)
            if state == "working":
                self._working[host] = line
            alone = state == "failed" and not self._fits()
        if alone:
            self._console.print(f"{host}: {what}", markup=False, highlight=False)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._live.stop()

    def _fits(self) -> bool:
        """Whether each host has a line of its own, the totals below them and the prompt after that."""
        return max(self._total or 0, len(self._lines)) + 2 <= self._console.height

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        now = time.monotonic()
        with self._lock:
            every = self._fits()
            lines = list((self._lines if every else self._working).items())
            totals = self._totals()
        room = len(lines) if every else max(1, self._console.height - 3)
        shown = [f"{host}: {line.what}{_taking(line, now)}" for host, line in lines[:room]]
        if len(lines) > room:
            shown.append(f"and {len(lines) - room} more")
        return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in (*shown, *totals)))

    def _totals(self) -> Sequence[str]:
        if self._total is None:
            return ()
        parts = [f"{self._counts[state]:,} {word}" for state, word in _WORDS.items() if self._counts[state]]
        waiting = self._total - len(self._lines)
        hosts = f"{self._total:,} host{'s' if self._total > 1 else ''}"
        return (f"{hosts}: {', '.join([*parts, *([f'{waiting:,} waiting'] if waiting else [])])}",)


def _taking(line: _Line, now: float) -> str:
    seconds = now - line.since
    return f"  {seconds:.0f} s" if line.state == "working" and seconds >= 1 else ""


def show_results(lines: Sequence[str]) -> None:
    """Results on stdout, a line each; on a terminal no more than it is high, with a word on how to see the others."""
    height = shutil.get_terminal_size().lines
    many = sys.stdout.isatty() and len(lines) >= height
    shown = lines[: max(1, height - 2)] if many else lines
    for line in shown:
        click.echo(line)
    if many:
        click.echo(f"and {len(lines) - len(shown):,} more; in a pipe, or with --json, all are shown")
