"""`bento host add|list|remove|show`, and the group that all host commands are in."""

import shlex
from pathlib import Path
from typing import Any

import click

from bento.admin.edit import add_host, as_written
from bento.admin.hold import go_on
from bento.admin.inventory import Host
from bento.admin.removal import Removal, plan_removal
from bento.admin.removal import remove as take_out
from bento.cli.bootstrap import bootstrap
from bento.cli.completing import HOST
from bento.cli.context import chosen, confirmed, current_fleet, json_option, on_option
from bento.cli.host_keys import add_one, key_options, parse_keys, rekey, remove_one
from bento.cli.render import show_json, show_table
from bento.cli.where import fleet_root
from bento.errors import InputError
from bento.names import HostName, TagName


@click.group()
def host() -> None:
    """The fleet's hosts and their keys."""


@host.command("add")
@click.argument("name")
@key_options
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag, for --on @TAG and secrets for @TAG.")
@click.option(
    "--source", metavar="DIR", type=click.Path(), help="Its configuration's folder. Default: hosts/NAME in the fleet."
)
@click.option("--attribute", metavar="NAME", help="Its name in the flake. Default: the host's own.")
@click.pass_context
def add(
    context: click.Context,
    name: str,
    keys: tuple[str, ...],
    files: tuple[Path, ...],
    scan: str | None,
    fingerprint: str | None,
    tags: tuple[str, ...],
    source: str | None,
    attribute: str | None,
) -> None:
    """Add a host to bento.toml. Secrets are sealed to its first key; all may log in.

    \b
    Examples:
      bento host add web --key-file web.pub --tag dc1
      bento host add web --scan web.example.org
      bento host add web --key "ssh-ed25519 AAAA… root@web"
      bento host add laptop --key-file laptop.pub --source ../my-flake --attribute MyLaptop
    """
    parsed_name = HostName.parse(name)
    parsed_tags = tuple(TagName.parse(tag.removeprefix("@")) for tag in tags)
    root = fleet_root(context)
    if scan is not None and parsed_name in current_fleet(context).hosts:
        raise InputError(f"the host {parsed_name} is in bento.toml already", f"see it: bento host show {parsed_name}")
    parsed = parse_keys("add", parsed_name, keys, files, scan, fingerprint)
    written = None if source is None else as_written(source, root)
    add_host(root, parsed_name, parsed, parsed_tags, written, attribute)
    click.echo(f"added {parsed_name} to bento.toml")
    fleet = current_fleet(context)
    added = fleet.hosts[parsed_name]
    if not added.source.is_dir():
        click.echo(f"next: put its configuration into {fleet.shown(added.source)}/")


@host.command("list")
@on_option
@json_option
@click.pass_context
def list_hosts(context: click.Context, on: tuple[str, ...], as_json: bool) -> None:
    """Show the hosts.

    \b
    Examples:
      bento host list
      bento host list --on @dc1 --json
    """
    fleet = current_fleet(context)
    hosts = [fleet.hosts[name] for name in chosen(fleet, on)]
    if as_json:
        show_json([_facts(one) for one in hosts])
    elif not hosts:
        click.echo("no hosts yet; add one: bento host add NAME --key-file FILE", err=True)
    else:
        rows = [[one.name, " ".join(one.tags) or "-", one.keys[0].kind, one.keys[0].fingerprint] for one in hosts]
        show_table(["host", "tags", "key", "fingerprint"], rows)


@host.command("remove")
@click.argument("name", type=HOST)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def remove(context: click.Context, name: str, dry_run: bool, yes: bool) -> None:
    """Take a host out of the fleet, with its sealed secrets.

    Secrets that only it has go too. What it shared with others is marked "must rotate", since it could open that. Its
    configuration, and what is published for it, stay; the commands that remove them are printed.

    \b
    Examples:
      bento host remove web --dry-run
      bento host remove web --yes
    """
    parsed_name = HostName.parse(name)
    fleet = current_fleet(context)
    plan = plan_removal(fleet, parsed_name)
    if dry_run:
        _show_removal(parsed_name, plan, would=True)
        return
    if not yes:
        _show_removal(parsed_name, plan, would=True)
        if not confirmed(f"Remove {parsed_name}?", f"if you mean it: bento host remove {parsed_name} --yes"):
            raise InputError(f"{parsed_name} was not removed", f"see what would be: bento host remove {name} --dry-run")
    take_out(fleet, parsed_name)
    _show_removal(parsed_name, plan, would=False)


def _show_removal(name: HostName, plan: Removal, *, would: bool) -> None:
    removed = "would remove" if would else "removed"
    click.echo(f"{removed} {name} from bento.toml")
    for one in plan.forgotten.declared:
        click.echo(f"{removed} the secret {one.name} for {one.target}: no other host has it")
    gone = {one.name for one in plan.forgotten.declared}
    for copy in plan.forgotten.copies:
        if copy not in gone:
            click.echo(f"{removed} its copy of {copy}")
    for path in plan.folders:
        click.echo(f"stays: {path}/; to remove it: rm -r {shlex.quote(str(path))}")
    for place in plan.published:
        command = "with sftp or there" if "://" in place else f"rm -r {shlex.quote(place)}"
        click.echo(f"stays: {place}, which its key can still fetch; to remove it: {command}")
    if plan.has_account:
        click.echo(f"stays: its account on this machine; to remove it: userdel {name}")
    for one in plan.forgotten.exposed:
        again = f"bento secret add {one.target} FILE --name {one.name} --replace"
        click.echo(f"must be changed, since {name} could open it: {one.name} for {one.target}: {again}")


@host.command("show")
@click.argument("name", type=HOST)
@json_option
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show one host: keys, recipient, tags, and whether it is held at an earlier release.

    \b
    Example:
      bento host show web --json
    """
    fleet = current_fleet(context)
    found = fleet.host(name)
    if as_json:
        show_json(_facts(found))
        return
    click.echo(f"name: {found.name}")
    for key in found.keys:
        click.echo(f"key: {key.line}  {key.fingerprint}")
    click.echo(f"recipient: {found.recipient.text}")
    click.echo(f"tags: {' '.join(found.tags) or '-'}")
    click.echo(f"source: {fleet.shown(found.source)}")
    if found.hold is not None:
        click.echo(f"held at release: {found.hold}; to let it go on: {go_on(found.name)}")


def _facts(one: Host) -> dict[str, Any]:
    return {
        "name": one.name,
        "keys": [key.line for key in one.keys],
        "fingerprints": [key.fingerprint for key in one.keys],
        "recipient": one.recipient.text,
        "tags": list(one.tags),
        "hold": one.hold,
    }


for command in (bootstrap, rekey, add_one, remove_one):
    host.add_command(command)
