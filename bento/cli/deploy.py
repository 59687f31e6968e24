"""`bento deploy`."""

import time
from collections.abc import Mapping
from typing import Any

import click

from bento.admin.build import How
from bento.admin.deploy import deploy as publish_all
from bento.admin.inventory import load_trust
from bento.admin.plan import plan_deploy
from bento.admin.publishing import Deployed
from bento.admin.waves import Clocks, Waved, canaries_among, deploy_in_waves
from bento.cli.build import ALL_FAILED, SOME_FAILED, failures, jobs_option, missed_targets, some, verbose_option
from bento.cli.completing import HOSTS
from bento.cli.context import chosen, current_fleet, json_option, on_option
from bento.cli.diff import show_plan
from bento.cli.progress import progress
from bento.cli.render import show_json
from bento.cli.top import STOPPED, complain, warn
from bento.core.waves import parse_wait

CLOCKS = Clocks(lambda: int(time.time()), time.monotonic, time.sleep)


@click.command()
@on_option
@jobs_option
@verbose_option
@click.option("--rebuild", is_flag=True, help="Build anew what hasn't changed, here and on channel hosts.")
@click.option(
    "--drop-signers", is_flag=True, help="Sign only with today's keys, even if a host may trust none of them."
)
@click.option("--break-lock", is_flag=True, help="Take the lock of a deploy that is dead, on servers.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be built and published; write nothing. Unchanged hosts: with --verbose.",
)
@click.option(
    "--canary",
    "canaries",
    multiple=True,
    type=HOSTS,
    metavar="HOSTS",
    help="Publish to these first, and wait for them.",
)
@click.option("--wait", metavar="TIME", help="How long for --canary: 90s, 10m, 1h. Default: 10m.")
@json_option
@click.pass_context
def deploy(
    context: click.Context,
    on: tuple[str, ...],
    jobs: int | None,
    verbose: bool,
    rebuild: bool,
    drop_signers: bool,
    break_lock: bool,
    dry_run: bool,
    canaries: tuple[str, ...],
    wait: str | None,
    as_json: bool,
) -> int:
    """Build hosts, sign and publish what has changed. Hosts fetch it at their next poll.

    A host whose build fails keeps what is published and is named; the others go on (exit 3). A mirror that can't be
    reached is named too; the next deploy gives it what it missed. A host that `bento rollback` holds gets what it is
    held at. With a new signing key, what is unchanged gets its signature added. With
    --rebuild channel hosts build once more, though their files are the same: when their nixpkgs has moved on. It also
    reads anew all files and published objects, which else are read only when their inode, size or times have changed.

    With --canary the rest follows once every canary has reported that it installed its release, and nothing less
    (degraded is less). If one fails, or says nothing in time, the rest is left as it is (exit 3). It is so after
    Ctrl-C, which says what is published by then (exit 130).

    \b
    Examples:
      bento deploy
      bento deploy --on web
      bento deploy --dry-run
      bento deploy --rebuild --on @channel
      bento deploy --canary @canary --wait 10m
    """
    fleet = current_fleet(context)
    trust = load_trust(fleet.root)
    names = some(chosen(fleet, on))
    waves = canaries or wait is not None
    first = canaries_among(names, chosen(fleet, canaries) if canaries else ()) if waves else ()
    seconds = parse_wait(wait or "10m")
    if dry_run:
        plan = plan_deploy(fleet, trust, names, CLOCKS.now(), How(anew=rebuild), drop_signers=drop_signers)
        return show_plan(plan, len(names), as_json=as_json, verbose=verbose)
    with progress(len(names), verbose=verbose) as say:
        how = How(jobs, anew=rebuild, show=say.output if verbose else None)
        force = {"break_lock": break_lock, "drop_signers": drop_signers}
        if waves:
            waved = deploy_in_waves(fleet, trust, names, first, seconds, CLOCKS, say, how, **force)
        else:
            done = publish_all(fleet, trust, names, CLOCKS.now, say, how, **force)
    if waves:
        return _show_waves(waved, len(names), as_json)
    _show(done, {}, as_json)
    return _code(done, len(names))


