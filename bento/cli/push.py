"""`bento push` and `bento trigger`."""

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from bento.adapters.process import Stream
from bento.adapters.ssh import Remote
from bento.admin.deploy import deploy
from bento.admin.inventory import Host, load_trust
from bento.admin.push import copy_closure, published_release, remote_of, send, trigger, with_action
from bento.admin.trigger import trigger_by_socket
from bento.cli.build import failures, missed_targets
from bento.cli.completing import HOST
from bento.cli.context import current_fleet
from bento.cli.progress import Progress, progress
from bento.cli.top import warn
from bento.models.manifest import Action
from bento.models.trigger import TriggerPlace
from bento.names import printable

_NOT_FOUND = 127  # a shell's exit code; those above say that a signal ended it
_LONGEST = 4096  # characters of a line
_RESULTS = 100  # lines kept until the end; an agent says one

F = TypeVar("F", bound=Callable[..., Any])


def address_option(function: F) -> F:
    """`--address`, the same for both. The old Bento's TARGET_IP keeps working."""
    return click.option(
        "--address", envvar="TARGET_IP", metavar="HOST", help="HOST or USER@HOST. Default: the host's in bento.toml."
    )(function)


@click.command()
@click.argument("name", metavar="HOST", type=HOST)
@click.option("--action", type=click.Choice(["switch", "boot"]), help="In place of the host's own in bento.toml.")
@address_option
@click.pass_context
def push(context: click.Context, name: str, action: str | None, address: str | None) -> int:
    """Deploy to one host, and have its agent take the release now, over ssh.

    It is built and published, its system is copied there, and the release is sent. The host keeps its rules: signature,
    serial, rollback. In place of the server it is you, coming back over ssh, who confirms the switch; so this works for
    a host that doesn't reach the server. Options for ssh go into NIX_SSHOPTS.

    \b
    Exit: as bento-agent run: 0 done, 1 failed, 4 degraded, 5 rolled back, 6 refused, 75 busy.

    \b
    Examples:
      bento push web
      bento push web --action boot --address root@192.0.2.7
      NIX_SSHOPTS="-p 2222" bento push web
    """
    fleet = current_fleet(context)
    host = fleet.host(name)
    trust = load_trust(fleet.root)
    remote = remote_of(host, address, os.environ)
    asked = with_action(fleet, host, cast("Action | None", action))
    with progress(1) as say:
        done = deploy(asked, trust, (host.name,), lambda: int(time.time()), say)
    for sentence in done.warnings:
        warn(sentence)
    missed_targets(done.missed)
    if done.failed:
        return failures(done.failed, 1)
    if action is not None and action != host.settings.action:
        warn(f"bento.toml says action = {host.settings.action} for {host.name}: the next deploy asks for that")
    release = published_release(asked, trust, host.name, done.published[host.name].serial)
    say = Progress()
    say(host.name, f"copying the system to {remote.login}")
    if not copy_closure(release, remote):
        say(host.name, "its system isn't in this Nix store: the host builds it")
    say(host.name, f"sending release {release.manifest.serial}")
    said = _Said(host)
    return said.ended(remote, send(release, remote, said.tell))


@click.command("trigger")
@click.argument("name", metavar="HOST", type=HOST)
@address_option
@click.pass_context
def trigger_run(context: click.Context, name: str, address: str | None) -> int:
    """Have a host's agent run now, over ssh, and show what it says.

    A host with `trigger = "tcp://…"` in bento.toml is asked through its trigger socket, unless --address is given. That
    tells how the run ended and no more; who answers there isn't proved, so `bento status` has the last word.

    \b
    Exit: as bento-agent run: 0 done or nothing new, 1 failed, 4 degraded, 5 rolled back, 6 refused, 75 busy.

    \b
    Examples:
      bento trigger web
      NIX_SSHOPTS="-p 2222" TARGET_IP=192.0.2.7 bento trigger web
    """
    host = current_fleet(context).host(name)
    if host.trigger is not None and address is None:
        return _by_socket(host, host.trigger)
    remote = remote_of(host, address, os.environ)
    said = _Said(host)
    return said.ended(remote, trigger(remote, said.tell))


def _by_socket(host: Host, place: TriggerPlace) -> int:
    progress = Progress()
    code, words = trigger_by_socket(place, lambda line: progress.output(host.name, line[:_LONGEST]))
    click.echo(f"{host.name}: {words} (says {place}, unsigned); see: bento status")
    return code


class _Said:
    """What a host says is shown, but can't steer the terminal. Its result goes to stdout, after all the rest."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._progress = Progress()
        self._results: deque[str] = deque(maxlen=_RESULTS)

    def tell(self, stream: Stream, line: str) -> None:
        """One line as the host said it."""
        if not line.strip():
            return
        if stream == "out":
            self._results.append(printable(line, _LONGEST))
        else:
            self._progress.output(self._host.name, line)

    def ended(self, remote: Remote, code: int) -> int:
        """Show the result; the exit code for this program."""
        for line in self._results:
            click.echo(f"{self._host.name}: {line}")
        if code == _NOT_FOUND:
            warn(
                f"{' '.join(remote.agent)} wasn't found on {self._host.name}",
                [f'say how it is called there, in bento.toml under [hosts.{self._host.name}]: agent = ["…"]'],
            )
        return code if 0 <= code < _NOT_FOUND else 1
