"""`bento`: the admin's commands."""

import click

from bento import __version__
from bento.cli.build import build
from bento.cli.check import check
from bento.cli.completion import completion
from bento.cli.deploy import deploy
from bento.cli.diff import diff
from bento.cli.flake_update import flake_update
from bento.cli.hosts import host
from bento.cli.init import init
from bento.cli.logs import logs
from bento.cli.man import man
from bento.cli.migrate import migrate
from bento.cli.push import push, trigger_run
from bento.cli.rollback import rollback
from bento.cli.secrets import secret
from bento.cli.server import server
from bento.cli.status import status
from bento.cli.top import main_of, remember_typed


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
      bento host add web --key-file web.pub
      bento secret add web db-password.txt --name db-password
      bento deploy
      bento status
    """
    del debug  # cli/top.py looks for it by itself
    remember_typed("bento", "--dir", directory)


@click.command()
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


for command in (
    *(init, migrate, host, secret, build, check, deploy, push, trigger_run, rollback, status, diff, logs),
    *(server, flake_update, completion, man, demo),
):
    bento.add_command(command)

main = main_of(bento, "bento")
