"""`bento host add|list|rekey|show`."""

from pathlib import Path
from typing import Any

import click

from bento.admin.edit import add_host, as_written, replace_keys
from bento.admin.inventory import Host
from bento.admin.secret_changes import rekey_secrets
from bento.admin.secrets import identities_of
from bento.cli.completing import HOST
from bento.cli.context import ask, chosen, current_fleet, fleet_root, identity_option, json_option, on_option
from bento.cli.render import show_json, show_table
from bento.cli.secret_care import show_steps
from bento.cli.top import complain
from bento.errors import InputError
from bento.names import HostName, TagName, Target, did_you_mean, printable
from bento_secrets.rekey import add_again
from bento_secrets.ssh_keys import SshPublicKey

SOME_LEFT = 3
_KEY_FILE = 64 * 1024  # bytes; an authorized_keys-like file with every key of one host


@click.group()
def host() -> None:
    """The fleet's hosts and their keys."""


@host.command("add")
@click.argument("name")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="The host's SSH public key, as text.")
@click.option(
    "--key-file",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A .pub file; one key a line.",
)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag, for --on @TAG and secrets for @TAG.")
@click.option(
    "--source", metavar="DIR", type=click.Path(), help="Its configuration's folder. Default: hosts/NAME in the fleet."
)
@click.option("--attribute", metavar="NAME", help="Its name in the flake. Default: the host's own.")
@click.pass_context
def add(
    context: click.Context,
    name: str,
    keys: tuple[str, ...],
    files: tuple[Path, ...],
    tags: tuple[str, ...],
    source: str | None,
    attribute: str | None,
) -> None:
    """Add a host to bento.toml. Secrets are sealed to its first key; all may log in.

    \b
    Examples:
      bento host add web --key-file web.pub --tag dc1
      ssh-keyscan -t ed25519 web | bento host add web --key-file /dev/stdin
      bento host add web --key "ssh-ed25519 AAAA… root@web"
      bento host add laptop --key-file laptop.pub --source ../my-flake --attribute MyLaptop
    """
    parsed_name = HostName.parse(name)
    parsed = _parse_keys("add", parsed_name, keys, files)
    root = fleet_root(context)
    parsed_tags = tuple(TagName.parse(tag.removeprefix("@")) for tag in tags)
    written = None if source is None else as_written(source, root)
    add_host(root, parsed_name, parsed, parsed_tags, written, attribute)
    click.echo(f"added {parsed_name} to bento.toml")
    fleet = current_fleet(context)
    added = fleet.hosts[parsed_name]
    if not added.source.is_dir():
        click.echo(f"next: put its configuration into {fleet.shown(added.source)}/")


@host.command("rekey")
@click.argument("name", type=HOST)
@click.option("--key", "keys", multiple=True, metavar="KEY", help="The host's new SSH public key, as text.")
@click.option(
    "--key-file",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A .pub file; one key a line.",
)
@identity_option
@click.pass_context
def rekey(
    context: click.Context, name: str, keys: tuple[str, ...], files: tuple[Path, ...], identities: tuple[Path, ...]
) -> int:
    """Give a host a new key, and seal its secrets to it.

    Secrets that your identity opens are sealed again; the others are named, and need their file again (exit 3). All of
    them are marked "must rotate": the old key could open them.

    \b
    Examples:
      bento host rekey web --key-file web.pub
      ssh-keyscan -t ed25519 web | bento host rekey web --key-file /dev/stdin
    """
    parsed_name = HostName.parse(name)
    parsed = _parse_keys("rekey", parsed_name, keys, files)
    root = fleet_root(context)
    opened = identities_of(current_fleet(context), identities, ask)
    fleet = replace_keys(root, parsed_name, parsed)
    click.echo(f"{parsed_name} has the key {parsed[0].fingerprint} in bento.toml now")
    done = rekey_secrets(fleet, opened, Target(parsed_name), click.echo, partial=True)
    show_steps(done.done)
    if not done.left:
        if done.done:
            click.echo("next: bento deploy")
        return 0
    said = ", ".join(dict.fromkeys(str(step.name) for step in done.left))
    complain(f"{parsed_name} can't open these until they are added again: {said}", add_again(done.left))
    return SOME_LEFT


def _parse_keys(
    command: str, name: HostName, keys: tuple[str, ...], files: tuple[Path, ...]
) -> tuple[SshPublicKey, ...]:
    lines = [*keys, *(line for file in files for line in _key_lines(file))]
    if not lines:
        raise InputError(
            f"{name} needs a key: that of its /etc/ssh/ssh_host_ed25519_key.pub",
            f"bento host {command} {name} --key-file FILE",
        )
    return tuple(SshPublicKey.parse(line) for line in lines)


def _key_lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as handle:
            text = handle.read(_KEY_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text"
        raise InputError(f"can't read {file}: {why}", "name the host's .pub file") from None
    if "PRIVATE KEY" in text:
        raise InputError(f"{file} is a private key; it must never leave its host", f"name the public half: {file}.pub")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise InputError(f"{file} holds no key")
    return [_without_address(line) for line in lines]


def _without_address(line: str) -> str:
    """A line as ssh-keyscan prints it begins with the address."""
    first, _, rest = line.partition(" ")
    return (
        rest if rest.startswith(("ssh-", "ecdsa-", "sk-")) and not first.startswith(("ssh-", "ecdsa-", "sk-")) else line
    )


@host.command("list")
@on_option
@json_option
@click.pass_context
def list_hosts(context: click.Context, on: tuple[str, ...], as_json: bool) -> None:
    """Show the hosts.

    \b
    Examples:
      bento host list
      bento host list --on @dc1 --json
    """
    fleet = current_fleet(context)
    hosts = [fleet.hosts[name] for name in chosen(fleet, on)]
    if as_json:
        show_json([_facts(one) for one in hosts])
    elif not hosts:
        click.echo("no hosts yet; add one: bento host add NAME --key-file FILE", err=True)
    else:
        rows = [[one.name, " ".join(one.tags) or "-", one.keys[0].kind, one.keys[0].fingerprint] for one in hosts]
        show_table(["host", "tags", "key", "fingerprint"], rows)


@host.command("show")
@click.argument("name", type=HOST)
@json_option
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show one host: keys, recipient, tags.

    \b
    Example:
      bento host show web --json
    """
    fleet = current_fleet(context)
    found = next((one for one in fleet.hosts.values() if one.name == name), None)
    if found is None:
        raise InputError(f"no host is called '{printable(name)}'", *did_you_mean(name, fleet.hosts), "bento host list")
    if as_json:
        show_json(_facts(found))
        return
    click.echo(f"name: {found.name}")
    for key in found.keys:
        click.echo(f"key: {key.line}  {key.fingerprint}")
    click.echo(f"recipient: {found.recipient.text}")
    click.echo(f"tags: {' '.join(found.tags) or '-'}")
    click.echo(f"source: {fleet.shown(found.source)}")


def _facts(one: Host) -> dict[str, Any]:
    return {
        "name": one.name,
        "keys": [key.line for key in one.keys],
        "fingerprints": [key.fingerprint for key in one.keys],
        "recipient": one.recipient.text,
        "tags": list(one.tags),
    }
