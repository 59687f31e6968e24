"""`bento secret add|list`, and the group that all secret commands are in."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from bento.admin.installed import Installed, installed, read_reports
from bento.admin.inventory import Fleet
from bento.admin.secret_changes import add_given
from bento.admin.secrets import check_mode, new_secrets
from bento.cli.completing import SECRET, TARGET
from bento.cli.context import attribute_options, current_fleet, json_option
from bento.cli.generate import generate
from bento.cli.importing import import_
from bento.cli.render import ago, show_json, show_table
from bento.cli.secret_access import edit, remove, show
from bento.cli.secret_care import check, parse_target, rekey
from bento.cli.top import warn
from bento.errors import BentoError
from bento.models.report import Report
from bento.names import HostName, Target
from bento_secrets.declared import Attributes
from bento_secrets.listing import HostCopy, Row, rows


@click.group()
def secret() -> None:
    """Secrets, sealed to the hosts they are for."""


@secret.command("add")
@click.argument("target", type=TARGET)
@click.argument("files", metavar="FILE…|DIR|-", nargs=-1, required=True, type=click.Path())
@click.option("--name", type=SECRET, metavar="NAME", help="The secret's name. Default: the file's.")
@attribute_options
@click.option("--replace", is_flag=True, help="Give an existing secret this content; unsaid options stay.")
@click.option("--force", is_flag=True, help="Also a mode that shows it to every user of the host.")
@click.pass_context
def add(
    context: click.Context,
    target: str,
    files: tuple[str, ...],
    name: str | None,
    owner: str | None,
    group: str | None,
    mode: str | None,
    path: str | None,
    restart: tuple[str, ...],
    reload: tuple[str, ...],
    max_age: str | None,
    replace: bool,
    force: bool,
) -> None:
    """Seal each FILE (or stdin, `-`) for TARGET: a host, or @tag for each host that has the tag.

    Of a folder, each file is added under its path in the folder: all of them or none. Nothing is opened for this, and
    the content is never written anywhere unsealed.

    \b
    Examples:
      bento secret add web db-password.txt --name db-password --restart myapp.service
      pwgen -s 32 1 | bento secret add @dc1 - --name borg/passphrase
      bento secret add web tls.key --name tls/site.key --owner nginx --replace
      bento secret add web ./web-secrets/ --max-age 90d
    """
    parsed = Target.parse(target)
    attributes = Attributes.parse(
        owner=owner,
        group=group,
        mode=mode,
        path=path,
        restart=restart or None,
        reload=reload or None,
        max_age=max_age,
    )
    check_mode(attributes, force=force)
    fleet = current_fleet(context)
    if "-" in files and sys.stdin.isatty():
        click.echo("type the secret, then Ctrl-D:", err=True)
    items = new_secrets(files, name, parsed, attributes)
    sealed = add_given(fleet, items, click.echo, replace=replace, now=int(time.time()))
    for item, hosts in zip(items, sealed, strict=True):
        click.echo(f"sealed {item.name} for {', '.join(hosts)}")
    click.echo("next: bento deploy")


@secret.command("list")
@click.argument("target", required=False, type=TARGET)
@json_option
@click.pass_context
def list_secrets(context: click.Context, target: str | None, as_json: bool) -> None:
    """Show what is declared, the state of each host's copy, and which version the hosts have, by their reports.

    \b
    States of a copy:
      missing, changed, stale  see `bento secret check`
      must rotate, too old     its content should be changed
    On the hosts:
      installed                the version that is here
      pending                  another version, or none yet
      failed                   the host could not install it
      unknown                  the host has not reported

    \b
    Examples:
      bento secret list
      bento secret list web --json
    """
    fleet = current_fleet(context)
    state, files = fleet.store.survey()
    found = rows(state.declarations, state.lock, fleet.members, fleet.admins, files)
    if target is not None:
        wanted = parse_target(fleet, target)
        found = tuple(row for row in found if _concerns(row, wanted))
    reports = _reports(fleet, {copy.host for row in found for copy in row.copies})
    if as_json:
        show_json([_facts(row, reports) for row in found])
    elif not found:
        whose = "no secrets" if target is None else f"no secret for {target}"
        click.echo(f"{whose} yet; add one: bento secret add {target or 'HOST'} FILE", err=True)
    else:
        heads = ["target", "name", "hosts", "owner:group mode", "age", "state", "on hosts"]
        show_table(heads, [_cells(row, reports, int(time.time())) for row in found])


def _concerns(row: Row, wanted: Target) -> bool:
    return row.declaration.target == wanted or str(wanted) in [str(copy.host) for copy in row.copies]


def _reports(fleet: Fleet, hosts: set[HostName]) -> Mapping[HostName, Report | None]:
    """Without a publish folder or trust file the store can be listed all the same."""
    try:
        return read_reports(fleet, sorted(hosts), warn)
    except BentoError as error:
        warn(f"what the hosts have is unknown: {error.message}")
        return {}


def _installed(row: Row, copy: HostCopy, reports: Mapping[HostName, Report | None]) -> Installed:
    return installed(reports.get(copy.host), row.declaration.name, copy.digest)


def _cells(row: Row, reports: Mapping[HostName, Report | None], now: int) -> list[str]:
    one = row.declaration
    bad = [f"{copy.host} {copy.state}" for copy in row.copies if copy.state != "ok"]
    if any(copy.must_rotate for copy in row.copies):
        bad.append("must rotate")
    if row.too_old(now):
        bad.append("too old")
    by_word: dict[str, list[str]] = {}
    for copy in row.copies:
        by_word.setdefault(_installed(row, copy, reports).word, []).append(copy.host)
    words = list(by_word) if len(by_word) == 1 else [f"{', '.join(names)} {word}" for word, names in by_word.items()]
    return [
        one.target,
        one.name,
        ", ".join(copy.host for copy in row.copies) or "-",
        f"{one.owner}:{one.group} {one.mode}",
        ago(row.sealed, now),
        ", ".join(bad) or "ok",
        "; ".join(words) or "-",
    ]


def _facts(row: Row, reports: Mapping[HostName, Report | None]) -> dict[str, Any]:
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
        "max_age": one.max_age,
        "hosts": [_copy_facts(copy, _installed(row, copy, reports)) for copy in row.copies],
    }


def _copy_facts(copy: HostCopy, there: Installed) -> dict[str, Any]:
    return {
        "host": copy.host,
        "state": copy.state,
        "sealed": copy.sealed,
        "digest": copy.digest,
        "must_rotate": copy.must_rotate,
        "installed": {"state": there.word, "digest": there.digest, "time": there.time},
    }


for command in (check, edit, generate, import_, rekey, remove, show):
    secret.add_command(command)
