"""One host during one command: its settings, its trust, its state and its tmpfs, made once and handed on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bento import __version__
from bento.adapters.files import WaitingLock
from bento.adapters.nix import read_system
from bento.agent.state import State
from bento.models.agent_settings import AgentSettings
from bento.models.limits import LIMITS
from bento.models.signed import sha256
from bento.models.trust import Trust, read_trust
from bento.names import Digest, HostName
from bento_secrets.runtime import Runtime

PATIENCE = 120.0  # seconds; opening as many RSA-sealed secrets as a host may have takes 20
Say = Callable[[str], None]  # a line that a person can follow in the journal


@dataclass(frozen=True)
class Confirmation:
    """Who, in place of the server, must reach this host after a switch. `silence` says that he didn't."""

    reached: Callable[[float], bool]  # within so many seconds
    silence: str


@dataclass(frozen=True)
class Host:
    """What every step of a run needs. `clock` gives UTC seconds; `for_users` holds what is opened before users are.

    `command` is how this very agent is called again: an absolute path, and its settings.
    `changing` is held by whoever changes the runtime folder, for that long only: a run calls a switch, whose activation
    changes it too (docs/decisions/0010).
    """

    settings: AgentSettings
    trust: Trust
    state: State
    runtime: Runtime
    for_users: Runtime
    changing: WaitingLock
    clock: Callable[[], int]
    say: Say
    command: tuple[str, ...]
    confirmation: Confirmation | None = None

    @property
    def silence(self) -> str:
        """What is said where nobody confirmed a switch."""
        return "the server could not be reached" if self.confirmation is None else self.confirmation.silence

    @property
    def name(self) -> HostName:
        """The host's name."""
        return self.settings.host

    def running(self) -> str | None:
        """The running system's store path."""
        return read_system(self.settings.paths.current_system)

    def profile(self) -> str | None:
        """The system that the profile points to: the boot default."""
        return read_system(self.settings.paths.profile)

    def circumstances(self) -> Digest:
        """Stands for all on this host that can make a release fail that succeeds elsewhere, but for the network.

        The boot, what runs and would boot, the settings and whom they trust, the identities, and Bento itself.
        """
        identities = [_seen(path) for path in self.settings.identities]
        facts = (__version__, _boot_id(), self.running(), self.profile(), self.settings, self.trust, identities)
        return sha256(repr(facts).encode())

    def gc_root(self, name: str) -> Path:
        """A GC root of this host's state."""
        return self.state.roots / name

    def ensure_runtime(self) -> None:
        """Have a tmpfs of its own for plaintext. Raises RuntimeUnsafe."""
        with self.changing:
            for runtime in (self.runtime, self.for_users):
                runtime.ensure(LIMITS.generation * 2)  # two generations stand beside each other during a switch


def _seen(path: Path) -> tuple[int, ...] | None:
    """Changes when the file does; nothing of what is in it."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        return None


def open_host(
    settings: AgentSettings, clock: Callable[[], int], say: Say, command: tuple[str, ...] = ("bento-agent",)
) -> Host:
    """Read the trust file and make the state folder. Raises InputError, EnvironmentFailed."""
    state = State(settings.paths.state)
    state.prepare()
    root = settings.paths.runtime
    for_users = Runtime(root, for_users=True)
    changing = WaitingLock(state.root / "runtime.lock", "another change of this host's secrets", PATIENCE, say)
    return Host(settings, read_trust(settings.trust), state, Runtime(root), for_users, changing, clock, say, command)
