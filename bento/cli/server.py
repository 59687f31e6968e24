"""`bento server`."""

from pathlib import Path

import click

from bento.admin.inventory import load_fleet
from bento.admin.server import apply as apply_steps
from bento.admin.server import plan, wish_of
from bento.cli.top import warn
from bento.cli.where import fleet_root


@click.group()
def server() -> None:
    """Make a machine the SFTP server of the fleet."""


@server.command("apply")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.pass_context
def apply(context: click.Context, dry_run: bool) -> None:
    """Make accounts, folders, keys and sshd's settings on this machine as bento.toml asks; again: what has changed.

    Each host is limited to [server] quota where the file system keeps quotas; where it doesn't, that is said.

    Run it on the server, as root. Of the fleet it needs bento.toml, and nothing secret. Each host becomes an account
    that sees its own folder by SFTP and nothing else; the keys in [server] publishers may publish without being
    root. On NixOS use the module instead (docs/nixos.md).

    \b
    Examples:
      bento server apply --dry-run
      sudo bento --dir /root/acme server apply
    """
    planned = plan(wish_of(load_fleet(fleet_root(context))))
    steps = planned.steps
    if planned.lacking:
        warn(planned.lacking[0], planned.lacking[1:])
    if not steps:
        click.echo("nothing to do")
        return
    if dry_run:
        for step in steps:
            click.echo(f"would: {step.shown}")
        return
    apply_steps(steps, click.echo)
    if not Path("/run/systemd/system").is_dir():
        click.echo("no systemd runs here: let sshd read its settings anew", err=True)
    click.echo(f"{len(steps)} done; see whether all is well: bento check")
