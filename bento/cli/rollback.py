"""`bento rollback`."""

import time
from collections.abc import Mapping
from typing import Any

import click

from bento.admin.hold import SecretsBack, go_on
from bento.admin.inventory import Fleet, Host, load_trust
from bento.admin.rollback import Back, Earlier, earlier_releases, let_go, plan_rollback, roll_back
from bento.cli.build import ALL_FAILED, missed_targets
from bento.cli.completing import HOST
from bento.cli.context import current_fleet, json_option
from bento.cli.progress import progress
from bento.cli.render import ago, short_system, show_json, show_table
from bento.cli.top import complain, warn
from bento.errors import BentoError, InputError
from bento.models.trust import Trust
from bento.names import Serial


@click.command()
@click.argument("name", metavar="HOST", type=HOST)
@click.argument("serial", type=int, required=False)
@click.option("--release", is_flag=True, help="Let the host follow the fleet again; nothing is published yet.")
@click.option("--list", "listing", is_flag=True, help="Show what it can go back to.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
@json_option
@click.pass_context
def rollback(
    context: click.Context, name: str, serial: int | None, release: bool, listing: bool, dry_run: bool, as_json: bool
) -> int:
    """Publish a host's earlier content under a new serial, and hold the host there.

    Without SERIAL it is the release before, of another content. `hold` in bento.toml then keeps every deploy at that
    content, secrets and settings included, until `--release`. Nothing is built here. A
    mirror that can't be reached is named (exit 3); the next deploy gives it what it missed.

    \b
    Examples:
      bento rollback web --list
      bento rollback web
      bento rollback web 1795381234 --dry-run
      bento rollback web --release
    """
    fleet = current_fleet(context)
    host = fleet.host(name)
    trust = load_trust(fleet.root)
    if release + listing + (dry_run or serial is not None) > 1:
        raise InputError("--release and --list stand alone", "see: bento rollback --help")
    if release:
        _release(fleet, host, as_json)
        return 0
    if listing:
        _list(host, earlier_releases(fleet, trust, host, warn), as_json)
        return 0
    wanted = None if serial is None else Serial.parse(serial)
    if dry_run:
        back = plan_rollback(fleet, trust, host, wanted)
        _show(host, back, None, as_json, back.missed)
        return missed_targets(back.missed, "would be left out")
    return _roll_back(fleet, trust, host, wanted, as_json)


def _release(fleet: Fleet, host: Host, as_json: bool) -> None:
    was = let_go(fleet, host)
    if as_json:
        show_json({"host": host.name, "held_at": None, "was_held_at": was})
    else:
        click.echo(f"{host.name} is no longer held at release {was}")
        click.echo(f"next: bento deploy --on {host.name}")


def _roll_back(fleet: Fleet, trust: Trust, host: Host, wanted: Serial | None, as_json: bool) -> int:
    with progress(1) as say:
        back, done = roll_back(fleet, trust, host, wanted, lambda: int(time.time()), say)
    for sentence in done.warnings:
        warn(sentence)
    error = done.failed.get(host.name)
    if error is not None:
        complain(f"{error.message}; hold is set, so the next deploy tries again", error.hints)
        return ALL_FAILED
    _show(host, back, done.published[host.name].serial, as_json, done.missed)
    return missed_targets(done.missed)


def _show(host: Host, back: Back, serial: Serial | None, as_json: bool, missed: Mapping[str, BentoError]) -> None:
    earlier, secrets = back.earlier, back.secrets
    if as_json:
        facts: dict[str, Any] = {
            "host": host.name,
            "held_at": earlier.serial,
            "published": serial,
            "system": earlier.system,
            "secrets": {"back": secrets.changed, "returning": secrets.returning, "leaving": secrets.leaving},
            "missed": {name: error.message for name, error in missed.items()},
        }
        show_json(facts)
        return
    then = f"release {earlier.serial}, made {ago(earlier.created, int(time.time()))}"
    if serial is None:
        click.echo(f"{host.name} would go back to {then}")
    elif serial == back.published.serial:
        click.echo(f"{host.name} has the content of {then}, and is held there")
    else:
        click.echo(f"{host.name} goes back to {then}, by release {serial}")
    for line in _secret_lines(secrets):
        click.echo(line)
    if serial is not None:
        click.echo(f"it is held there until: {go_on(host.name)}")


def _secret_lines(secrets: SecretsBack) -> list[str]:
    said = (
        ("secrets back to what they were", secrets.changed),
        ("secrets there again", secrets.returning),
        ("secrets that it loses", secrets.leaving),
    )
    return [f"{what}: {', '.join(names)}" for what, names in said if names]


def _list(host: Host, found: tuple[Earlier, ...], as_json: bool) -> None:
    if as_json:
        show_json([{**_facts(one), "held": one.manifest.serial == host.hold} for one in found])
        return
    now = int(time.time())
    rows = []
    for number, one in enumerate(found):
        notes = ["published"] if number == 0 else ["same content"] if one.same else []
        notes += ["held"] if one.manifest.serial == host.hold else []
        notes += ["objects are gone"] if one.gone else []
        system = short_system(one.manifest.system) if one.manifest.system else "channel"
        made = ago(one.manifest.created, now)
        rows.append([str(one.manifest.serial), made, system, str(len(one.manifest.secrets)), ", ".join(notes)])
    show_table(["release", "made", "system", "secrets", ""], rows)


def _facts(one: Earlier) -> dict[str, Any]:
    return {
        "serial": one.manifest.serial,
        "created": one.manifest.created,
        "system": one.manifest.system,
        "secrets": [secret.name for secret in one.manifest.secrets],
        "same": one.same,
        "gone": one.gone,
    }
