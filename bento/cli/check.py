"""`bento check`."""

import time
from collections.abc import Sequence
from typing import Any

import click

from bento.admin.check import Checked
from bento.admin.check import check as look
from bento.admin.check_found import Finding, Unchecked
from bento.cli.context import chosen, json_option, on_option
from bento.cli.render import show_json
from bento.cli.top import as_typed
from bento.cli.where import fleet_root
from bento.names import listed, visible

WRONG = 1


@click.command()
@on_option
@json_option
@click.pass_context
def check(context: click.Context, on: tuple[str, ...], as_json: bool) -> int:
    """Look for what would go wrong, before a host suffers from it.

    That is: the fleet folder, hosts' configurations, keys, secrets, the server, this machine's Nix and disks.
    Nothing is changed or built, and no secret is opened. What can't be looked at from here is said, and why. Run
    it on the server too, as root: only there can it see accounts, chroots and sshd's settings.

    \b
    Findings:
      error    something fails, or leaks
      warning  it works, until it doesn't
      note     good to know
    Exits with 1 if there is an error.

    \b
    Examples:
      bento check
      bento check --on web,@dc1
      bento check --json | jq '.findings[] | select(.severity == "error")'
    """
    done = look(fleet_root(context), lambda fleet: chosen(fleet, on), int(time.time()))
    if as_json:
        show_json(_facts(done))
    else:
        _show(done)
    return WRONG if done.count("error") else 0


def _show(done: Checked) -> None:
    for one in done.findings:
        click.echo(visible(f"{one.severity}: {_hosts(one)}{one.message}"))
        _show_hints(one.hints)
    for other in done.unchecked:
        click.echo(visible(f"not checked: {other.what}: {other.why}"))
        _show_hints(other.hints)
    counts = [_count(done.count(word), word) for word in ("error", "warning", "note")]
    counts.append(f"{len(done.unchecked)} not checked")
    click.echo(f"{_count(len(done.hosts), 'host')}: {', '.join(counts)}")


def _show_hints(hints: Sequence[str]) -> None:
    for hint in hints:
        click.echo(visible(f"  hint: {as_typed(hint)}"))


def _hosts(one: Finding) -> str:
    if not one.hosts:
        return ""
    return f"{listed(one.hosts)}: "


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _facts(done: Checked) -> dict[str, Any]:
    return {
        "hosts": list(done.hosts),
        "findings": [_finding(one) for one in done.findings],
        "unchecked": [_unchecked(one) for one in done.unchecked],
    }


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "severity": one.severity,
        "area": one.area,
        "message": one.message,
        "hints": list(one.hints),
        "hosts": list(one.hosts),
    }


def _unchecked(one: Unchecked) -> dict[str, Any]:
    return {"what": one.what, "why": one.why, "hints": list(one.hints)}
