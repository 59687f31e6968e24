"""`bento secret add|list`."""

import sys
import time
from typing import Any

import click

from bento.admin.secrets import look, name_for, read_plaintext
from bento.cli.context import current_fleet, json_option
from bento.cli.render import ago, show_json, show_table
from bento.errors import InputError
from bento.names import Target, did_you_mean
from bento_secrets.declared import Attributes
from bento_secrets.listing import Row, rows


@click.group()
def secret() -> None:
    """Secrets, sealed to the hosts they are for."""


@secret.command("add")
@click.argument("target")
@click.argument("file", metavar="FILE|-")
@click.option("--name", metavar="NAME", help="The secret's name. Default: the file's.")
@click.option("--owner", metavar="USER", help="Who owns it on the host. Default: root.")
@click.option("--group", metavar="GROUP", help="Its group on the host. Default: root.")
@click.option("--mode", metavar="MODE", help="Its mode, octal. Default: 0400.")
@click.option("--path", metavar="PATH", help="Also a link to it there. It lies at /run/bento/secrets/NAME.")
@click.option("--restart", multiple=True, metavar="UNIT", help="Restart this unit when it changes.")
@click.option("--reload", multiple=True, metavar="UNIT", help="Reload this unit when it changes.")
@click.option("--replace", is_flag=True, help="Give an existing secret this content; unsaid options stay.")
@click.pass_context
def add(
    context: click.Context,
    target: str,
    file: str,
    name: str | None,
    owner: str | None,
    group: str | None,
    mode: str | None,
    path: str | None,
    restart: tuple[str, ...],
    reload: tuple[str, ...],
    replace: bool,
) -> None:
    """Seal FILE (or stdin, `-`) for TARGET: a host, or @tag for each host that has the tag.

    Nothing is opened for this, and the content is never written anywhere unsealed.

    \b
    Examples:
      bento secret add web db-password.txt --name db-password --restart myapp.service
      pwgen -s 32 1 | bento secret add @dc1 - --name borg/passphrase
      bento secret add web tls.key --name tls/site.key --owner nginx --replace
    """
    parsed_target = Target.parse(target)
    parsed_name = name_for(file, name)
    attributes = Attributes.parse(
        owner=owner, group=group, mode=mode, path=path, restart=restart or None, reload=reload or None
    )
    fleet = current_fleet(context)
    if file == "-" and sys.stdin.isatty():
        click.echo("type the secret, then Ctrl-D:", err=True)
    hosts = fleet.store.add(
        parsed_target,
        parsed_name,
        attributes,
        read_plaintext(file),
        fleet.members,
        fleet.admins,
        replace=replace,
        now=int(time.time()),
    )
    click.echo(f"sealed {parsed_name} for {', '.join(hosts)}")
    click.echo("next: bento deploy")


@secret.command("list")
@click.argument("target", required=False)
@json_option
@click.pass_context
def list_secrets(context: click.Context, target: str | None, as_json: bool) -> None:
    """Show what is declared, and whether each host's copy is there and sealed to today's recipients.

    \b
    Examples:
      bento secret list
      bento secret list web --json
    """
    fleet = current_fleet(context)
    state = fleet.store.read()
    found = look(fleet, rows(state.declarations, state.lock, fleet.members, fleet.admins), state.lock)
    if target is not None:
        wanted = Target.parse(target)
        known = {*fleet.hosts, *("@" + tag for host in fleet.hosts.values() for tag in host.tags)}
        if wanted not in known:
            raise InputError(f"no host or tag is called '{wanted}'", *did_you_mean(wanted, known), "bento host list")
        found = tuple(row for row in found if _concerns(row, wanted))
    if as_json:
        show_json([_facts(row) for row in found])
    elif not found:
        whose = "no secrets" if target is None else f"no secret for {target}"
        click.echo(f"{whose} yet; add one: bento secret add {target or 'HOST'} FILE", err=True)
    else:
        heads = ["target", "name", "hosts", "owner:group mode", "sealed", "state"]
        show_table(heads, [_cells(row, int(time.time())) for row in found])


def _concerns(row: Row, wanted: Target) -> bool:
    return row.declaration.target == wanted or str(wanted) in [str(copy.host) for copy in row.copies]


def _cells(row: Row, now: int) -> list[str]:
    one = row.declaration
    bad = [f"{copy.host} {copy.state}" for copy in row.copies if copy.state != "ok"]
    hosts = ", ".join(copy.host for copy in row.copies) or "-"
    return [
        one.target,
        one.name,
        hosts,
        f"{one.owner}:{one.group} {one.mode}",
        ago(row.sealed, now),
        ", ".join(bad) or "ok",
    ]


def _facts(row: Row) -> dict[str, Any]:
    one = row.declaration
    return {
        "target": one.target,
        "name": one.name,
        "owner": one.owner,
        "group": one.group,
        "mode": one.mode,
        "path": one.path,
        "restart": list(one.restart),
        "reload": list(one.reload),
        "hosts": [{"host": copy.host, "state": copy.state, "sealed": copy.sealed} for copy in row.copies],
    }
