"""`bento-agent`: what runs on a host."""

import json
import os
import signal
import socket
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bento import __version__
from bento.cli.agent_bootstrap import bootstrap
from bento.cli.agent_host import host_of
from bento.cli.agent_trust import trust
from bento.cli.agent_validate import validate
from bento.cli.top import complain, main_of, remember_typed
from bento.models.agent_settings import read_agent_settings
from bento.names import Serial, visible

if TYPE_CHECKING:
    from bento.agent.run import Ran

DEGRADED = 4
_LONGEST_RUN = 600.0  # seconds that `confirm --wait` waits for the run to end
SETTINGS = "/etc/bento/agent.toml"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", default=SETTINGS, show_default=True, metavar="FILE", help="Its settings.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="bento-agent")
def agent(config: str, debug: bool) -> None:
    """Keep this host at the release that its admin signed for it."""
    del debug  # cli/top.py looks for it by itself
    remember_typed("bento-agent", "--config", None if config == SETTINGS else config)


@agent.command("run")
@click.pass_context
def run_once(context: click.Context) -> int:
    """Poll once; take what is new: verify, fetch, open its secrets, build, switch, confirm, report.

    \b
    Exit: 0 done or nothing new, 1 failed or the server is away, 4 degraded, 5 rolled back, 6 refused, 75 busy.

    \b
    Example:
      bento-agent --config /etc/bento/agent.toml run
    """
    from bento.agent.run import run

    return _told(run(host_of(context)))


def _told(done: "Ran") -> int:
    if done.code == 0:
        click.echo(visible(done.message))
    else:
        failed_before = done.outcome is None and done.code == 1
        hint = "try it once more: bento-agent retry" if failed_before else "see what this host has: bento-agent status"
        complain(done.message, [hint])
    return done.code


@agent.command("receive")
@click.pass_context
def receive(context: click.Context) -> int:
    """Take a release from stdin, as `bento push` sends it: verified and judged as one from the server.

    A switch is confirmed by the admin who comes back (`bento-agent confirm`), in place of the server. The exit codes
    are those of `run`.

    \b
    Example:
      cat release | bento-agent receive
    """
    from bento.agent.receive import receive

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the run ends in order though the connection is gone

    def announce(serial: Serial) -> None:
        with suppress(OSError):
            click.echo(f"confirm {serial}")
            sys.stdout.flush()

    return _told(receive(host_of(context), 0, announce))


@agent.command("answer")
@click.pass_context
def answer(context: click.Context) -> None:
    """Poll because somebody has connected to the trigger socket, and tell him on stdout how that ended.

    For the socket's unit, as services.bento.trigger makes it. Nothing is read from him, and he learns the exit code of
    `bento-agent run` and no more. At most one poll in ten seconds is made so.

    \b
    Example:
      bento-agent answer
    """
    from bento.adapters.systemd import Systemd
    from bento.agent.answer import GAP, answer

    began = time.monotonic()
    settings = read_agent_settings(Path(context.find_root().params["config"]))
    stranger = stat.S_ISSOCK(os.fstat(1).st_mode)
    if stranger:
        os.set_blocking(1, False)  # he needn't read what he is told

    def tell(line: str) -> None:
        with suppress(OSError):
            os.write(1, f"{line}\n".encode("ascii"))

    try:
        answer(Systemd(settings.systemctl), tell)
    finally:
        if stranger:
            # He needn't wait with those who come next. systemd holds the connection too, so closing it isn't enough.
            with suppress(OSError), socket.socket(fileno=os.dup(1)) as connection:
                connection.shutdown(socket.SHUT_RDWR)
            time.sleep(max(0.0, GAP - (time.monotonic() - began)))


@agent.command("confirm")
@click.argument("serial", type=int)
@click.option("--wait", is_flag=True, help="Until the run has ended.")
@click.pass_context
def confirm(context: click.Context, serial: int, wait: bool) -> None:
    """Say that the admin still reaches this host: the switch that waits for it stands.

    \b
    Exit: 0 confirmed or installed, 5 the run is over without it, 75 a run is under way that doesn't wait for this.

    \b
    Example:
      bento-agent confirm 1795381234
    """
    from bento.agent.control import confirm

    click.echo(confirm(host_of(context), Serial.parse(serial), wait=_LONGEST_RUN if wait else 0))


