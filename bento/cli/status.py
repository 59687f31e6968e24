"""`bento status`."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import click

from bento.admin.inventory import load_trust
from bento.admin.status import HostStatus
from bento.admin.status import status as look
from bento.admin.watching import Seen
from bento.admin.watching import watch as look_again
from bento.cli.context import chosen, current_fleet, json_option, on_option
from bento.cli.render import Cell, ago, short_system, show_json, show_json_line, show_table, table
from bento.cli.top import warn
from bento.core.host_state import TROUBLE, State
from bento.names import HostName, visible

_HEADS = ("host", "state", "since", "published", "running", "secrets", "last seen", "reason")
_REPORTED = ("refused", "failing", "rolled back", "unconfirmed", "degraded", "reboot needed", "auto updated")
_MANY = 10  # hosts from which a line sums them up
_BAD, _ODD, _PENDING, _GOOD = "red", "yellow", "cyan", "green"
_COLOURS: dict[State, str] = {
    "refused": _BAD,
    "failing": _BAD,
    "rolled back": _BAD,
    "unconfirmed": _ODD,
    "unreadable": _ODD,
    "drifted": _ODD,
    "degraded": _ODD,
    "reboot needed": _ODD,
    "rebuild pending": _PENDING,
    "sync pending": _PENDING,
    "new machine": _PENDING,
    "not published": "dim",
    "auto updated": _GOOD,
    "up to date": _GOOD,
}


@click.command()
@on_option
@click.option("--watch", is_flag=True, help="Stay, and show every change. Ctrl-C ends it.")
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    help="With --watch: look again after so long, where changes can't be noticed at once. Default: 10.",
)
@json_option
@click.pass_context
def status(context: click.Context, on: tuple[str, ...], watch: bool, interval: float, as_json: bool) -> None:
    """Show each host's state, the worst first.

    Beside it what is published, what runs, and how many of its secrets are installed. With --watch --json: a line for
    each host at first, then one for each host that changed.

    \b
    States:
      refused          it was offered what its trust rules forbid; the reason says what
      failing, rolled back, unconfirmed, degraded, reboot needed: as it reported
      unreadable       its reports can't be read where they lie; a warning says why
      drifted          it runs another system than its last report named
      rebuild pending  it runs another system than the published one
      sync pending     it has not reported on the published release yet
      new machine      published, never heard of
      not published    there is no release that verifies
      auto updated     it has updated flake inputs by itself, as its settings allow
      up to date       it runs what is published
    Extra runs are more reports on one release than the first. A host that `bento rollback` keeps at an earlier release
    is held there.

    \b
    Examples:
      bento status
      bento status --watch
      bento status --on @dc1 --json
      bento status --watch --json
    """
    fleet = current_fleet(context)
    trust = load_trust(fleet.root)
    names = chosen(fleet, on)
    if not names and not as_json:
        click.echo("no hosts yet; add one: bento host add NAME --key-file FILE", err=True)
    elif watch:
        # The usual way to end it is no failure.
        with suppress(KeyboardInterrupt):
            _watch(look_again(fleet, trust, names, interval), as_json=as_json)
    elif as_json:
        show_json([_facts(one) for one in look(fleet, trust, names, warn)])
    else:
        _show(look(fleet, trust, names, warn))


def _watch(looks: Iterator[Seen], *, as_json: bool) -> None:
    if sys.stdout.isatty() and not as_json:
        _watch_live(looks)
        return
    known: dict[HostName, dict[str, Any]] = {}
    troubles: tuple[str, ...] = ()
    for seen in looks:
        for sentence in seen.troubles if seen.troubles != troubles else ():
            warn(sentence)
        troubles = seen.troubles
        facts = {one.host.name: _facts(one) for one in seen.hosts}
        changed = [name for name in facts if known.get(name) != facts[name]]
        known = facts
        if as_json:
            for name in changed:
                show_json_line(facts[name])
        elif changed:
            _show(seen.hosts)
            sys.stdout.flush()


def _watch_live(looks: Iterator[Seen]) -> None:
    """A table that is drawn anew. What doesn't fit is cut at the bottom: there are the hosts without trouble."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        for seen in looks:
            # Above the table: it may be higher than the screen, and what follows it is not seen then.
            above = [Text(visible(f"warning: {sentence}"), _BAD) for sentence in seen.troubles]
            below = [Text(f"warning: {note}") for note in _notes(seen.hosts)]
            summary = Text(_summary(seen.hosts))
            live.update(Group(*above, summary, table(_HEADS, _rows(seen.hosts)), *below), refresh=True)


