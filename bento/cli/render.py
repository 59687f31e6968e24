"""How facts look: tables and times. Rich is imported only when something is drawn."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from bento.core.deploy_plan import MAX_AHEAD
from bento.names import visible

if TYPE_CHECKING:
    from rich.table import Table

_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")  # a program's own colours: taken out whole
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_WIDE = 20_000  # columns when piped: nothing is cut


def show_json_line(value: Any) -> None:
    """One document on one line, at once: for programs that read as it comes."""
    click.echo(json.dumps(value, ensure_ascii=True))
    sys.stdout.flush()


def show_json(value: Any) -> None:
    """Facts for programs: stable keys, two-space indent."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


Cell = str | tuple[str, str]  # a text, or a text and rich's name of its style


def show_table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Facts for people, on stdout. Cells are shown as they are: no markup, control characters taken out."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    for line in _lines(console, table(heads, rows)):
        click.echo(line)


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> "Table":
    """What `show_table` shows."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in heads:
        made.add_column(head, overflow="fold")
    for row in rows:
        made.add_row(
            *(Text(visible(cell)) if isinstance(cell, str) else Text(visible(cell[0]), cell[1]) for cell in row)
        )
    return made


def _lines(console: Any, table: Any) -> Iterator[str]:
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        yield line.rstrip()


def tidy(line: str) -> str:
    """A line that a program said: its colours and tabs go, and whatever else could steer a terminal."""
    return visible(_COLOUR.sub("", line.expandtabs()).rstrip())


def ago(then: int | None, now: int) -> str:
    """A UTC time in seconds as a person says it. One that lies well ahead is a clock's fault, and said so."""
    if then is None:
        return "never"
    if then > now + MAX_AHEAD:
        return "clock ahead"
    seconds = max(0, now - then)
    if seconds < _MINUTE:
        return f"{seconds} s ago"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min ago"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR} h ago"
    return f"{seconds // _DAY} days ago"


def short_system(path: str | None) -> str:
    """A system's store path, by the start of its hash."""
    return "-" if path is None else path.removeprefix("/nix/store/")[:10]
