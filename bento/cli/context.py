"""What the commands share: reading the fleet, options, questions to a person."""

import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bento.admin.inventory import Fleet, load_fleet
from bento.cli.completing import HOSTS
from bento.cli.where import fleet_root
from bento.core.selectors import select
from bento.errors import InputError
from bento.names import HostName

_LINE = 1024  # bytes: what a terminal hands over at once is one line

F = TypeVar("F", bound=Callable[..., Any])


def current_fleet(context: click.Context) -> Fleet:
    """The fleet, read."""
    return load_fleet(fleet_root(context))


def chosen(fleet: Fleet, patterns: tuple[str, ...]) -> tuple[HostName, ...]:
    """The hosts that `--on` means."""
    return select(patterns, {host.name: host.tags for host in fleet.hosts.values()})


def on_option(function: F) -> F:
    """`--on`, the same everywhere. The old Bento's NAME keeps working."""
    return click.option(
        "--on",
        "on",
        multiple=True,
        envvar="NAME",
        type=HOSTS,
        metavar="HOSTS",
        help="Only these: names, globs, @tags, comma-separated.",
    )(function)


def identity_option(function: F) -> F:
    """`--identity`, the same everywhere."""
    return click.option(
        "--identity",
        "identities",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Opens secrets: an age identity file, or an SSH private key. Default: those that bento.toml names.",
    )(function)


def attribute_options(function: F) -> F:
    """What a secret looks like on a host, the same for one that is brought and one that is made."""
    for option in (
        click.option(
            "--max-age", metavar="AGE", help="Have `check` tell when the content is older: 36h, 90d, 12w, 1y."
        ),
        click.option("--reload", multiple=True, metavar="UNIT", help="Reload this unit when it changes."),
        click.option("--restart", multiple=True, metavar="UNIT", help="Restart this unit when it changes."),
        click.option("--path", metavar="PATH", help="Also a link to it there. It lies at /run/bento/secrets/NAME."),
        click.option("--mode", metavar="MODE", help="Its mode, octal. Default: 0400."),
        click.option("--group", metavar="GROUP", help="Its group on the host. Default: root."),
        click.option("--owner", metavar="USER", help="Who owns it on the host. Default: root."),
    ):
        function = option(function)
    return function


def ask(prompt: str) -> str:
    """What a person types at the terminal, unseen; nothing without one. stdin is left alone: it may hold a secret."""
    try:
        with Path("/dev/tty").open("w") as terminal:
            return getpass.getpass(f"{prompt}: ", stream=terminal)
    except (OSError, EOFError):
        return ""


def confirmed(question: str, otherwise: str) -> bool:
    """What a person answers at the terminal. Raises InputError with the hint `otherwise` where nobody can be asked."""
    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask at, and nothing was changed", otherwise)
    return click.confirm(question, err=True)


def ask_visibly(prompt: str) -> str:
    """What a person types at the terminal; nothing without one."""
    try:
        with Path("/dev/tty").open("r+b", buffering=0) as terminal:
            terminal.write(f"{prompt}: ".encode())
            return terminal.read(_LINE).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def json_option(function: F) -> F:
    """`--json`, the same everywhere."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