def _show(done: Deployed, more: Mapping[str, Any], as_json: bool) -> None:
    for sentence in done.warnings:
        warn(sentence)
    if as_json:
        show_json({**_facts(done), **more})
    else:
        changed = sum(one.changed is not None for one in done.published.values())
        unchanged = len(done.published) - changed
        click.echo(f"built {done.built}, published {changed}, unchanged {unchanged}, failed {len(done.failed)}")


def _code(done: Deployed, of: int) -> int:
    missed = missed_targets(done.missed)
    return failures(done.failed, of) or missed


def _show_waves(waved: Waved, of: int, as_json: bool) -> int:
    canaries = {name: {"verdict": one.verdict, "said": one.said} for name, one in waved.canaries.items()}
    _show(waved.done, {"canaries": canaries, "not_published": list(waved.left)}, as_json)
    if waved.interrupted:
        return _show_stopped(waved)
    if not waved.proved and waved.canaries:
        warn("no canary got anything new, so they prove nothing about what the others got")
    if not waved.left:  # all went well, or the others had failed before
        code = _code(waved.done, of)
        _name_bad(waved)
        return code
    missed_targets(waved.done.missed)
    failures(waved.done.failed, of)
    complain(f"stopped after the canaries; nothing was published for {', '.join(waved.left)}", _next(waved))
    _name_bad(waved)
    return SOME_FAILED if waved.done.published else ALL_FAILED


def _show_stopped(waved: Waved) -> int:
    """A person ended the wait: what hosts will fetch now, what they won't, and how to go on or back."""
    missed_targets(waved.done.missed)
    failures(waved.done.failed, 0)
    canaries, left = ",".join(waved.done.published), ",".join(waved.left)
    new = [f"{name} (release {one.serial})" for name, one in waved.done.published.items() if one.changed is not None]
    out = f"published for {', '.join(new)}" if new else "nothing new was published for the canaries"
    hints = [f"see what they say: bento status --on {canaries}"]
    if left:
        hints += [
            f"wait for them again: bento deploy --canary {canaries} --on {canaries},{left}",
            f"or publish the rest without waiting: bento deploy --on {left}",
        ]
    hints += [f"or take it back: bento rollback {name}" for name in _with_a_way_back(waved)]
    kept = f"; nothing was published for {', '.join(waved.left)}" if left else ""
    complain(f"stopped while waiting for the canaries; {out}{kept}", hints)
    return STOPPED


def _with_a_way_back(waved: Waved) -> list[str]:
    """The canaries that got a release, and not their first."""
    return [name for name, one in waved.done.published.items() if one.changed and one.changed != ("first release",)]


def _name_bad(waved: Waved) -> None:
    for name, one in waved.canaries.items():
        if one.verdict != "good":
            complain(f"{name}: {one.said}")


def _next(waved: Waved) -> list[str]:
    bad = [name for name, one in waved.canaries.items() if one.verdict == "bad"]
    looked = ",".join(name for name, one in waved.canaries.items() if one.verdict != "good")
    hints = [f"see more: bento status --on {looked}"] if looked else []
    hints += [f"take it back: bento rollback {name}" for name in _with_a_way_back(waved) if name in bad]
    return [*hints, f"or publish the rest all the same: bento deploy --on {','.join(waved.left)}"]


def _facts(done: Deployed) -> dict[str, Any]:
    return {
        "built": done.built,
        "published": {
            name: {
                "serial": one.serial,
                "system": one.system,
                "changed": None if one.changed is None else list(one.changed),
            }
            for name, one in done.published.items()
        },
        "failed": {name: error.message for name, error in done.failed.items()},
        "missed": {name: error.message for name, error in done.missed.items()},
        "warnings": list(done.warnings),
    }
