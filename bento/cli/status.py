"""`bento status`."""

import time
from typing import Any

import click

from bento.admin.inventory import load_trust
from bento.admin.status import HostStatus
from bento.admin.status import status as look
from bento.cli.context import chosen, current_fleet, json_option, on_option
from bento.cli.render import ago, short_system, show_json, show_table
from bento.cli.top import warn


@click.command()
@on_option
@json_option
@click.pass_context
def status(context: click.Context, on: tuple[str, ...], as_json: bool) -> None:
    """Show each host: what is published, what runs, its secrets, its state.

    \b
    States:
      new machine      published, never heard of
      rebuild pending  it runs another system than the published one
      sync pending     it has not reported on the published release yet
      up to date, degraded, reboot needed, failing, rolled back, unconfirmed, refused: as it reported
      drifted          it runs another system than its last report named

    \b
    Examples:
      bento status
      bento status --on @dc1 --json
    """
    fleet = current_fleet(context)
    found = look(fleet, load_trust(fleet.root), chosen(fleet, on), warn)
    if as_json:
        show_json([_facts(one) for one in found])
        return
    if not found:
        click.echo("no hosts yet; add one: bento host add NAME --key-file FILE", err=True)
        return
    now = int(time.time())
    heads = ["host", "state", "since", "published", "running", "secrets", "last seen", "reason"]
    show_table(heads, [_cells(one, now) for one in found])
    for one in found:
        for note in one.notes:
            warn(f"{one.host.name}: {note}")


def _since(one: HostStatus) -> int | None:
    """When the state began: the report it follows from, or the release it waits for."""
    report = one.state.report
    if one.published is not None and (report is None or one.state.state in ("rebuild pending", "sync pending")):
        return one.published.created
    return report.time if report is not None else None


def _cells(one: HostStatus, now: int) -> list[str]:
    published = one.published
    system = "-" if published is None else short_system(published.system) if published.system else "channel"
    reason = one.state.report.reason if one.state.report is not None and one.state.state != "up to date" else ""
    since = _since(one)
    return [
        one.host.name,
        one.state.state,
        "-" if since is None else ago(since, now),
        system,
        short_system(one.state.running),
        f"{one.installed}/{one.expected}",
        ago(one.state.last_seen, now),
        reason,
    ]


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
