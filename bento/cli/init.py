"""`bento init`."""

import shlex
from pathlib import Path

import click

from bento.admin.discover import host_name_for
from bento.admin.edit import add_host
from bento.admin.init import Answers, Made
from bento.admin.init import init as make
from bento.cli.host_keys import key_lines
from bento.cli.top import warn
from bento.errors import InputError
from bento.names import visible
from bento_secrets.ssh_keys import SshPublicKey


@click.command()
@click.argument("directory", required=False, default=".", metavar="[DIR]", type=click.Path())
@click.option("--fleet", metavar="NAME", help="The fleet's name. Default: the folder's.")
@click.option(
    "--publish-to",
    default="/home/chroot",
    show_default=True,
    metavar="FOLDER|URL",
    help="Where chroots lie: a folder here, or sftp://user@server/folder.",
)
@click.option("--address", metavar="HOST", help="By which hosts reach the SFTP server. Default: this machine's name.")
@click.option("--port", default=22, show_default=True, type=click.IntRange(1, 65535), help="The server's port.")
@click.option("--server-key", metavar="KEY", help="The server's SSH host key, as text. Default: this machine's.")
@click.option(
    "--signing-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The key that signs releases. Default: a new one.",
)
@click.option(
    "--source", metavar="DIR", type=click.Path(), help="A flake that has the hosts already; it isn't changed."
)
@click.option(
    "--keys",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="With --source: add each host that has a key there, as NAME.pub.",
)
def init(
    directory: str,
    fleet: str | None,
    publish_to: str,
    address: str | None,
    port: int,
    server_key: str | None,
    signing_key: Path | None,
    source: str | None,
    keys: Path | None,
) -> None:
    """Make a fleet folder.

    \b
    Examples:
      bento init acme
      bento init acme --address bento.example.org --signing-key ~/.ssh/id_ed25519
      bento init acme --source ../my-flake --keys ../host-keys
      bento init acme --publish-to sftp://bento@bento.example.org/home/chroot --server-key "ssh-ed25519 AAAA…"
    """
    if keys is not None and source is None:
        raise InputError("--keys says which hosts of a flake to add, and none is named", "name it: --source DIR")
    if keys is not None and not keys.is_dir():
        raise InputError(f"the folder {keys} isn't there", "it holds each host's public key, as NAME.pub")
    key = SshPublicKey.parse(server_key) if server_key is not None else None
    made = make(Path(directory), Answers(fleet, publish_to, address, port, key, signing_key, source))
    click.echo(f"made the fleet '{made.fleet}' in {made.root}")
    if made.key_is_new:
        click.echo(f"made a signing key: {made.signing_key} (keep a copy in a safe place)")
    else:
        click.echo(f"releases are signed with {made.signing_key}")
    for sentence in made.todo:
        warn(sentence)
    first = "" if made.root == Path.cwd() else f"cd {shlex.quote(directory)} && "
    if source is None:
        click.echo(f"next: {first}bento host add NAME --key-file NAME.pub")
        return
    click.echo(visible(f"found in {source}: {', '.join(made.found.attributes) or 'no hosts'}"))
    left = _add_hosts(made, keys)
    if left:
        click.echo("next, with the /etc/ssh/ssh_host_ed25519_key.pub of each:")
    for command in left:
        click.echo(visible(f"  {first}{command}"))


def _add_hosts(made: Made, keys: Path | None) -> list[str]:
    """Add the hosts whose keys are there; the commands for the others."""
    left = []
    taken: set[str] = set()
    for attribute in made.found.attributes:
        name = host_name_for(attribute)
        if name is None or name in taken:
            left.append(f"bento host add NAME --attribute {shlex.quote(attribute)} --key-file NAME.pub")
            continue
        taken.add(name)
        other = attribute if attribute != name else None
        files = [] if keys is None else [keys / f"{one}.pub" for one in dict.fromkeys((attribute, name))]
        file = next((one for one in files if one.is_file()), None)
        if file is None:
            named = f" --attribute {shlex.quote(attribute)}" if other else ""
            left.append(f"bento host add {name}{named} --key-file {name}.pub")
            continue
        try:
            parsed = tuple(SshPublicKey.parse(line) for line in key_lines(file))
            add_host(made.root, name, parsed, (), attribute=other)
        except InputError as error:
            warn(f"{name} is not added: {error.message}", error.hints)
            continue
        click.echo(f"added {name} with {file}")
    return left
