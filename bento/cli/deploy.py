"""`bento build` and `bento deploy`."""

import time
from collections.abc import Mapping
from typing import Any

import click

from bento.adapters.nix import require_nix
from bento.admin import build as builder
from bento.admin.deploy import Deployed
from bento.admin.deploy import deploy as publish_all
from bento.admin.inventory import load_trust
from bento.admin.workspace import Workspace
from bento.cli.context import chosen, current_fleet, json_option, on_option
from bento.cli.render import progress, show_json
from bento.cli.top import complain, warn
from bento.errors import BentoError, InputError
from bento.names import HostName

ALL_FAILED, SOME_FAILED = 1, 3


@click.command()
@click.argument("action", metavar="[build|dry-build]", default="build", required=False)
@on_option
@json_option
@click.pass_context
def build(context: click.Context, action: str, on: tuple[str, ...], as_json: bool) -> int:
    """Build hosts here, without publishing. `dry-build` only evaluates, and prints what a build would give.

    \b
    Examples:
      bento build
      bento build dry-build --on web,@dc1
    """
    if action not in ("build", "dry-build"):
        raise InputError(f"'{action}' is neither build nor dry-build", f"to build one host: bento build --on {action}")
    fleet = current_fleet(context)
    names = _some(chosen(fleet, on))
    workspace = Workspace(fleet.root)
    hosts = [fleet.hosts[name] for name in names]
    trees = builder.collect_trees(hosts, fleet)
    require_nix()
    with workspace.locked(), progress() as say:
        packed = builder.pack_hosts(hosts, trees, workspace)
        if action == "build":
            built, failed = builder.build_hosts(packed, fleet, workspace, say)
            systems: Mapping[HostName, str] = {one.packed.host.name: one.system for one in built}
        else:
            systems, failed = builder.evaluate_hosts(packed, fleet, workspace, say)
    if as_json:
        show_json({"systems": systems, "failed": {name: error.message for name, error in failed.items()}})
    else:
        for name, system in systems.items():
            click.echo(f"{name} {system}")
    return _failures(failed, len(names))


@click.command()
@on_option
@click.option("--break-lock", is_flag=True, help="Take the lock of a deploy that is dead, on servers.")
@json_option
@click.pass_context
def deploy(context: click.Context, on: tuple[str, ...], break_lock: bool, as_json: bool) -> int:
    """Build hosts, sign and publish what has changed. Hosts fetch it at their next poll.

    A host whose build fails keeps what is published and is named; the others go on (exit 3). A mirror that can't be
    reached is named too; the next deploy gives it what it missed.

    \b
    Examples:
      bento deploy
      bento deploy --on web
    """
    fleet = current_fleet(context)
    trust = load_trust(fleet.root)
    names = _some(chosen(fleet, on))
    with progress() as say:
        done = publish_all(fleet, trust, names, lambda: int(time.time()), say, break_lock=break_lock)
    for sentence in done.warnings:
        warn(sentence)
    if as_json:
        show_json(_facts(done))
    else:
        changed = sum(one.changed is not None for one in done.published.values())
        unchanged = len(done.published) - changed
        click.echo(f"built {done.built}, published {changed}, unchanged {unchanged}, failed {len(done.failed)}")
    for target, error in done.missed.items():
        complain(f"{target} lacks what was published: {error.message}", error.hints)
    return _failures(done.failed, len(names)) or (SOME_FAILED if done.missed else 0)


def _some(names: tuple[HostName, ...]) -> tuple[HostName, ...]:
    if not names:
        raise InputError("the fleet has no hosts", "add one: bento host add NAME --key-file FILE")
    return names


def _failures(failed: Mapping[HostName, BentoError], of: int) -> int:
    for name, error in failed.items():
        complain(f"{name}: {error.message}", error.hints)
    if not failed:
        return 0
    return ALL_FAILED if len(failed) == of else SOME_FAILED


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
        "missed": {name: error.message for name, error in done.missed.items()},
        "warnings": list(done.warnings),
    }
