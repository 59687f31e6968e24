"""`bento secret import agenix|sops`."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bento.adapters.process import Done, run
from bento.admin.inventory import Fleet
from bento.admin.secrets import identities_of
from bento.cli.context import ask, current_fleet, identity_option, json_option
from bento.cli.render import show_json, show_table
from bento.errors import InputError, WorkFailed
from bento.names import HostName, did_you_mean, visible
from bento_secrets.importing.found import Found
from bento_secrets.importing.keys import canonical, shown
from bento_secrets.importing.plan import Plan, make_plan
from bento_secrets.sealing import Plaintext

F = TypeVar("F", bound=Callable[..., Any])
OpenAll = Callable[[Sequence[Found]], Sequence[Plaintext]]


@click.group("import")
def import_() -> None:
    """Take secrets over from another tool. Its files stay as they are."""


def _common(function: F) -> F:
    for option in (
        json_option,
        click.option(
            "--map", "mapped", multiple=True, metavar="KEY=HOST", help="A public key in use there, and whose it is."
        ),
        click.option("--dry-run", is_flag=True, help="Show what would be done; open nothing."),
        click.argument("path", type=click.Path(path_type=Path)),
    ):
        function = option(function)
    return function


@import_.command("agenix")
@_common
@identity_option
@click.option(
    "--also-read",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="What secrets.nix may read besides PATH.",
)
@click.pass_context
def agenix(
    context: click.Context,
    path: Path,
    dry_run: bool,
    identities: tuple[Path, ...],
    mapped: tuple[str, ...],
    also_read: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Take over PATH: a folder with secrets.nix and the .age files that it names.

    Each goes to the hosts whose keys are in its rule, by the name of its file.

    \b
    Examples:
      bento secret import agenix ./secrets --dry-run
      bento secret import agenix ./secrets --identity ~/.ssh/id_ed25519
      bento secret import agenix ./secrets --identity key.txt --map "ssh-ed25519 AAAA…=web"
    """
    from bento_secrets.importing.agenix import find
    from bento_secrets.importing.opening import open_file

    fleet = current_fleet(context)

    def open_all(wanted: Sequence[Found]) -> list[Plaintext]:
        loaded = identities_of(fleet, identities, ask)
        if not loaded:
            raise InputError(
                "it takes an identity to open them: none was given",
                "name the private half of one of their keys: --identity ~/.ssh/id_ed25519",
                "or look first, which takes none: --dry-run",
            )
        return [open_file(one.file, loaded) for one in wanted]

    found = find(path, _run, also_read)
    _import(fleet, found, open_all, mapped, dry_run=dry_run, as_json=as_json)


@import_.command("sops")
@_common
@click.option(
    "--identity",
    "identities",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Opens them: an age identity file, or an SSH private key. Default: those that sops finds.",
)
@click.pass_context
def sops(
    context: click.Context,
    path: Path,
    dry_run: bool,
    identities: tuple[Path, ...],
    mapped: tuple[str, ...],
    as_json: bool,
) -> None:
    """Take over PATH: a file that SOPS sealed, or a folder of them, laid out as for sops-nix.

    Each value of a YAML or JSON file becomes a secret named by the way to it, myservice/password; each other file is
    one. They go to the hosts whose keys the file is sealed to. The program sops opens them, with its own keys, or with
    --identity (an age identity file, or an SSH key as ssh-to-age takes it).

    \b
    Examples:
      bento secret import sops . --dry-run
      bento secret import sops secrets/web.yaml
      bento secret import sops . --identity ~/.ssh/id_ed25519
    """
    from bento_secrets.importing.sops import find, open_all

    def opened(wanted: Sequence[Found]) -> list[Plaintext]:
        return open_all(wanted, _run, identities, ask)

    _import(current_fleet(context), find(path), opened, mapped, dry_run=dry_run, as_json=as_json)


