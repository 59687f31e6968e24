"""`agent.toml`: one host's own settings. Read without pydantic (poll path)."""

from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class AgentSettings:
    """`identities`: private host keys, the first logs in, any may open. `confirm_timeout` in seconds."""

    host: HostName
    identities: tuple[Path, ...]
    trust: Path
    paths: AgentPaths
    confirm_timeout: int
    systemctl: tuple[str, ...]


def _path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise InputError(f"'{text}' is not an absolute path")
    return path


def _paths(table: Table) -> AgentPaths:
    default = AgentPaths()
    found = AgentPaths(
        *(
            table.parse(key, table.text(key, str(getattr(default, key))), _path)
            for key in ("state", "runtime", "profile", "current_system")
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
    confirm.done()
    systemd = table.table("systemd", optional=True)
    systemctl = systemd.texts("command", ("systemctl",))
    systemd.done()
    table.done()
    if not systemctl:
        raise systemd.wrong("command", "is empty")
    return AgentSettings(host, identities, trust, paths, confirm_timeout, systemctl)


def read_agent_settings(path: Path) -> AgentSettings:
    """`parse_agent_settings` of a file. Raises InputError."""
    try:
        return parse_agent_settings(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"can't read {path}: {why}", "name the agent's settings with --config FILE") from None
