"""`bento host rekey|add-key|remove-key`, and how a host's key is named: as text, in a file, or scanned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bento.admin.edit import add_key, remove_key, replace_keys
from bento.admin.secret_changes import rekey_secrets
from bento.admin.secrets import identities_of
from bento.cli.completing import HOST
from bento.cli.context import ask, confirmed, current_fleet, identity_option
from bento.cli.secret_care import show_steps
from bento.cli.top import complain
from bento.cli.where import fleet_root
from bento.errors import InputError
from bento.models.trust import bracketed
from bento.names import HostName, Target
from bento_secrets.rekey import add_again
from bento_secrets.ssh_keys import SshPublicKey

F = TypeVar("F", bound=Callable[..., Any])

SOME_LEFT = 3
_KEY_FILE = 64 * 1024  # bytes; an authorized_keys-like file with every key of one host
_TIMEOUT = 20  # seconds a scanned machine has to answer
_SSH = 22


def key_options(function: F) -> F:
    """The ways to name a host's key, the same everywhere."""
    for option in (
        click.option(
            "--fingerprint", metavar="SHA256:…", help="With --scan: take the key that has this fingerprint, unasked."
        ),
        click.option(
            "--scan", metavar="ADDRESS[:PORT]", help="Ask the host for it, and you whether it is the right one."
        ),
        click.option(
            "--key-file",
            "files",
            multiple=True,
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="A .pub file; one key a line.",
        ),
        click.option("--key", "keys", multiple=True, metavar="KEY", help="The host's SSH public key, as text."),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("name", type=HOST)
@key_options
@click.option("--keep", is_flag=True, help="Let its other keys log in as before; they come after the new one.")
@identity_option
@click.pass_context
def rekey(
    context: click.Context,
    name: str,
    keys: tuple[str, ...],
    files: tuple[Path, ...],
    scan: str | None,
    fingerprint: str | None,
    keep: bool,
    identities: tuple[Path, ...],
) -> int:
    """Give a host a new key, and seal its secrets to it. Its other keys go, unless you --keep them.

    Secrets that your identity opens are sealed again; the others are named, and need their file again (exit 3). All of
    them are marked "must rotate": the old key could open them. To change keys without a gap, see docs/host-keys.md.

    \b
    Examples:
      bento host rekey web --key-file web.pub
      bento host rekey web --key-file new.pub --keep
      bento host rekey web --scan web.example.org
    """
    parsed_name = HostName.parse(name)
    before = current_fleet(context)
    before.host(parsed_name)
    parsed = parse_keys("rekey", parsed_name, keys, files, scan, fingerprint)
    root = fleet_root(context)
    opened = identities_of(before, identities, ask)
    if keep:
        new = {key.blob for key in parsed}
        parsed = (*parsed, *(key for key in before.hosts[parsed_name].keys if key.blob not in new))
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


@click.command("add-key")
@click.argument("name", type=HOST)
@key_options
@click.pass_context
def add_one(
    context: click.Context,
    name: str,
    keys: tuple[str, ...],
    files: tuple[Path, ...],
    scan: str | None,
    fingerprint: str | None,
) -> None:
    """Let a host log in with one more key. Its secrets stay sealed to the first.

    \b
    Examples:
      bento host add-key web --key-file new.pub
      bento host add-key web --scan web.example.org
    """
    parsed_name = HostName.parse(name)
    current_fleet(context).host(parsed_name)
    parsed = parse_keys("add-key", parsed_name, keys, files, scan, fingerprint)
    if len(parsed) != 1:
        raise InputError(f"these are {len(parsed)} keys, and one is added at a time", "name one")
    fleet = add_key(fleet_root(context), parsed_name, parsed[0])
    click.echo(f"{parsed_name} has {len(fleet.hosts[parsed_name].keys)} keys in bento.toml now")
    click.echo(f"next: let it log in with {parsed[0].fingerprint}: its account on the server needs the new key too")


@click.command("remove-key")
@click.argument("name", type=HOST)
@click.argument("key")
@click.pass_context
def remove_one(context: click.Context, name: str, key: str) -> None:
    """Take one of a host's keys away. KEY is its fingerprint, as `bento host show` prints it, or the key itself.

    The first key stays: its secrets are sealed to it. Put another first with `bento host rekey --keep`.

    \b
    Example:
      bento host remove-key web SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE
    """
    parsed_name = HostName.parse(name)
    before = current_fleet(context).host(parsed_name)
    after = remove_key(fleet_root(context), parsed_name, key).hosts[parsed_name]
    for gone in before.keys:
        if gone.blob not in {one.blob for one in after.keys}:
            click.echo(f"took {gone.fingerprint} from {parsed_name} in bento.toml")
    click.echo("next: take it out of the host's account on the server too")


def parse_keys(
    command: str,
    name: HostName,
    keys: tuple[str, ...],
    files: tuple[Path, ...],
    scan: str | None,
    fingerprint: str | None,
) -> tuple[SshPublicKey, ...]:
    """The keys that a person named, in one of the ways of `key_options`. Raises InputError."""
    if scan is None and fingerprint is not None:
        raise InputError("--fingerprint goes with --scan", f"bento host {command} {name} --scan ADDRESS")
    if scan is not None:
        if keys or files:
            raise InputError("--scan finds the key itself", "leave out --key and --key-file")
        return (_scanned(command, name, scan, fingerprint),)
    lines = [*keys, *(line for file in files for line in key_lines(file))]
    if not lines:
        raise InputError(
            f"{name} needs a key: that of its /etc/ssh/ssh_host_ed25519_key.pub",
            f"bento host {command} {name} --key-file FILE",
            f"or ask the host for it: bento host {command} {name} --scan ADDRESS",
        )
    return tuple(SshPublicKey.parse(line) for line in lines)


def _scanned(command: str, name: HostName, scan: str, fingerprint: str | None) -> SshPublicKey:
    """What the machine shows, once somebody has vouched for it: an unseen key could be anybody's."""
    address, port = _address(scan)
    from bento.adapters.server_keys import shown_keys  # paramiko: the other commands do without

    where = f"{bracketed(address)}:{port}"
    shown = shown_keys(address, port, _TIMEOUT)
    if not shown:
        raise InputError(
            f"{where} has no ssh-ed25519 or ssh-rsa key, to which secrets could be sealed",
            "make one there: ssh-keygen -t ed25519 -f /etc/ssh/ssh_host_ed25519_key",
        )
    if fingerprint is not None:
        for key in shown:
            if key.fingerprint == fingerprint:
                return key
        seen = ", ".join(key.fingerprint for key in shown)
        raise InputError(
            f"{where} shows {seen}, not {fingerprint}: it is another machine, or somebody is in between",
            "look on the host itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    key = shown[0]
    file = "ssh_host_rsa_key.pub" if key.kind == "ssh-rsa" else "ssh_host_ed25519_key.pub"
    click.echo(f"{where} shows the {key.kind} key {key.fingerprint}", err=True)
    click.echo(f"the right one prints the same on the host itself: ssh-keygen -lf /etc/ssh/{file}", err=True)
    again = f"bento host {command} {name} --scan {scan} --fingerprint {key.fingerprint}"
    if not confirmed("Is it the same?", f"if it is the same: {again}"):
        raise InputError(f"the key of {where} was not taken, and nothing was changed", f"if it is: {again}")
    return key


def _address(text: str) -> tuple[str, int]:
    """ADDRESS, ADDRESS:PORT, [IPv6]:PORT or an IPv6 address alone."""
    address, port = text, str(_SSH)
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    if not address or not address.isascii() or not address.isprintable() or " " in address or not _is_port(port):
        raise InputError(f"'{text}' is no address", "for example: web.example.org, or [2001:db8::7]:2222")
    return address, int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) <= 65535  # noqa: PLR2004 — TCP's


def key_lines(file: Path) -> list[str]:
    """The public keys in a file, without addresses. Raises InputError."""
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
        raise InputError(f"{file} holds no key", "name the host's .pub file: /etc/ssh/ssh_host_ed25519_key.pub there")
    return [_without_address(line) for line in lines]


def _without_address(line: str) -> str:
    """A line as ssh-keyscan prints it begins with the address."""
    first, _, rest = line.partition(" ")
    return (
        rest if rest.startswith(("ssh-", "ecdsa-", "sk-")) and not first.startswith(("ssh-", "ecdsa-", "sk-")) else line
    )
