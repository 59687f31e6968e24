"""`bento init`."""

from pathlib import Path

import click

from bento.admin.init import Answers
from bento.admin.init import init as make
from bento.cli.top import warn
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
def init(
    directory: str,
    fleet: str | None,
    publish_to: str,
    address: str | None,
    port: int,
    server_key: str | None,
    signing_key: Path | None,
) -> None:
    """Make a fleet folder.

    \b
    Examples:
      bento init acme
      bento init acme --address bento.example.org --signing-key ~/.ssh/id_ed25519
      bento init acme --publish-to sftp://bento@bento.example.org/home/chroot --server-key "ssh-ed25519 AAAA…"
    """
    key = SshPublicKey.parse(server_key) if server_key is not None else None
    made = make(Path(directory), Answers(fleet, publish_to, address, port, key, signing_key))
    click.echo(f"made the fleet '{made.fleet}' in {made.root}")
    if made.key_is_new:
        click.echo(f"made a signing key: {made.signing_key} (keep a copy in a safe place)")
    else:
        click.echo(f"releases are signed with {made.signing_key}")
    for sentence in made.todo:
        warn(sentence)
    first = "" if made.root == Path.cwd() else f"cd {directory} && "
    click.echo(f"next: {first}bento host add NAME --key-file NAME.pub")
