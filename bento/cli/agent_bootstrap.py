"""`bento-agent bootstrap`."""

import sys
from pathlib import Path

import click

from bento.cli.agent_host import host_at, say
from bento.cli.top import complain, warn
from bento.errors import InputError
from bento.names import HostName, visible

_DAY = 86_400
_TRUST = 256 * 1024  # characters; far more than a trust file has
_PATH = click.Path(path_type=Path)


@click.command("bootstrap")
@click.argument("name", required=False)
@click.option("--trust", type=_PATH, metavar="FILE", help="The fleet's utils/trust.toml; - is stdin.")
@click.option("--identity", type=_PATH, default="/etc/ssh/ssh_host_ed25519_key", show_default=True, metavar="FILE",
              help="The host's private key; made if it isn't there.")  # fmt: skip
@click.option("--state", type=_PATH, default="/var/lib/bento", show_default=True, metavar="DIR", help="Its memory.")
@click.option("--wait", type=click.IntRange(1), default=_DAY, show_default=True, metavar="SECONDS",
              help="How long to wait for the admin.")  # fmt: skip
@click.pass_context
def bootstrap(
    context: click.Context, name: str | None, trust: Path | None, identity: Path, state: Path, wait: int
) -> int:
    """Make a fresh machine a host: print its public key, wait until the admin has added it, take the first release.

    `bento host bootstrap NAME` prints the whole command, with the server's key and the signers in it: nothing is
    trusted that it doesn't name. Without NAME the machine's own settings are used. Exits as `bento-agent run` does.

    \b
    Examples:
      bento-agent bootstrap web --trust trust.toml
      bento-agent bootstrap
    """
    from bento.agent.bootstrap import await_release, ensure_identity, write_settings
    from bento.agent.run import run

    own = Path(context.find_root().params["config"])
    if name is None:
        if trust is not None:
            raise InputError(
                "a trust file needs the host's name too", "for example: bento-agent bootstrap web --trust -"
            )
        settings = own
    else:
        if trust is None:
            raise InputError(
                "there is nothing to trust: name the fleet's trust file",
                "let the admin's machine print the whole command: bento host bootstrap NAME",
            )
        settings = write_settings(state, HostName.parse(name), identity, _text(trust))
    host = host_at(settings)
    key = ensure_identity(host.settings.identities[0], say)
    click.echo(key.line)
    say(f"on the admin's machine: bento host add {host.name} --key '{key.line}' && bento deploy --on {host.name}")
    say(f"or, if it is in bento.toml with another key: bento host rekey {host.name} --key '{key.line}'")
    await_release(host, wait)
    done = run(host)
    if done.code != 0:
        complain(done.message, [f"try it again: bento-agent --config {settings} run"])
        return done.code
    click.echo(visible(done.message))
    if settings != own and not own.exists():
        warn(f"the new system has no {own}: it won't poll by itself", ["let its configuration import nix/agent.nix"])
    return done.code


def _text(trust: Path) -> str:
    try:
        if str(trust) == "-":
            return sys.stdin.read(_TRUST)
        with trust.open("r", encoding="utf-8") as file:
            return file.read(_TRUST)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"can't read {trust}: {why}", "it is the fleet's utils/trust.toml") from None