def _show(found: tuple[HostStatus, ...]) -> None:
    show_table(_HEADS, _rows(found))
    if len(found) >= _MANY:
        click.echo(_summary(found))
    for note in _notes(found):
        warn(note)


def _notes(found: tuple[HostStatus, ...]) -> list[str]:
    return [visible(f"{one.host.name}: {note}") for one in found for note in one.notes]


def _summary(found: tuple[HostStatus, ...]) -> str:
    count = Counter(one.state.state for one in found)
    said = ", ".join(f"{count[state]} {state}" for state in TROUBLE if count[state])
    return f"{len(found)} host{'' if len(found) == 1 else 's'}: {said}"


def _rows(found: tuple[HostStatus, ...]) -> list[Sequence[Cell]]:
    now = int(time.time())
    return [_cells(one, now) for one in sorted(found, key=lambda one: TROUBLE.index(one.state.state))]


def _since(one: HostStatus) -> int | None:
    """When the state began: the report it follows from, or the release it waits for."""
    report = one.state.report
    if one.published is not None and (report is None or one.state.state in ("rebuild pending", "sync pending")):
        return one.published.created
    return report.time if report is not None else None


def _reason(one: HostStatus) -> str:
    state, report = one.state.state, one.state.report
    said: list[str] = []
    if report is not None and state == "drifted":
        said.append(f"its last report named {short_system(report.running)}")
    elif report is not None and state in _REPORTED:
        said.append(report.reason)
    if one.host.hold is not None:
        said.append(f"held at release {one.host.hold}")
    if one.state.extra_runs:
        said.append(f"{one.state.extra_runs} extra run{'' if one.state.extra_runs == 1 else 's'}")
    return "; ".join(said)


def _cells(one: HostStatus, now: int) -> list[Cell]:
    published, state = one.published, one.state.state
    system = "-" if published is None else short_system(published.system) if published.system else "channel"
    since = _since(one)
    return [
        one.host.name,
        (state, _COLOURS[state]),
        "-" if since is None else _by_its_clock(one, since, now),
        system,
        short_system(one.state.running),
        f"{one.installed}/{one.expected}",
        _by_its_clock(one, one.state.last_seen, now),
        _reason(one),
    ]


def _by_its_clock(one: HostStatus, then: int | None, now: int) -> str:
    """A time that the host said. What a wrong clock makes of it would only mislead."""
    mine = one.published is not None and then == one.published.created
    return "clock behind" if one.state.behind and not mine else ago(then, now)


def _facts(one: HostStatus) -> dict[str, Any]:
    published, report = one.published, one.state.report
    return {
        "host": one.host.name,
        "state": one.state.state,
        "since": _since(one),
        "published": None
        if published is None
        else {"serial": published.serial, "created": published.created, "system": published.system},
        "running": one.state.running,
        "secrets": {"installed": one.installed, "expected": one.expected},
        "last_seen": one.state.last_seen,
        "clock_behind": one.state.behind,
        "extra_runs": one.state.extra_runs,
        "hold": one.host.hold,
        "report": None
        if report is None
        else {
            "counter": report.counter,
            "time": report.time,
            "serial": report.serial,
            "outcome": report.outcome,
            "reason": report.reason,
        },
        "notes": list(one.notes),
    }
