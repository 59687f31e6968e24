"""`bento flake-update`."""

from dataclasses import asdict
from typing import Any

import click

from bento.admin.flake_update import Updated
from bento.admin.flake_update import flake_update as update
from bento.cli.build import failures, some
from bento.cli.context import chosen, current_fleet, json_option, on_option
from bento.cli.progress import progress
from bento.cli.render import show_json
from bento.cli.top import warn
from bento.names import visible


@click.command("flake-update")
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@on_option
@click.option("--dry-run", is_flag=True, help="Show what would move; write nothing.")
@json_option
@click.pass_context
def flake_update(
    context: click.Context, inputs: tuple[str, ...], on: tuple[str, ...], dry_run: bool, as_json: bool
) -> int:
    """Move the inputs of the hosts' flakes on, and show what moved. Hosts get it with the next deploy.

    Each flake is updated once, however many hosts it is for. One that fails keeps its flake.lock (exit 3). A flake
    outside the fleet folder (`source`) is somebody's own: it is named, with the command to type there, and not touched.

    \b
    Examples:
      bento flake-update
      bento flake-update nixpkgs --on @dc1
      bento flake-update --dry-run
    """
    fleet = current_fleet(context)
    names = some(chosen(fleet, on))
    with progress() as say:
        found = update(fleet, names, inputs, say, dry_run=dry_run)
    for sentence in found.skipped:
        warn(sentence)
    if as_json:
        show_json(
            {
                "flakes": [_facts(one) for one in found.done],
                "failed": {source: error.message for source, error in found.failed.items()},
            }
        )
    else:
        for one in found.done:
            _show(one, would=dry_run)
    return failures(found.failed, len(found.done) + len(found.failed))


def _facts(one: Updated) -> dict[str, Any]:
    return {"source": one.source, "hosts": list(one.hosts), "moved": [asdict(each) for each in one.moved]}


def _show(one: Updated, *, would: bool) -> None:
    state = ("would move" if would else "moved") if one.moved else "nothing moved"
    click.echo(visible(f"{one.source}/flake.lock ({', '.join(one.hosts)}): {state}"))
    for each in one.moved:
        click.echo(visible(f"  {each.input}: {each.before or 'new'} -> {each.after or 'gone'}"))
