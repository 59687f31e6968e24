"""`bento build`."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, get_args

import click

from bento.adapters.nix import require_nix
from bento.admin import build as builder
from bento.admin.inventory import Fleet
from bento.admin.local_switch import Action, agreed, make_current
from bento.admin.workspace import Workspace
from bento.cli.context import ask_visibly, chosen, current_fleet, json_option, on_option
from bento.cli.progress import progress, show_results
from bento.cli.render import show_json
from bento.cli.top import complain, warn
from bento.errors import BentoError, InputError
from bento.names import HostName, SystemPath, did_you_mean, listed, printable

ALL_FAILED, SOME_FAILED = 1, 3
_LOCAL: tuple[Action, ...] = get_args(Action)
_ACTIONS = ("build", "dry-build", *_LOCAL)
_OLD_WORDS = {"dry-run": "dry-build"}  # how the bash Bento's help called it

F = TypeVar("F", bound=Callable[..., Any])


def jobs_option(function: F) -> F:
    """`--jobs`, the same everywhere."""
    return click.option(
        "--jobs",
        metavar="N",
        type=click.IntRange(1, 64),
        help="Build at most so many hosts at once. Default: [build] jobs, else one a processor.",
    )(function)


def verbose_option(function: F) -> F:
    """`--verbose`, the same everywhere. The old Bento's VERBOSE keeps working."""
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        callback=_verbose,
        help="Show each step of each host, and what Nix says. Or VERBOSE=1.",
    )(function)


def _verbose(_context: click.Context, _option: click.Parameter, value: bool) -> bool:
    return value or os.environ.get("VERBOSE", "") not in ("", "0", "false", "no")


def _complete_action(_context: click.Context, _argument: click.Parameter, incomplete: str) -> list[str]:
    return [one for one in _ACTIONS if one.startswith(incomplete)]


@click.command()
@click.argument(
    "action",
    metavar="[build|dry-build|test|switch]",
    default="build",
    required=False,
    shell_complete=_complete_action,
)
@on_option
@jobs_option
@verbose_option
@click.option("--yes", "named", metavar="NAME", help="With test or switch: the host's name, instead of typing it.")
@json_option
@click.pass_context
def build(
    context: click.Context,
    action: str,
    on: tuple[str, ...],
    jobs: int | None,
    verbose: bool,
    named: str | None,
    as_json: bool,
) -> int:
    """Build hosts here, without publishing.

    \b
    build      build; the results stay in this machine's Nix store until the next ones
    dry-build  only evaluate, and print what a build would give
    test       build one host, and make this machine run it until the next boot
    switch     build one host, and make this machine run and boot it

    \b
    Examples:
      bento build
      bento build dry-build --on web,@dc1
      bento build switch --on desk
    """
    action = _OLD_WORDS.get(action, action)
    if action not in _ACTIONS:
        meant = did_you_mean(action, _ACTIONS)
        raise InputError(
            f"'{printable(action)}' is none of {', '.join(_ACTIONS)}",
            *(meant or (f"to build one host: bento build --on {printable(action)}",)),
        )
    fleet = current_fleet(context)
    names = some(chosen(fleet, on))
    here = next((one for one in _LOCAL if one == action), None)
    if here is not None:
        _not_elsewhere(here, names)
        agreed(here, names, named, ask_visibly)
    elif named is not None:
        raise InputError("--yes is for test and switch", f"leave it out: bento build {action}")
    systems, failed = _build(fleet, names, jobs, dry=action == "dry-build", verbose=verbose)
    if here is not None and not failed:
        _switch(here, names[0], systems[names[0]])
    if as_json:
        show_json({"systems": systems, "failed": {name: error.message for name, error in failed.items()}})
    else:
        show_results([f"{name} {system}" for name, system in systems.items()])
    return failures(failed, len(names))


def _not_elsewhere(action: Action, names: tuple[HostName, ...]) -> None:
    """The bash Bento switched TARGET_IP with this command: where that is set, another machine than this is meant."""
    address = os.environ.get("TARGET_IP", "")
    if address:
        raise InputError(
            f"TARGET_IP is {printable(address)}, and {action} is for this machine: it stays as it is",
            f"to deploy to that host: bento push {names[0] if len(names) == 1 else 'HOST'}",
            "if this machine is meant: unset TARGET_IP",
        )


def _switch(action: Action, host: HostName, system: SystemPath) -> None:
    with progress(verbose=True) as say:
        notes = make_current(system, action, partial(say.output, host))
    for sentence in notes:
        warn(sentence)


def _build(
    fleet: Fleet, names: tuple[HostName, ...], jobs: int | None, *, dry: bool, verbose: bool
) -> tuple[Mapping[HostName, SystemPath], Mapping[HostName, BentoError]]:
    workspace = Workspace(fleet.root)
    chosen_hosts = [fleet.hosts[name] for name in names]
    trees, unpacked = builder.collect_trees(chosen_hosts, fleet)
    hosts = [host for host in chosen_hosts if host.name not in unpacked]
    for sentence in builder.tree_warnings(trees):
        warn(sentence)
    require_nix()
    with workspace.locked(), progress(len(names), verbose=verbose) as say:
        packed = builder.pack_hosts(hosts, trees, workspace)
        how = builder.How(jobs, show=say.output if verbose else None)
        if dry:
            found, failed = builder.evaluate_hosts(packed, fleet, workspace, say, how)
            return found, {**unpacked, **failed}
        built, failed = builder.build_hosts(packed, fleet, workspace, say, how)
        return {one.packed.host.name: one.system for one in built}, {**unpacked, **failed}


def some(names: tuple[HostName, ...]) -> tuple[HostName, ...]:
    """The names, or InputError where the fleet has none."""
    if not names:
        raise InputError("the fleet has no hosts", "add one: bento host add NAME --key-file FILE")
    return names


def failures(failed: Mapping[HostName, BentoError] | Mapping[str, BentoError], of: int) -> int:
    """Say each host's failure (or each flake's); the exit code, `of` being how many were chosen."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, error in failed.items():
        alike.setdefault((error.message, error.hints), []).append(name)
    for (message, hints), names in alike.items():
        complain(f"{listed(names)}: {message}", hints)
    if not failed:
        return 0
    return ALL_FAILED if len(failed) == of else SOME_FAILED


def missed_targets(missed: Mapping[str, BentoError], state: str = "lacks what was published") -> int:
    """Say each target that doesn't have what the others have; the exit code."""
    for target, error in missed.items():
        complain(f"{target} {state}: {error.message}", error.hints)
    return SOME_FAILED if missed else 0
