"""`bento secret generate`."""

import re
import shlex
import time

import click

from bento.admin.public_halves import public_half
from bento.admin.secret_changes import add_generated
from bento.admin.secrets import check_mode
from bento.cli.completing import SECRET, TARGET
from bento.cli.context import attribute_options, current_fleet
from bento.errors import InputError
from bento.names import SecretName, Target, printable
from bento_secrets.declared import Attributes
from bento_secrets.generate import KINDS, Generated, by_kind, of_command

_OF_SHELLS = re.compile(r"[|&;<>]+|[0-9]?>.*")


@click.command()
@click.argument("target", type=TARGET)
@click.argument("name", type=SECRET)
@click.option("--kind", type=click.Choice(KINDS), help="What to make. Default: password.")
@click.option("--length", type=int, metavar="N", help="Characters of a password, bytes of hex or base64. Default: 32.")
@click.option(
    "--alphabet",
    metavar="ALPHABET",
    help="Of a password: alnum (the default), lower, digits, symbols, or the characters themselves.",
)
@click.option("--exec", "command", metavar="CMD", help="Take what this command writes to stdout. No shell reads it.")
@attribute_options
@click.option("--replace", is_flag=True, help="Give an existing secret new content; unsaid options stay.")
@click.option("--weak", is_flag=True, help="Also make what can be guessed (below 80 bits).")
@click.option("--force", is_flag=True, help="Also a mode that shows it to every user of the host.")
@click.pass_context
def generate(
    context: click.Context,
    target: str,
    name: str,
    kind: str | None,
    length: int | None,
    alphabet: str | None,
    command: str | None,
    owner: str | None,
    group: str | None,
    mode: str | None,
    path: str | None,
    restart: tuple[str, ...],
    reload: tuple[str, ...],
    max_age: str | None,
    replace: bool,
    weak: bool,
    force: bool,
) -> None:
    """Make a secret and seal it for TARGET: a host, or @tag for each host that has the tag.

    The hosts of a tag get the same content. Nobody sees it, and it is never written anywhere unsealed. The public half
    of a pair (ssh-ed25519, wireguard, age) goes to utils/public/HOST/NAME.pub, for host configurations to read.

    \b
    Examples:
      bento secret generate web db-password --restart postgresql.service
      bento secret generate web wg/private --kind wireguard --owner systemd-network
      bento secret generate web api/token --kind hex --max-age 90d
      bento secret generate @dc1 borg --exec 'pass show borg'
      bento secret generate web token --exec 'sh -c "curl -s https://vault.example | jq -r .token"'
    """
    parsed_target, parsed_name = Target.parse(target), SecretName.parse(name)
    attributes = Attributes.parse(
        owner=owner,
        group=group,
        mode=mode,
        path=path,
        restart=restart or None,
        reload=reload or None,
        max_age=max_age,
    )
    check_mode(attributes, force=force)
    fleet = current_fleet(context)
    made, hosts = add_generated(
        fleet,
        parsed_target,
        parsed_name,
        attributes,
        lambda: _made(parsed_name, kind, length, alphabet, command, weak=weak),
        replace=replace,
        now=int(time.time()),
    )
    click.echo(f"sealed {parsed_name} for {', '.join(hosts)}")
    if made.public is not None:
        click.echo(f"public half: {made.public.decode()}")
        for host in hosts:
            click.echo(f"wrote {public_half(host, parsed_name)}")
    click.echo("next: bento deploy")


def _made(
    name: SecretName, kind: str | None, length: int | None, alphabet: str | None, command: str | None, *, weak: bool
) -> Generated:
    if command is None:
        return by_kind(kind or "password", name, length, alphabet, weak=weak)
    if kind is not None or length is not None or alphabet is not None:
        raise InputError("--exec makes the whole secret", "leave out --kind, --length and --alphabet")
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise InputError(
            f"--exec has a command that can't be read: {str(error).lower()}", "for example: --exec 'pass show borg'"
        ) from None
    if not argv:
        raise InputError("--exec has no command", "for example: --exec 'pass show borg'")
    # Unquoted: who types `pwgen | head -c 9` means a shell, and would seal what pwgen makes of `|` without a word.
    if shells := next((word for word in shlex.split(command, posix=False) if _OF_SHELLS.fullmatch(word)), None):
        raise InputError(
            f"--exec runs no shell, and {printable(argv[0])} would take {printable(shells)} for an argument",
            "let a shell read it: --exec 'sh -c \"COMMAND | COMMAND\"'",
        )
    return of_command(argv)
