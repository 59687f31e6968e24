"""`bento-agent validate`: what a NixOS configuration made of its options is checked while it is built."""

from pathlib import Path
from shlex import quote

import click

from bento.errors import InputError
from bento.models.agent_settings import read_agent_settings
from bento.models.trust import read_trust

_FILE = click.Path(path_type=Path)


@click.command("validate")
@click.option("--settings", type=_FILE, metavar="FILE", help="An agent.toml.")
@click.option("--trust", type=_FILE, metavar="FILE", help="A trust.toml.")
@click.option("--fleet", type=_FILE, metavar="FILE", help="A bento.toml.")
@click.option("--secrets", type=_FILE, metavar="FILE", help="A declaration of secrets, as in a system's bento/.")
def validate(settings: Path | None, trust: Path | None, secrets: Path | None, fleet: Path | None) -> None:
    """Check files before a host relies on them. Looks at nothing else of this machine.

    The NixOS module runs it while a system is built.

    \b
    Example:
      bento-agent validate --settings agent.toml --trust trust.toml --secrets secrets.json
    """
    if settings is None and trust is None and secrets is None and fleet is None:
        raise InputError("there is nothing to check", "name a file: bento-agent validate --trust utils/trust.toml")
    if settings is not None:
        read_agent_settings(settings)
    if trust is not None:
        read_trust(trust)
    if secrets is not None:
        _check_secrets(secrets)
    if fleet is not None:
        _check_fleet(fleet)


def _check_secrets(path: Path) -> None:
    from bento.adapters.declared import read_declaration

    if read_declaration(path) is None:
        raise InputError(f"there is no {path}", "see: bento-agent validate --help")


def _check_fleet(path: Path) -> None:
    """The names and keys that nix/server.nix makes accounts of."""
    from bento.models.fleet import parse_fleet
    from bento.models.strict import Source
    from bento_secrets.ssh_keys import SshPublicKey

    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"can't read {path}", f"see whose it is: ls -l {quote(str(path))}") from None
    for name, host in parse_fleet(Source(str(path), text)).hosts.items():
        for key in host.keys:
            try:
                SshPublicKey.parse(key)
            except InputError as error:
                raise InputError(f"{path}: the key of {name} is wrong: {error.message}", *error.hints) from None
