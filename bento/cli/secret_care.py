"""`bento secret check|rekey`: are the copies in order, and bringing them there."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bento.admin.inventory import Fleet
from bento.admin.secret_changes import rekey_secrets
from bento.admin.secrets import identities_of
from bento.cli.completing import TARGET
from bento.cli.context import ask, current_fleet, identity_option, json_option
from bento.cli.render import show_json
from bento.errors import InputError
from bento.names import Target, did_you_mean
from bento_secrets.check import Finding
from bento_secrets.check import check as look
from bento_secrets.rekey import Step

WRONG = 1


def parse_target(fleet: Fleet, text: str) -> Target:
    """A target that the fleet has; InputError."""
    target = Target.parse(text)
    known = {*fleet.hosts, *("@" + tag for host in fleet.hosts.values() for tag in host.tags)}
    if target not in known:
        raise InputError(f"no host or tag is called '{target}'", *did_you_mean(target, known), "bento host list")
    return target


def show_steps(steps: Sequence[Step], *, planned: bool = False) -> None:
    """What is done, or would be, to each copy, and why."""
    for step in steps:
        did = ("seal" if planned else "sealed", "for") if step.declaration is not None else None
        verb = f"{did[0]} {step.name} {did[1]}" if did else f"{'remove' if planned else 'removed'} {step.name} of"
        click.echo(f"{'would ' if planned else ''}{verb} {step.host}: {', '.join(step.reasons)}")


@click.command()
@click.argument("target", required=False, type=TARGET)
@identity_option
@click.option("--dry-run", is_flag=True, help="Show what would be done; open nothing.")
@click.pass_context
def rekey(context: click.Context, target: str | None, identities: tuple[Path, ...], dry_run: bool) -> None:
    """Seal again what isn't sealed to today's recipients, and what a host lacks and another has. All or none.

    This takes an identity of an admin recipient ([secrets] admins in bento.toml). Contents stay as they are; one that
    somebody could open who no longer may is marked "must rotate". Copies that no host gets any more are removed.

    \b
    Examples:
      bento secret rekey --dry-run
      bento secret rekey @dc1 --identity ~/.config/bento/admin.txt
    """
    fleet = current_fleet(context)
    only = None if target is None else parse_target(fleet, target)
    steps = fleet.store.rekey_plan(fleet.members, fleet.admins, only)
    if dry_run:
        show_steps(steps, planned=True)
    else:
        opening = any(step.declaration is not None for step in steps)
        opened = identities_of(fleet, identities, ask) if opening and fleet.admins else ()
        # Without steps too: a public half may be missing that a cut command would have written.
        show_steps(rekey_secrets(fleet, opened, only, click.echo).done)
    if steps and not dry_run:
        click.echo("next: bento deploy")
    if not steps:
        click.echo("all copies are sealed to today's recipients")


@click.command()
@identity_option
@json_option
@click.pass_context
def check(context: click.Context, identities: tuple[Path, ...], as_json: bool) -> int:
    """Look whether each host has its secrets, sealed to today's recipients and as secrets.lock names them.

    No private key is needed. With --identity, secrets are opened too, to see that all hosts of a tag have the same.
    Exits with 1 if anything is wrong.

    \b
    Examples:
      bento secret check
      bento secret check --identity ~/.config/bento/admin.txt --json
    """
    fleet = current_fleet(context)
    # Identities that bento.toml names are left alone: a check in CI or by deploy must not ask for a passphrase.
    opened = identities_of(fleet, identities, ask) if identities else ()
    state, found = fleet.store.survey(opened)
    findings = look(state.declarations, state.lock, found, fleet.members, fleet.admins, int(time.time()))
    if as_json:
        show_json([_facts(one) for one in findings])
    elif not findings:
        click.echo("all is in order")
    else:
        for one in findings:
            click.echo(f"{one.kind}: {one.message}")
        for hint in dict.fromkeys(one.hints[0] for one in findings):
            click.echo(f"hint: {hint}", err=True)
    return WRONG if findings else 0


def _facts(one: Finding) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "target": one.target,
        "name": one.name,
        "hosts": list(one.hosts),
        "message": one.message,
        "hints": list(one.hints),
        "breaks": one.breaks,
    }
