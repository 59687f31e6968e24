"""`bento deploy`."""

import time
from typing import Any

import click

from bento.admin.build import How
from bento.admin.deploy import Deployed
from bento.admin.deploy import deploy as publish_all
from bento.admin.inventory import load_trust
from bento.admin.plan import plan_deploy
from bento.cli.build import failures, jobs_option, some, verbose_option
from bento.cli.context import chosen, current_fleet, json_option, on_option
from bento.cli.diff import show_plan
from bento.cli.render import progress, show_json
from bento.cli.top import warn


@click.command()
@on_option
@jobs_option
@verbose_option
@click.option("--rebuild", is_flag=True, help="Build anew what hasn't changed, here and on channel hosts.")
@click.option(
    "--drop-signers", is_flag=True, help="Sign only with today's keys, even if a host may trust none of them."
)
@click.option("--dry-run", is_flag=True, help="Show what would be built and published; write nothing.")
@json_option
@click.pass_context
def deploy(
    context: click.Context,
    on: tuple[str, ...],
    jobs: int | None,
    verbose: bool,
    rebuild: bool,
    drop_signers: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Build hosts, sign and publish what has changed. Hosts fetch it at their next poll.

    A host whose build fails keeps what is published and is named; the others go on (exit 3). A host that `bento
    rollback` holds gets what it is held at. With a new signing key, what is unchanged gets its signature added. With
    --rebuild channel hosts build once more, though their files are the same: when their nixpkgs has moved on.

    \b
    Examples:
      bento deploy
      bento deploy --on web
      bento deploy --dry-run
      bento deploy --rebuild --on @channel
    """
    fleet = current_fleet(context)
    trust = load_trust(fleet.root)
    names = some(chosen(fleet, on))
    if dry_run:
        plan = plan_deploy(fleet, trust, names, int(time.time()), How(anew=rebuild), drop_signers=drop_signers)
        return show_plan(plan, len(names), as_json=as_json)
    with progress(plain=verbose) as say:
        how = How(jobs, anew=rebuild, show=say.output if verbose else None)
        done = publish_all(fleet, trust, names, lambda: int(time.time()), say, how, drop_signers=drop_signers)
    for sentence in done.warnings:
        warn(sentence)
    if as_json:
        show_json(_facts(done))
    else:
        changed = sum(one.changed is not None for one in done.published.values())
        unchanged = len(done.published) - changed
        click.echo(f"built {done.built}, published {changed}, unchanged {unchanged}, failed {len(done.failed)}")
    return failures(done.failed, len(names))


def _facts(done: Deployed) -> dict[str, Any]:
    return {
        "built": done.built,
        "published": {
            name: {
                "serial": one.manifest.serial,
                "system": one.manifest.system,
                "changed": None if one.changed is None else list(one.changed),
            }
            for name, one in done.published.items()
        },
        "failed": {name: error.message for name, error in done.failed.items()},
        "warnings": list(done.warnings),
    }
