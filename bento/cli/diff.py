"""`bento diff`, and the plan that `bento deploy --dry-run` shows."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import click

from bento.admin.diff import HostDiff
from bento.admin.diff import diff as compare
from bento.admin.inventory import load_trust
from bento.admin.plan import Planned, Planning
from bento.cli.build import failures, missed_targets, some
from bento.cli.context import chosen, current_fleet, json_option, on_option
from bento.cli.render import short_system, show_json, tidy
from bento.cli.top import warn
from bento.core.release_diff import Difference, differences
from bento.names import visible


@click.command()
@on_option
@click.option("--next", "following", is_flag=True, help="Compare with what a deploy would publish now.")
@json_option
@click.pass_context
def diff(context: click.Context, on: tuple[str, ...], following: bool, as_json: bool) -> int:
    """Show what would change on each host: packages, secrets, settings.

    What it runs, by its last report, is compared with what is published for it. Packages are compared by nvd, if it is
    installed, else by `nix store diff-closures`, where both systems are in this machine's Nix store.

    \b
    Examples:
      bento diff
      bento diff --next --on web
    """
    fleet = current_fleet(context)
    names = some(chosen(fleet, on))
    found = compare(fleet, load_trust(fleet.root), names, int(time.time()), following=following, warn=warn)
    if as_json:
        show_json(
            {
                "hosts": {one.host: _facts(one) for one in found.hosts},
                "failed": {name: error.message for name, error in found.failed.items()},
            }
        )
    else:
        for one in found.hosts:
            for line in _lines(one):
                click.echo(visible(line))
    return failures(found.failed, len(names))


def _facts(one: HostDiff) -> dict[str, Any]:
    return {
        "running": one.running,
        "system": one.system,
        "same": one.same,
        "packages": one.packages,
        "not_compared": one.why_not or None,
        "differences": None if one.differences is None else [asdict(each) for each in one.differences],
        "notes": list(one.notes),
    }


def _lines(one: HostDiff) -> Iterator[str]:
    if one.same and not one.differences and not one.notes:
        yield f"{one.host}: nothing changes"
        return
    yield f"{one.host}: {short_system(one.running)} -> {short_system(one.system)}{' (the same)' if one.same else ''}"
    if one.packages is None and not one.same:
        yield f"  packages are not compared: {one.why_not}"
    elif one.packages is not None and not one.same:
        yield from (f"  {tidy(line)}" for line in one.packages.splitlines() or ["no package's version differs"])
    yield from _said(one.differences or ())
    yield from (f"  {note}" for note in one.notes)


def _said(found: Iterable[Difference]) -> Iterator[str]:
    return (f"  {one.kind} {one.name}: {one.what}" for one in found)


def show_plan(planning: Planning, of: int, *, as_json: bool, verbose: bool = False) -> int:
    """What a deploy would do; the exit code, `of` being how many hosts were chosen.

    Hosts for which nothing would be done are only counted, if not `verbose`.
    """
    for sentence in planning.warnings:
        warn(sentence)
    if as_json:
        show_json(
            {
                "hosts": {name: _plan_facts(one) for name, one in planning.hosts.items()},
                "failed": {name: error.message for name, error in planning.failed.items()},
                "missed": {name: error.message for name, error in planning.missed.items()},
                "warnings": list(planning.warnings),
            }
        )
        return _plan_code(planning, of)
    for name, one in planning.hosts.items():
        steps = ["build"] * one.build + ([f"publish ({', '.join(one.changes)})"] if one.changes else [])
        steps += [f"bring up to date: {', '.join(one.healed)}"] * bool(one.healed)
        differs = [*_said(differences(one.published, one.next))]
        if steps or differs or verbose:
            click.echo(f"{name}: {', '.join(steps) or 'unchanged'}")
        for line in differs:
            click.echo(visible(line))
    built = sum(one.build for one in planning.hosts.values())
    changed = sum(one.changes is not None for one in planning.hosts.values())
    click.echo(
        f"would build {built}, publish {changed}, leave {len(planning.hosts) - changed}, fail {len(planning.failed)}"
    )
    return _plan_code(planning, of)


def _plan_code(planning: Planning, of: int) -> int:
    """As the deploy would end, as far as can be known."""
    missed = missed_targets(planning.missed, "would be left out")
    return failures(planning.failed, of) or missed


def _plan_facts(one: Planned) -> dict[str, Any]:
    return {
        "build": one.build,
        "changes": None if one.changes is None else list(one.changes),
        "healed": list(one.healed),
        "system": one.next.system,
        "differences": [asdict(each) for each in differences(one.published, one.next)],
    }
