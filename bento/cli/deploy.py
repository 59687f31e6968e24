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
from bento.admin.waves import Clocks, Waved, canaries_among, deploy_in_waves
from bento.admin.workspace import Workspace
from bento.cli.context import chosen, current_fleet, json_option, on_option
from bento.cli.render import progress, show_json
from bento.cli.top import complain, warn
from bento.core.waves import parse_wait
from bento.errors import BentoError, InputError
from bento.names import HostName

ALL_FAILED, SOME_FAILED = 1, 3
CLOCKS = Clocks(lambda: int(time.time()), time.monotonic, time.sleep)


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
@click.option(
    "--drop-signers", is_flag=True, help="Sign only with today's keys, even if a host may trust none of them."
)
@click.option("--canary", "canaries", multiple=True, metavar="HOSTS", help="Publish to these first, and wait for them.")
@click.option("--wait", metavar="TIME", help="How long for --canary: 90s, 10m, 1h. Default: 10m.")
@json_option
@click.pass_context
def deploy(
    context: click.Context,
    on: tuple[str, ...],
    drop_signers: bool,
    canaries: tuple[str, ...],
    wait: str | None,
    as_json: bool,
) -> int:
    """Build hosts, sign and publish what has changed. Hosts fetch it at their next poll.

    A host whose build fails keeps what is published and is named; the others go on (exit 3). A host that `bento
    rollback` holds gets what it is held at. With a new signing key, what is unchanged gets its signature added.

    With --canary the rest follows once every canary has reported that it installed its release, and nothing less
    (degraded is less). If one fails, or says nothing in time, the rest is left as it is (exit 3).

    \b
    Examples:
      bento deploy
      bento deploy --on web
      bento deploy --canary @canary --wait 10m
    """
    fleet = current_fleet(context)
    trust = load_trust(fleet.root)
    names = _some(chosen(fleet, on))
    if canaries or wait is not None:
        seconds = parse_wait(wait or "10m")
        first = canaries_among(names, chosen(fleet, canaries) if canaries else ())
        with progress() as say:
            waved = deploy_in_waves(fleet, trust, names, first, seconds, CLOCKS, say, drop_signers=drop_signers)
        return _show_waves(waved, len(names), as_json)
    with progress() as say:
        done = publish_all(fleet, trust, names, CLOCKS.now, say, drop_signers=drop_signers)
    _show(done, {}, as_json)
    return _failures(done.failed, len(names))


def _show(done: Deployed, more: Mapping[str, Any], as_json: bool) -> None:
    for sentence in done.warnings:
        warn(sentence)
    if as_json:
        show_json({**_facts(done), **more})
    else:
        changed = sum(one.changed is not None for one in done.published.values())
        unchanged = len(done.published) - changed
        click.echo(f"built {done.built}, published {changed}, unchanged {unchanged}, failed {len(done.failed)}")


def _show_waves(waved: Waved, of: int, as_json: bool) -> int:
    canaries = {name: {"verdict": one.verdict, "said": one.said} for name, one in waved.canaries.items()}
    _show(waved.done, {"canaries": canaries, "not_published": list(waved.left)}, as_json)
    if not waved.proved and waved.canaries:
        warn("no canary got anything new, so they prove nothing about what the others got")
    if not waved.left:
        return _failures(waved.done.failed, of)
    _failures(waved.done.failed, of)
    complain(f"stopped after the canaries; nothing was published for {', '.join(waved.left)}", _next(waved))
    for name, one in waved.canaries.items():
        if one.verdict != "good":
            complain(f"{name}: {one.said}")
    return SOME_FAILED if waved.done.published else ALL_FAILED


def _next(waved: Waved) -> list[str]:
    bad = [name for name, one in waved.canaries.items() if one.verdict == "bad"]
    looked = ",".join(name for name, one in waved.canaries.items() if one.verdict != "good")
    hints = [f"see more: bento status --on {looked}"] if looked else []
    hints += [f"take it back: bento rollback {name}" for name in bad]
    return [*hints, f"or publish the rest all the same: bento deploy --on {','.join(waved.left)}"]


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
        "warnings": list(done.warnings),
    }
