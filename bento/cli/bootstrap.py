"""`bento host bootstrap`."""

import tomllib

import click
import tomlkit

from bento.admin.inventory import TRUST, load_trust
from bento.cli.completing import HOST
from bento.cli.context import current_fleet
from bento.cli.where import fleet_root
from bento.errors import InputError
from bento.names import HostName

_END = "END-OF-TRUST"


@click.command()
@click.argument("name", type=HOST)
@click.option("--flake", metavar="URL", help="Where the machine gets Bento from; else bento-agent must be there.")
@click.pass_context
def bootstrap(context: click.Context, name: str, flake: str | None) -> None:
    """Print the one command that makes a fresh machine the host NAME. Run it there, as root.

    The server's keys and the signers are in it, so the machine trusts nothing that it meets first. It holds no secret.
    The machine then prints its public key, and waits until it has been added here and a release is published.

    \b
    Examples:
      bento host bootstrap web
      bento host bootstrap web --flake git+https://example.org/bento
    """
    parsed = HostName.parse(name)
    root = fleet_root(context)
    load_trust(root)  # a trust file that a host couldn't read is no use there
    known = current_fleet(context).hosts.get(parsed)
    trust = tomlkit.dumps(tomllib.loads((root / TRUST).read_text("utf-8")))
    if _END in trust:
        raise InputError(f"{TRUST} has the word {_END} in it", "take it out: the command ends with it")
    program = "bento-agent"
    if flake is not None:
        if not flake.isprintable() or set(flake) & set("'\" $`\\;&|<>"):
            raise InputError(f"'{flake}' is no plain URL", "for example: git+https://example.org/bento")
        program = f"nix --extra-experimental-features 'nix-command flakes' run '{flake}#bento-agent' --"
    click.echo(f"{program} bootstrap {parsed} --trust - <<'{_END}'\n{trust.strip()}\n{_END}")
    if known is not None:
        click.echo(f"{parsed} is in bento.toml already, and is to print this key:", err=True)
        click.echo(known.keys[0].line, err=True)
    else:
        click.echo(f"then here, with the key that it prints: bento host add {parsed} --key 'ssh-ed25519 …'", err=True)
