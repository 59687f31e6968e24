"""`bento logs`."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from bento.admin.inventory import load_trust
from bento.admin.logs import Logged
from bento.admin.logs import logs as read
from bento.cli.completing import HOST
from bento.cli.context import current_fleet, json_option
from bento.cli.render import short_system, show_json
from bento.cli.top import warn
from bento.models.limits import LIMITS
from bento.models.report import Report
from bento.names import visible


@click.command()
@click.argument("host", type=HOST)
@click.option(
    "--last", metavar="N", type=click.IntRange(1, LIMITS.reports), default=10, help="So many reports. Default: 10."
)
@json_option
@click.pass_context
def logs(context: click.Context, host: str, last: int, as_json: bool) -> None:
    """Show what a host said of its runs, the newest at the end.

    Outcome, reason, systems, and the end of the build log. Each report is signed by the host; one that can't be
    verified is named as such, and nothing of it is shown.

    \b
    Examples:
      bento logs web
      bento logs web --last 1
      bento logs web --json
    """
    fleet = current_fleet(context)
    shown = read(fleet, load_trust(fleet.root), fleet.host(host), last, warn)
    if as_json:
        show_json([_facts(one) for one in shown])
    elif not shown:
        click.echo(f"{host} has not reported yet", err=True)
    else:
        for one in shown:
            for line in _lines(one):
                click.echo(visible(line))


def _facts(one: Logged) -> dict[str, Any]:
    if one.report is None:
        return {"verified": False, "why": one.why}
    return {"verified": True, **one.report.model_dump(mode="json")}


def _lines(one: Logged) -> Iterator[str]:
    report = one.report
    if report is None:
        yield f"a report that is not verified: {one.why}"
        return
    about = "no release" if report.serial is None else f"release {report.serial}"
    yield f"{_when(report.time)}  {report.outcome}  {about}  report {report.counter}"
    yield f"  {report.reason}"
    if report.new_system not in (None, report.old_system):
        yield f"  system {short_system(report.old_system)} -> {short_system(report.new_system)}"
    yield f"  runs {short_system(report.running)}{_secrets(report)}"
    for line in report.log_tail.splitlines():
        yield f"  | {line.expandtabs()}"


def _when(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"time {seconds}"  # a host may say any number


def _secrets(report: Report) -> str:
    count = Counter(one.state for one in report.secrets)
    said = ", ".join(f"{number} {state}" for state, number in sorted(count.items()))
    return f", secrets: {said}" if said else ""
