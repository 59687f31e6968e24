"""`bento migrate`."""

import shlex
from pathlib import Path
from typing import Any

import click

from bento.admin.migrate import AGENTS, Choices, Plan, identities_of, plan_migration
from bento.admin.migrate import migrate as make
from bento.cli.context import ask_visibly, json_option
from bento.cli.render import show_json, show_table
from bento.cli.top import warn
from bento.errors import InputError
from bento_secrets.ssh_keys import SshPublicKey

NOTHING_DONE = 1


@click.command()
@click.argument("old", metavar="OLD_DIR", type=click.Path(path_type=Path))
@click.argument("new", metavar="[NEW_DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show the plan and make nothing.")
@click.option("--yes", is_flag=True, help="Make it without asking.")
@click.option("--fleet", metavar="NAME", help="The fleet's name. Default: the new folder's.")
@click.option("--fleet-nix", metavar="FILE", type=click.Path(path_type=Path), help="What names the hosts' keys.")
@click.option("--publish-to", metavar="FOLDER|URL", help="Where chroots lie. Default: CHROOT_DIR.")
@click.option("--address", metavar="HOST", help="By which hosts reach the server. Default: REMOTE_IP.")
@click.option("--port", type=click.IntRange(1, 65535), help="The server's port. Default: REMOTE_PORT.")
@click.option("--server-key", metavar="KEY", help="The server's SSH host key, as text. Default: this machine's.")
@click.option(
    "--signing-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The key that signs releases. Default: a new one.",
)
@json_option
def migrate(
    old: Path,
    new: Path | None,
    dry_run: bool,
    yes: bool,
    fleet: str | None,
    fleet_nix: Path | None,
    publish_to: str | None,
    address: str | None,
    port: int | None,
    server_key: str | None,
    signing_key: Path | None,
    as_json: bool,
) -> int:
    """Make a fleet from a folder of the bash Bento. That folder isn't changed, and goes on working.

    config.sh is read, never run; what can't be told from it is named. Without NEW_DIR the fleet is made beside OLD_DIR.

    \b
    Examples:
      bento migrate old-fleet --dry-run
      bento migrate old-fleet fleet
    """
    key = SshPublicKey.parse(server_key) if server_key is not None else None
    folder = new or Path(f"{old.absolute()}-new")
    plan = plan_migration(old, folder, Choices(fleet, publish_to, address, port, key, signing_key, fleet_nix))
    if as_json:
        show_json(_facts(plan))
    else:
        _show(plan)
    if dry_run:
        return 0
    if not yes:
        answer = ask_visibly(f"make the fleet in {folder}? (yes/no)")
        if not answer:
            raise InputError("nobody is there to be asked, so that nothing was made", "go on with --yes")
        if answer not in ("y", "yes"):
            click.echo("nothing was made", err=True)
            return NOTHING_DONE
    made = make(plan)
    for sentence in made.todo:
        warn(sentence)
    if not as_json:
        new_key = " (keep a copy in a safe place)" if made.key_is_new else ""
        click.echo(f"made the fleet '{made.fleet}' in {made.root}, signed with {made.signing_key}{new_key}")
        click.echo(f"next: cd {shlex.quote(str(folder))} && bento deploy")
        click.echo(
            f"then bring {AGENTS}/NAME.toml and utils/trust.toml to each host, as /etc/bento/agent.toml and trust.toml"
        )
    return 0


def _show(plan: Plan) -> None:
    answers = plan.answers
    click.echo(f"from {plan.old.root}, which stays as it is, to {plan.new}")
    click.echo(f"keys are read from: {', '.join(str(file) for file in plan.old.files)}")
    click.echo(f"publish to: {answers.publish}")
    click.echo(f"hosts' server: {answers.address}, port {answers.port}, timeout {answers.timeout} seconds")
    if answers.dry_build:
        click.echo("build.mode: dry-build (NOLOCALBUILD)")
    rows = []
    for host in plan.old.hosts:
        where = f"hosts/{host.folder}" + (f"#{host.attribute}" if host.attribute else "")
        settings = ", ".join(f"{key} = {value}" for key, value in host.settings.items())
        rows.append([host.name, where, host.keys[0].fingerprint, " ".join(identities_of(host)), settings])
    show_table(["host", "configuration", "key", "identity on the host", ""], rows)
    for one in plan.left:
        warn(f"not taken over: {one.what}: {one.why}", one.hints)
    for note in plan.notes:
        warn(note)


def _facts(plan: Plan) -> dict[str, Any]:
    answers = plan.answers
    return {
        "old": str(plan.old.root),
        "new": str(plan.new),
        "fleet": answers.fleet,
        "publish_to": answers.publish,
        "address": answers.address,
        "port": answers.port,
        "timeout": answers.timeout,
        "dry_build": answers.dry_build,
        "hosts": [
            {
                "name": host.name,
                "source": f"hosts/{host.folder}",
                "attribute": host.attribute or host.name,
                "keys": [key.line for key in host.keys],
                "identities": list(identities_of(host)),
                "settings": dict(host.settings),
            }
            for host in plan.old.hosts
        ],
        "left": [{"what": one.what, "why": one.why, "hints": list(one.hints)} for one in plan.left],
        "notes": list(plan.notes),
    }
