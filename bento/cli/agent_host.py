"""The host that a command of `bento-agent` is for."""

import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from bento.agent.host import Host, open_host
from bento.models.agent_settings import read_agent_settings
from bento.names import visible


def host_of(context: click.Context) -> Host:
    """The host that --config names. Raises InputError, EnvironmentFailed."""
    return host_at(Path(context.find_root().params["config"]))


def host_at(settings: Path) -> Host:
    """The host of a settings file. Raises InputError, EnvironmentFailed."""
    # Links are followed: a new system moves /run/current-system/sw, and this agent must still be found.
    program = Path(shutil.which(sys.argv[0]) or sys.argv[0]).resolve()
    command = (str(program), "--config", str(settings.resolve()))
    return open_host(read_agent_settings(settings), lambda: int(time.time()), say, command)


def say(line: str) -> None:
    """On stderr, with nothing in it that could steer a terminal.

    A reader that has gone, as over a broken ssh connection, must not end a switch half-way.
    """
    with suppress(OSError):
        click.echo(visible(line), err=True)