@agent.command("retry")
@click.pass_context
def retry(context: click.Context) -> None:
    """Let the next run try a release again that failed, or look for newer inputs.

    A release that had to be rolled back isn't tried again while nothing changes on the host, and none more than three
    times; a newer one is tried by itself. Where no release failed, but the host may update inputs of its flake by
    itself, the next run does so at once.

    \b
    Example:
      bento-agent retry && bento-agent run
    """
    from bento.agent.control import retry

    click.echo(retry(host_of(context)))


@agent.command("recover")
@click.option("--dead-man", is_flag=True, help="For the timer: stop a run and a switch that hang, first.")
@click.pass_context
def recover_now(context: click.Context, dead_man: bool) -> int:
    """Finish or undo what a run was doing when it was cut off. Each run does so first; this needs no network.

    \b
    Exit: 0 nothing to do or finished, 1 failed, 5 rolled back, 75 busy.

    \b
    Example:
      bento-agent recover
    """
    from bento.agent.control import recover_now

    done = recover_now(host_of(context), dead_man=dead_man)
    if done.code == 0:
        click.echo(visible(done.message))
    else:
        complain(done.message, ["see what this host has: bento-agent status"])
    return done.code


@agent.command("install-secrets")
@click.option("--system", metavar="PATH", help="The system being activated. Default: the running one.")
@click.option("--for-users", is_flag=True, help="Only those that must be there before users: passwords' hashes.")
@click.pass_context
def install_secrets(context: click.Context, system: str | None, for_users: bool) -> int:
    """Open the secrets of the release that belongs to a system, without the network. For boot and activation.

    Another that is under way is waited for.

    \b
    Exit: 0 done, 1 failed, 4 an owner doesn't exist yet.

    \b
    Example:
      bento-agent install-secrets --system /nix/store/…-nixos-system-web
    """
    from bento.agent.recover import reinstall, reinstall_for_users

    host = host_of(context)
    belonging = system if system is not None else host.running()
    if for_users:
        with host.changing:
            done = reinstall_for_users(host, belonging)
        where = host.for_users.secrets
        click.echo(
            "no release has been installed yet"
            if done is None
            else f"the secrets of release {done} for users are in {where}"
        )
        return 0
    with host.changing:
        serial, without = reinstall(host, belonging)
    if serial is None:
        click.echo("no release has been installed yet")
        return 0
    click.echo(f"the secrets of release {serial} are in {host.runtime.secrets}")
    if without:
        complain(f"this host lacks {', '.join(map(str, without))}: root keeps what is theirs")
        return DEGRADED
    return 0


@agent.command("suspend")
@click.option("--for", "span", default="12h", show_default=True, metavar="SPAN", help="30m, 12h or 7d; 30d at most.")
@click.pass_context
def suspend(context: click.Context, span: str) -> None:
    """Take no updates and make no reboot for a while. What is under way goes on; the server sees that the host lives.

    \b
    Example:
      bento-agent suspend --for 7d
    """
    from bento.agent.suspend import parse_span, suspend

    seconds = parse_span(span)
    click.echo(suspend(host_of(context), seconds))


@agent.command("resume")
@click.pass_context
def resume(context: click.Context) -> None:
    """Take updates again.

    \b
    Example:
      bento-agent resume
    """
    from bento.agent.suspend import resume

    click.echo(resume(host_of(context)))


@agent.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--oneline", is_flag=True, help="Print one short line, for a status bar.")
@click.pass_context
def status(context: click.Context, as_json: bool, oneline: bool) -> None:
    """Show which release this host has, and whether anything is under way.

    \b
    State: new, up to date, reboot wanted, updating, failing, failed (it is left: see bento-agent retry), suspended,
    switching, committing.

    \b
    Example:
      bento-agent status --oneline
    """
    from bento.agent.facts import facts_of

    facts = facts_of(host_of(context))
    if as_json:
        json.dump(facts.as_dict(), sys.stdout, indent=2)
        click.echo()
    elif oneline:
        click.echo(visible(facts.oneline()))
    else:
        for name, value in facts.as_dict().items():
            click.echo(visible(f"{name.replace('_', ' ')}: {'-' if value is None else value}"))


agent.add_command(bootstrap)
agent.add_command(trust)
agent.add_command(validate)

main = main_of(agent, "bento-agent")
