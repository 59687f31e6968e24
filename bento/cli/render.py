"""How facts look: tables and times. Rich is imported only when something is drawn."""

import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bento.core.deploy_plan import MAX_AHEAD
from bento.names import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")  # a program's own colours: taken out whole
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_WIDE = 20_000  # columns when piped: nothing is cut
_GAP = 2  # between columns


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
    console = None
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
    click.echo("".join(f"{line}\n" for line in drawn(console, heads, rows)), nl=False)


def drawn(console: "Console | None", heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """The lines of `table`, with colours on a terminal; None stands for a pipe.

    Where nothing has to be cut or folded Rich isn't asked how: it takes 0.7 s for a thousand rows, and to load it 0.05.
    """
    columns = list(zip(heads, *([visible(_words(cell)) for cell in row] for row in rows), strict=True))
    widths = [max(map(_width, column)) for column in columns]
    if sum(widths) + _GAP * (len(widths) - 1) > (_WIDE if console is None else console.width):
        return _folded(console, heads, rows)
    padded = [
        [text + " " * (width + _GAP - _width(text)) for text in column]
        for column, width in zip(columns, widths, strict=True)
    ]
    if console is None or not console.is_terminal:
        return ["".join(line).rstrip() for line in zip(*padded, strict=True)]
    from rich.text import Text

    styles = [["bold"] * len(heads), *([_style(cell) for cell in row] for row in rows)]
    with console.capture() as captured:
        for line, style in zip(zip(*padded, strict=True), styles, strict=True):
            text = Text.assemble(*zip(line, style, strict=True))
            text.rstrip()
            console.print(text, soft_wrap=True)
    return captured.get().splitlines()


def _folded(console: "Console | None", heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    from rich.console import Console

    console = console or Console(width=_WIDE, highlight=False)
    with console.capture() as captured:
        console.print(table(heads, rows))
    return [line.rstrip() for line in captured.get().splitlines()]


def _width(text: str) -> int:
    """How many columns of a terminal a visible text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _words(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> "Table":
    """What `show_table` shows."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for head in heads:
        made.add_column(head, overflow="fold")
    for row in rows:
        made.add_row(*(Text(visible(_words(cell)), _style(cell)) for cell in row))
    return made


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
