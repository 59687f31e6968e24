"""`bento secret edit|remove|show`."""

import sys
import time
from pathlib import Path

import click

from bento.admin.secret_changes import remove_secret
from bento.admin.secrets import identities_of, need_identities
from bento.cli.completing import SECRET, TARGET
from bento.cli.context import ask, current_fleet, identity_option
from bento.cli.secret_care import parse_target, show_steps
from bento.cli.top import complain, warn
from bento.errors import InputError
from bento.names import SecretName, Target
from bento_secrets.rekey import add_again

SOME_LEFT = 3
_PLAIN_CONTROLS = b"\t\n\r"


@click.command()
@click.argument("target", type=TARGET)
@click.argument("name", type=SECRET)
@identity_option
@click.option("--force", is_flag=True, help="Show it on a terminal even if it is binary.")
@click.pass_context
def show(context: click.Context, target: str, name: str, identities: tuple[Path, ...], force: bool) -> None:
    """Write a secret's content to stdout, as it is. TARGET may be a host that gets it from a tag.

    \b
    Examples:
      bento secret show web db-password
      bento secret show @dc1 tls/site.key | openssl pkey -noout
    """
    fleet = current_fleet(context)
    parsed, parsed_name = parse_target(fleet, target), SecretName.parse(name)
    opened = need_identities(fleet, identities, ask)
    data = fleet.store.open(parsed, parsed_name, fleet.members, opened).plaintext.data
    if sys.stdout.isatty() and not force and _is_binary(data):
        raise InputError(
            f"{parsed_name} is binary, and a terminal would take it for commands",
            f"bento secret show {parsed} {parsed_name} > FILE",
            "or show it all the same: --force",
        )
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _is_binary(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return True
    return any(not char.isprintable() and char.encode() not in _PLAIN_CONTROLS for char in text)


@click.command()
@click.argument("target", type=TARGET)
@click.argument("name", type=SECRET)
@identity_option
@click.pass_context
def edit(context: click.Context, target: str, name: str, identities: tuple[Path, ...]) -> None:
    """Change a secret in your editor ($VISUAL or $EDITOR). The text is in RAM only, and removed afterwards.

    Unchanged content is not sealed again; an editor that fails changes nothing.

    \b
    Examples:
      bento secret edit web db-password
      EDITOR=nano bento secret edit @dc1 app/env --identity ~/.ssh/id_ed25519
    """
    from bento.admin.editing import edit_secret

    fleet = current_fleet(context)
    parsed, parsed_name = parse_target(fleet, target), SecretName.parse(name)
    opened = need_identities(fleet, identities, ask)
    hosts = edit_secret(fleet, parsed, parsed_name, opened, lambda: int(time.time()), warn)
    if not hosts:
        click.echo(f"{parsed_name} is unchanged")
        return
    click.echo(f"sealed {parsed_name} for {', '.join(hosts)}")
    click.echo("next: bento deploy")


@click.command()
@click.argument("target", type=TARGET)
@click.argument("name", type=SECRET)
@identity_option
@click.pass_context
def remove(context: click.Context, target: str, name: str, identities: tuple[Path, ...]) -> int:
    """Remove a secret: its declaration and its sealed copies. Hosts drop it with their next release.

    If a host's tag has a secret of that name, the host gets that one from now on; your identity opens it for that, and
    without one its file is asked for (exit 3).

    \b
    Example:
      bento secret remove web db-password
    """
    fleet = current_fleet(context)
    parsed, parsed_name = Target.parse(target), SecretName.parse(name)
    tags = {f"@{tag}" for host in fleet.hosts.values() if str(host.name) == str(parsed) for tag in host.tags}
    inherits = any(one.name == parsed_name and one.target in tags for one in fleet.store.read().declarations)
    opened = identities_of(fleet, identities, ask) if inherits and fleet.admins else ()
    done = remove_secret(fleet, parsed, parsed_name, opened, click.echo)
    click.echo(f"removed {parsed_name} for {parsed}")
    show_steps(done.resealed)
    if not done.missing:
        click.echo("next: bento deploy")
        return 0
    for step in done.missing:
        complain(f"{step.name} for {step.host} is missing: the host {step.reasons[0]}", add_again([step]))
    return SOME_LEFT
