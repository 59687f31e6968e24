"""`bento-agent bootstrap`: from a fresh machine to a host. Nothing is trusted on first use: its trust is brought."""

import time
from collections.abc import Callable
from pathlib import Path

from bento.adapters.files import store
from bento.adapters.process import run
from bento.agent.host import Host
from bento.agent.link import MANIFEST, connected
from bento.errors import BentoError, EnvironmentFailed, InputError, Refused
from bento.models.limits import LIMITS
from bento.models.trust import parse_trust
from bento.names import HostName
from bento_secrets.ssh_keys import SshPublicKey

_SLOWEST = 30.0  # seconds between two looks at the server


def write_settings(state: Path, name: HostName, identity: Path, trust: str) -> Path:
    """Settings for the time until the machine's own system brings some; where they lie. Raises InputError."""
    parse_trust(trust, "the trust file")
    folder = state / "bootstrap"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailed(f"can't make {folder}: {error.strerror}", "run it as root") from None
    store(folder / "trust.toml", trust.encode(), 0o644)
    lines = (
        f'host = "{name}"',
        f"identities = [{_quoted(identity)}]",
        f"trust = {_quoted(folder / 'trust.toml')}",
        "[paths]",
        f"state = {_quoted(state)}",
    )
    store(folder / "agent.toml", "".join(f"{line}\n" for line in lines).encode(), 0o644)
    return folder / "agent.toml"


def _quoted(path: Path) -> str:
    text = str(path)
    if not text.isprintable() or set(text) & set("'\"\\"):
        raise InputError(f"{path} is no plain path", "name one without quotes and backslashes")
    return f'"{text}"'


def ensure_identity(path: Path, say: Callable[[str], None]) -> SshPublicKey:
    """The public half of the host key at `path`, which is made if there is none. Raises EnvironmentFailed."""
    if not path.exists():
        done = run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root@host", "-f", str(path)], timeout=60)
        if done.code != 0:
            raise EnvironmentFailed(f"can't make a host key at {path}: {done.words()}", "run it as root")
        say(f"made a host key: {path}")
    done = run(["ssh-keygen", "-y", "-P", "", "-f", str(path)], timeout=60)
    if done.code != 0:
        raise EnvironmentFailed(f"can't read the host key {path}: {done.words()}", "run it as root")
    return SshPublicKey.parse(done.out.decode("utf-8", "replace").strip())


def await_release(host: Host, seconds: float) -> None:
    """Wait until the server lets this host in and has a release for it, saying what is missing.

    Raises Refused at once for a server that isn't the one that is trusted, EnvironmentFailed after `seconds`.
    """
    deadline = time.monotonic() + seconds
    said, pause = "", 1.0
    while (missing := _missing(host)) is not None:
        if missing != said:
            host.say(f"waiting: {missing}")
            said, pause = missing, 1.0
        if time.monotonic() + pause > deadline:
            raise EnvironmentFailed(f"after {seconds:.0f} seconds still {missing}", "run it again once that is done")
        time.sleep(pause)
        pause = min(pause * 1.5, _SLOWEST)


def _missing(host: Host) -> str | None:
    from bento.adapters.sftp import NotThere

    try:
        with connected(host) as session:
            session.read(MANIFEST, LIMITS.manifest)
    except NotThere:
        return "nothing is published for this host (bento deploy)"
    except (Refused, InputError):
        raise
    except BentoError as error:
        return error.message
    return None
