"""`bento`: the admin's commands."""

import os
from typing import Any

import click

from bento import __version__
from bento.cli.lazy import LazyGroup
from bento.cli.top import main_of, remember_typed

_COMMANDS = {
    "build": "bento.cli.build:build",
    "check": "bento.cli.check:check",
    "completion": "bento.cli.completion:completion",
    "deploy": "bento.cli.deploy:deploy",
    "diff": "bento.cli.diff:diff",
    "flake-update": "bento.cli.flake_update:flake_update",
    "host": "bento.cli.hosts:host",
    "init": "bento.cli.init:init",
    "logs": "bento.cli.logs:logs",
    "man": "bento.cli.man:man",
    "migrate": "bento.cli.migrate:migrate",
    "push": "bento.cli.push:push",
    "rollback": "bento.cli.rollback:rollback",
    "secret": "bento.cli.secrets:secret",
    "server": "bento.cli.server:server",
    "status": "bento.cli.status:status",
    "trigger": "bento.cli.push:trigger_run",
}


class _Bento(LazyGroup):
    """The group that Tab asks. How it is answered has to be known to click before it looks what it is asked."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click does it."""
        if "_BENTO_COMPLETE" in os.environ:
            import bento.cli.completion  # noqa: F401 — it registers our answers

        return super().main(*args, **extra)


@click.group(
    cls=_Bento,
    places=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(),
    help="The fleet folder. Default: BENTO_DIR, or upwards from here.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="bento")
def bento(directory: str | None, debug: bool) -> None:
    """Keep a fleet of NixOS machines up to date by pull, with secrets outside the Nix store.

    \b
    A first fleet:
      bento init acme && cd acme
      bento host add web --key-file ../web.pub
      cp -r ../web-configuration hosts/web
      bento secret add web db-password.txt --name db-password
      bento deploy
      bento status
    """
    del debug  # cli/top.py looks for it by itself
    remember_typed("bento", "--dir", directory)


@bento.command()
@click.option("--keep", is_flag=True, help="Leave the folder there, to look at.")
def demo(keep: bool) -> int:
    """Play the whole cycle on two throw-away hosts, on this machine only.

    Needs root, Nix and ssh-keygen. Uses loopback, makes no user, and leaves nothing behind.

    \b
    Example:
      bento demo
    """
    from bento.demo.play import play

    return play(keep=keep)


main = main_of(bento, "bento")
