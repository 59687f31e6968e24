"""`bento-agent trust`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bento.agent.host import Host
from bento.cli.agent_host import host_of
from bento.cli.top import as_typed, complain
from bento.core.trust_rules import Floor
from bento.errors import InputError
from bento.names import Serial

if TYPE_CHECKING:
    from bento.agent.trust import Memory

_KNOWN = "known"  # --floor without a serial
_DAMAGED = 1


@click.command("trust")
@click.option("--floor", is_flag=False, flag_value=_KNOWN, metavar="[SERIAL]",
              help="Go on from what this host knows, or from SERIAL, where floor or journal is damaged.")  # fmt: skip
@click.option("--lower", is_flag=True, help="With --floor SERIAL: though this host has known a newer release.")
@click.option("--dry-run", is_flag=True, help="With --floor: say what would be done; do nothing.")
@click.option("--yes", is_flag=True, help="With --floor: don't ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def trust(context: click.Context, floor: str | None, lower: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Show whom this host trusts, and the floor below which it takes no release.

    The floor is the newest release that it ever accepted. Where that, or the journal of switches, is damaged, gone, or
    older than what is installed, the host takes nothing (exit 1) until a person here says where to go on: --floor. The
    files are put aside with the time in their names, never removed.

    \b
    Examples:
      bento-agent trust
      bento-agent trust --floor --dry-run
      bento-agent trust --floor
      bento-agent trust --floor 1795381234 --lower
    """
    wanted = _serial(floor)
    host = host_of(context)
    if floor is None:
        if lower or dry_run or yes:
            raise InputError("--lower, --dry-run and --yes go with --floor", "see: bento-agent trust --help")
        return _show(host, as_json=as_json)
    if lower and wanted is None:
        raise InputError(
            "--lower needs to be told how low", "name the release: bento-agent trust --floor SERIAL --lower"
        )
    return _mend(host, wanted, lower=lower, dry_run=dry_run, yes=yes, as_json=as_json)


def _serial(floor: str | None) -> Serial | None:
    if floor is None or floor == _KNOWN:
        return None
    if not (floor.isascii() and floor.isdecimal()):
        raise InputError(f"'{floor}' is no serial", "a serial is a whole number: bento-agent trust --floor 1795381234")
    return Serial.parse(int(floor[:20]))


def _show(host: Host, *, as_json: bool) -> int:
    from bento.agent.trust import remembered
    from bento.cli.render import show_json

    memory = remembered(host)
    if as_json:
        show_json(
            {
                "host": host.name,
                "fleet": host.trust.fleet,
                "signers": [signer.fingerprint for signer in host.trust.signers],
                "revoked": [signer.fingerprint for signer in host.trust.revoked],
                "servers": [
                    {
                        "address": server.address,
                        "port": server.port,
                        "host_keys": [key.fingerprint for key in server.host_keys],
                    }
                    for server in host.trust.servers
                ],
                "floor": _facts(memory.floor),
                "known": memory.known,
                "sources": dict(memory.sources),
                "damage": dict(memory.damage),
            }
        )
    else:
        click.echo(f"host: {host.name}")
        click.echo(f"fleet: {host.trust.fleet}")
        for signer in host.trust.signers:
            click.echo(f"signer: {signer.fingerprint} {signer.kind}")
        for signer in host.trust.revoked:
            click.echo(f"revoked: {signer.fingerprint} {signer.kind}")
        for server in host.trust.servers:
            keys = ", ".join(key.fingerprint for key in server.host_keys)
            click.echo(f"server: {server.address} port {server.port}, {keys}")
        click.echo(f"floor: {_said(memory.floor) if memory.floor is not None else '-'}")
        for line in _knowledge(host, memory):
            click.echo(line)
    if not memory.damage:
        return 0
    hints = ["see what would be done about it: bento-agent trust --floor --dry-run"]
    complain("; ".join(memory.damage.values()), hints)
    return _DAMAGED


def _facts(floor: Floor | None) -> dict[str, Any] | None:
    return None if floor is None else {"serial": floor.serial, "progress": floor.progress, "line": floor.line}


def _said(floor: Floor) -> str:
    return f"release {floor.serial}, {floor.progress}"


def _knowledge(host: Host, memory: "Memory") -> list[str]:
    """What this host knows of its past, as lines."""
    said = [f"{source}: up to release {serial}" for source, serial in memory.sources.items() if source != "floor"]
    return [*said, f"running: {host.running() or '-'}"]


def _mend(host: Host, wanted: Serial | None, *, lower: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    from bento.agent.trust import mend, plan
    from bento.agent.turn import locked
    from bento.cli.context import confirmed
    from bento.cli.render import show_json

    with locked(host):  # while a person thinks it over, too: no run changes what he was shown
        wish = plan(host, wanted, lower=lower)
        kept: tuple[Path, ...] = ()
        if wish is not None:
            if not as_json:
                for line in (*wish.before.damage.values(), *_knowledge(host, wish.before)):
                    click.echo(line)
                click.echo(_promise(wish.floor, wish.before.known))
                if wish.journal is not None:
                    committed = wish.journal.committed.serial
                    has = "unknown" if committed is None else f"release {committed}"
                    click.echo(f"journal: made anew; what this host has installed is {has}")
            if not dry_run:
                if not yes and not confirmed("Go on from there?", "go on without being asked: add --yes"):
                    return _DAMAGED if wish.before.damage else 0
                kept = mend(host, wish)
    if as_json:
        show_json(
            {
                "damage": {} if wish is None else dict(wish.before.damage),
                "known": None if wish is None else wish.before.known,
                "floor": None if wish is None else _facts(wish.floor),
                "changed": wish is not None and not dry_run,
                "kept": [str(path) for path in kept],
            }
        )
    elif wish is None:
        click.echo("nothing is damaged, and the floor stays as it is")
    elif not dry_run:
        for path in kept:
            click.echo(f"kept: {path}")
        click.echo(as_typed("next: bento-agent run"))
    return 0


def _promise(floor: Floor, known: Serial | None) -> str:
    said = f"floor: release {floor.serial}; older ones are refused"
    if known is not None and floor.serial < known:
        return f"{said}, newer ones taken, also those before {known}, which this host has had"
    if floor.line is None:
        return f"{said}, and any with this serial that a signer signed is taken"
    return f"{said}, and so is another one with this serial"
