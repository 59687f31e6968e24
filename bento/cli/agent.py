"""`bento-agent`: what runs on a host."""

import json
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from bento import __version__
from bento.agent.host import Host, open_host
from bento.cli.agent_validate import validate
from bento.cli.top import complain, main_of
from bento.errors import BentoError
from bento.models.agent_settings import read_agent_settings

DEGRADED = 4
SETTINGS = "/etc/bento/agent.toml"


class _Agent(click.Group):
    """Its hints name the settings that this command was given, so that they can be typed as they stand."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BentoError as error:
            error.hints = tuple(_named(ctx, hint) for hint in error.hints)
            raise


def _named(context: click.Context, hint: str) -> str:
    config = context.find_root().params["config"]
    return hint if config == SETTINGS else hint.replace("bento-agent ", f"bento-agent --config {shlex.quote(config)} ")


@click.group(cls=_Agent, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", default=SETTINGS, show_default=True, metavar="FILE", help="Its settings.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="bento-agent")
def agent(config: str, debug: bool) -> None:
    """Keep this host at the release that its admin signed for it."""


def _host(context: click.Context) -> Host:
    config = Path(context.find_root().params["config"])
    settings = read_agent_settings(config)
    # Links are followed: a new system moves /run/current-system/sw, and this agent must still be found.
    program = Path(shutil.which(sys.argv[0]) or sys.argv[0]).resolve()
    command = (str(program), "--config", str(config.resolve()))
    return open_host(settings, lambda: int(time.time()), lambda line: click.echo(line, err=True), command)


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

    done = run(_host(context))
    if done.code == 0:
        click.echo(done.message)
    else:
        failed_before = done.outcome is None and done.code == 1
        hint = "try it once more: bento-agent retry" if failed_before else "see what this host has: bento-agent status"
        complain(done.message, [_named(context, hint)])
    return done.code


@agent.command("retry")
@click.pass_context
def retry(context: click.Context) -> None:
    """Let the next run try a release again that failed.

    A release that had to be rolled back isn't tried again while nothing changes on the host, and none more than three
    times; a newer one is tried by itself.

    \b
    Example:
      bento-agent retry && bento-agent run
    """
    from bento.agent.control import retry

    click.echo(retry(_host(context)))


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

    done = recover_now(_host(context), dead_man=dead_man)
    if done.code == 0:
        click.echo(done.message)
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

    host = _host(context)
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


@agent.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show which release this host has, and whether anything is under way.

    \b
    Example:
      bento-agent status --json
    """
    host = _host(context)
    journal, floor = host.state.journal(), host.state.floor()
    live = host.runtime.live()
    facts = {
        "host": host.name,
        "fleet": host.trust.fleet,
        "phase": journal.phase,
        "committed": journal.committed.serial,
        "system": journal.committed.system,
        "running": host.running(),
        "secrets": live,
        "accepted": None if floor is None else floor.serial,
        "tries": 0 if floor is None else floor.tries,
        "reports_waiting": len(host.state.spooled()),
    }
    if as_json:
        json.dump(facts, sys.stdout, indent=2)
        click.echo()
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' ')}: {'-' if value is None else value}")


agent.add_command(validate)

main = main_of(agent, "bento-agent")
