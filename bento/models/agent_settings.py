"""`agent.toml`: one host's own settings. Read without pydantic (poll path)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bento.errors import InputError
from bento.models.strict import Source, Table, parse_toml
from bento.names import HostName


@dataclass(frozen=True)
class AgentPaths:
    """Where things lie on the host; tests and the demo move them."""

    state: Path = Path("/var/lib/bento")
    runtime: Path = Path("/run/bento")
    profile: Path = Path("/nix/var/nix/profiles/system")
    current_system: Path = Path("/run/current-system")
    boot: Path = Path("/boot")
    booted_system: Path = Path("/run/booted-system")


FailedUnits = Literal["fail", "degrade", "ignore"]
FAILED_UNITS: Final[tuple[FailedUnits, ...]] = ("fail", "degrade", "ignore")


@dataclass(frozen=True)
class HealthCommand:
    """A program that must exit with 0 before a new system is confirmed; `timeout` in seconds."""

    run: tuple[str, ...]
    timeout: int


@dataclass(frozen=True)
class AgentSettings:
    """`identities`: private host keys, the first logs in, any may open. `confirm_timeout` in seconds.

    `failed_units`: what units mean that fail since the switch. `deadline`: seconds from the beginning of a switch until
    a timer outside of the agent undoes it. `systemd_run`: the words for systemd-run; None is its own name where there
    is a systemd, and nothing is to do without one. `metrics` is for node_exporter's textfile collector. `desktop`:
    whether people who are logged in get a notice.
    """

    host: HostName
    identities: tuple[Path, ...]
    trust: Path
    paths: AgentPaths
    confirm_timeout: int
    deadline: int
    failed_units: FailedUnits
    health: tuple[HealthCommand, ...]
    systemctl: tuple[str, ...]
    systemd_run: tuple[str, ...] | None
    shutdown: tuple[str, ...]
    metrics: Path | None
    desktop: bool


def _path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise InputError(f"'{text}' is not an absolute path", "begin it with /")
    return path


def _paths(table: Table) -> AgentPaths:
    default = AgentPaths()
    found = AgentPaths(
        *(
            table.parse(key, table.text(key, str(getattr(default, key))), _path)
            for key in ("state", "runtime", "profile", "current_system", "boot", "booted_system")
        )
    )
    table.done()
    return found


def parse_agent_settings(text: str, name: str = "agent.toml") -> AgentSettings:
    """The agent's settings. Raises InputError naming file, line and key."""
    table = Table(Source(name, text), parse_toml(text, name))
    host = table.parse("host", table.text("host"), HostName.parse)
    identities = tuple(
        table.parse("identities", item, _path) for item in table.texts("identities", ("/etc/ssh/ssh_host_ed25519_key",))
    )
    if not identities:
        raise table.wrong("identities", "is empty: the host could neither log in nor open a secret")
    trust = table.parse("trust", table.text("trust", "/etc/bento/trust.toml"), _path)
    paths = _paths(table.table("paths", optional=True))
    confirm = table.table("confirm", optional=True)
    confirm_timeout = confirm.number("timeout", 120, least=1, most=3600)
    deadline = confirm.number("deadline", 1800, least=2, most=86_400)
    failed_units = confirm.choice("failed_units", FAILED_UNITS) if confirm.has("failed_units") else "degrade"
    health = tuple(_health(one) for one in confirm.tables("commands")) if confirm.has("commands") else ()
    confirm.done()
    if deadline <= confirm_timeout:
        raise confirm.wrong("deadline", f"must be more than the timeout of {confirm_timeout} seconds")
    systemd = table.table("systemd", optional=True)
    systemctl = systemd.texts("command", ("systemctl",))
    systemd_run = systemd.texts("run") if systemd.has("run") else None
    shutdown = systemd.texts("shutdown", ("shutdown",))
    systemd.done()
    prometheus = table.table("prometheus", optional=True)
    metrics = prometheus.parse("file", prometheus.text("file"), _path) if prometheus.has("file") else None
    prometheus.done()
    notice = table.table("notice", optional=True)
    desktop = (notice.choice("desktop", ("on", "off")) if notice.has("desktop") else "on") == "on"
    notice.done()
    table.done()
    if not systemctl:
        raise systemd.wrong("command", "is empty")
    return AgentSettings(
        host=host,
        identities=identities,
        trust=trust,
        paths=paths,
        confirm_timeout=confirm_timeout,
        deadline=deadline,
        failed_units=failed_units,
        health=health,
        systemctl=systemctl,
        systemd_run=systemd_run,
        shutdown=shutdown,
        metrics=metrics,
        desktop=desktop,
    )


def _health(table: Table) -> HealthCommand:
    found = HealthCommand(table.texts("run"), table.number("timeout", 30, least=1, most=3600))
    table.done()
    if not found.run:
        raise table.wrong("run", "is empty")
    return found


def read_agent_settings(path: Path) -> AgentSettings:
    """`parse_agent_settings` of a file. Raises InputError."""
    try:
        return parse_agent_settings(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"can't read {path}: {why}", "name the agent's settings with --config FILE") from None