def _import(
    fleet: Fleet, found: Sequence[Found], open_all: OpenAll, mapped: Sequence[str], *, dry_run: bool, as_json: bool
) -> None:
    from bento_secrets.importing.take import take

    keys = {canonical(key.line): host.name for host in fleet.hosts.values() for key in host.keys}
    keys |= _mapped(mapped, fleet.hosts, found)
    admins = {recipient.text for recipient in fleet.admins}
    plan = make_plan(found, fleet.members, keys, admins, fleet.store.read())
    if not dry_run:
        take(plan, open_all, fleet.store, fleet.members, fleet.admins, now=int(time.time()))
    if as_json:
        show_json(_facts(plan, dry_run=dry_run))
    elif dry_run:
        show_table(["from", "name", "target", "why"], [_cells(plan, number) for number in range(len(plan.steps))])
    else:
        _tell(plan)
    if not as_json:
        _advise(plan, dry_run=dry_run)


def _mapped(texts: Sequence[str], hosts: Mapping[HostName, object], found: Sequence[Found]) -> dict[str, HostName]:
    keys = {}
    known = {key for one in found for key in one.keys}
    for text in texts:
        # From the right: base64 may end with =.
        key, equals, name = text.rpartition("=")
        if not equals or not key:
            raise InputError(f"--map {shown(text)} doesn't read KEY=HOST", 'for example: --map "ssh-ed25519 AAAA…=web"')
        host = HostName.parse(name)
        if host not in hosts:
            raise InputError(
                f"no host is called '{host}'", *did_you_mean(host, hosts), "see the hosts: bento host list"
            )
        if canonical(key) not in {canonical(one) for one in known}:
            raise InputError(f"nothing there is sealed to {shown(key)}", "see the keys: --dry-run --json")
        keys[canonical(key)] = host
    return keys


def _run(argv: Sequence[str], *, env: Mapping[str, str], timeout: float, pass_fds: tuple[int, ...] = ()) -> bytes:
    done = run(argv, env={**os.environ, **env}, timeout=timeout, pass_fds=pass_fds)
    if done.code != 0:
        # Only what it said on stderr: the rest may be a part of a secret.
        words = Done(done.code, b"", done.err).words(600)
        hints = ["let the rules read that folder: --also-read DIR"] if "restricted mode" in words else []
        raise WorkFailed(f"{argv[0]} failed: {words or f'exit code {done.code}'}", *hints)
    return done.out


def _cells(plan: Plan, number: int) -> list[str]:
    step = plan.steps[number]
    return [step.found.source, step.name or "-", step.target or "skipped", step.why]


def _facts(plan: Plan, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "secrets": [
            {
                "from": step.found.source,
                "name": step.name,
                "target": step.target,
                "hosts": list(step.hosts),
                "taken": step.target is not None,
                "must_rotate": step.target is not None and step.found in plan.exposed,
                "why": step.why,
            }
            for step in plan.steps
        ],
        "strangers": [{"key": key, "secrets": count} for key, count in plan.strangers.items()],
    }


def _tell(plan: Plan) -> None:
    for step in plan.steps:
        if step.target is not None:
            click.echo(f"sealed {step.name} for {', '.join(step.hosts)}")
        else:
            click.echo(visible(f"skipped {step.found.source}: {step.why}"), err=True)


def _advise(plan: Plan, *, dry_run: bool) -> None:
    for key, count in plan.strangers.items():
        click.echo(visible(f"nobody of this fleet: {shown(key)} ({count} {_plural(count, 'secret')})"), err=True)
    if plan.strangers:
        click.echo(
            "hint: if one is a host's older key: --map KEY=HOST; if one is an admin's: [secrets] admins", err=True
        )
    count = len(plan.taken)
    if not count:
        click.echo("nothing to import", err=True)
        return
    click.echo("owner, group and mode stood in the Nix configuration; here they are root, root and 0400", err=True)
    click.echo("hint: give them in secrets/secrets.toml, or in the hosts' Nix declarations", err=True)
    if plan.exposed:
        said = f"{len(plan.exposed)} must be changed: somebody can open the original who doesn't get it here"
        click.echo(said, err=True)
        if not dry_run:
            click.echo("hint: see which: bento secret check", err=True)
    if dry_run:
        click.echo("nothing was opened or written", err=True)
    else:
        click.echo("next: bento deploy")


def _plural(count: int, word: str) -> str:
    return word if count == 1 else word + "s"
