"""`bento push` and `bento trigger`: the host's agent, called over the admin's own ssh."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bento.adapters.process import Stream, require, run_keeping_tail
from bento.adapters.ssh import BROKEN, Remote, ssh_options
from bento.admin.hold import go_on
from bento.admin.inventory import Fleet, Host
from bento.admin.standing import all_published
from bento.admin.targets import reading, targets_of
from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento.models.fleet import parse_address
from bento.models.limits import LIMITS
from bento.models.manifest import Action, Manifest
from bento.models.push import MANIFEST, OPENING, head
from bento.models.signed import SignedDocument, sha256
from bento.models.trust import Trust
from bento.names import Digest, HostName, Serial

Tell = Callable[[Stream, str], None]  # a line that the host said, as it said it

RECONNECT = 180.0  # seconds in which the admin tries to come back; agents wait 120 unless they are told otherwise
_PAUSE = 1.0  # seconds between two tries
_TROUBLE = 20  # lines of what ssh says when a host isn't reached
_BUSY = 75  # bento-agent's exit code while a run is under way that doesn't wait for this


@dataclass(frozen=True)
class Published:
    """What is published for the host, with its objects in the order in which the host fetches them."""

    document: SignedDocument
    manifest: Manifest
    objects: tuple[tuple[Digest, bytes], ...]


def remote_of(host: Host, address: str | None, environment: Mapping[str, str]) -> Remote:
    """How to reach a host: the given address, else its own. Raises InputError, EnvironmentFailed without ssh."""
    require("ssh")
    login = parse_address(address) if address else host.address
    if login is None:
        raise InputError(
            f"no address is known for {host.name}",
            f'put it into bento.toml, under [hosts.{host.name}]: address = "{host.name}.example.org"',
            "or name it: --address HOST",
        )
    return Remote(login, ssh_options(environment), host.agent)


def with_action(fleet: Fleet, host: Host, action: Action | None) -> Fleet:
    """The fleet in which the host has this action. Raises InputError where it is held: at its settings, too."""
    if action is None:
        return fleet
    if host.hold is not None:
        raise InputError(
            f"{host.name} is held at release {host.hold}, and its action is that release's",
            f"push what it is held at: bento push {host.name}",
            f"or let it go on: {go_on(host.name)}",
        )
    changed = replace(host, settings=host.settings.model_copy(update={"action": action}))
    return replace(fleet, hosts={**fleet.hosts, host.name: changed})


def published_release(fleet: Fleet, trust: Trust, host: HostName, serial: Serial) -> Published:
    """The release that was just published. Raises WorkFailed where it is another by now, or isn't whole."""
    with reading(targets_of(fleet, trust)) as reached:
        target, (document, manifest) = all_published(reached.targets, host, trust, {})[0]
        if manifest.serial != serial:
            raise WorkFailed(f"another release was published for {host} meanwhile", f"try again: bento push {host}")
        wanted = {secret.digest: secret.size for secret in manifest.secrets}
        wanted[manifest.config.digest] = manifest.config.size
        objects = []
        for digest, size in wanted.items():
            data = target.read_object(host, digest, size)
            if data is None or sha256(data) != digest:
                raise WorkFailed(
                    f"an object of release {serial} is not there as it was published",
                    f"publish it anew: bento deploy --on {host}",
                )
            objects.append((digest, data))
    return Published(document, manifest, tuple(objects))


def copy_closure(release: Published, remote: Remote) -> bool:
    """Copy the release's system to the host, so that it needn't build it. False where it isn't in this Nix store.

    Raises WorkFailed where it can't be copied.
    """
    system = release.manifest.system
    if system is None or not Path(system).exists():
        return False
    require("nix-copy-closure")
    # The host takes from its own substituters what they have. NIX_SSHOPTS is Nix's own and in the environment.
    done = run_keeping_tail(
        ["nix-copy-closure", "--use-substitutes", "--to", remote.in_url, system], tail=LIMITS.log_tail
    )
    if done.code != 0:
        raise WorkFailed(
            f"can't copy the system to {remote.login}: {done.words()}",
            f"try it by hand: ssh {remote.login} true",
            "it is published all the same: the host takes it at its next poll",
        )
    return True


def send(release: Published, remote: Remote, tell: Tell) -> int:
    """Stream the release into the host's agent, come back to confirm it, and return what `bento-agent run` would.

    Raises EnvironmentFailed where the host can't be reached, WorkFailed where how it ended can't be known.
    """
    serial = release.manifest.serial
    over = threading.Event()
    _reach(remote, tell)

    def on_line(stream: Stream, line: str) -> None:
        if stream == "out" and line.strip() == f"confirm {serial}":
            tell("err", "it has switched; coming back to confirm")
            # Beside this session, which goes on saying what the host does.
            threading.Thread(target=_come_back, args=(remote, serial, tell, over), daemon=True).start()
        else:
            tell(stream, line)

    try:
        code = remote.call(["receive"], _stream(release), on_line)
    finally:
        over.set()
    if code != BROKEN:
        return code
    # It may be the switch that broke the connection: then the host waits, now or soon.
    tell("err", "the connection broke; coming back")
    return _confirm_and_wait(remote, serial, tell)


def _reach(remote: Remote, tell: Tell) -> None:
    """See that the host can be reached: later, a connection that breaks may be the switch's doing, and is made again.

    ssh's own exit code and words can't tell the two apart. Raises EnvironmentFailed.
    """
    said: deque[tuple[Stream, str]] = deque(maxlen=_TROUBLE)
    if remote.call(["--version"], (), lambda *line: said.append(line)) == BROKEN:
        for line in said:
            tell(*line)
        raise unreachable(remote, "it is published all the same: the host takes it at its next poll")


def _once(tell: Tell) -> Tell:
    """Pass on what differs from the line before: each try to come back would say the same."""
    last: tuple[Stream, str] | None = None

    def tell_once(stream: Stream, line: str) -> None:
        nonlocal last
        if (stream, line) != last:
            tell(stream, line)
        last = (stream, line)

    return tell_once


def _come_back(remote: Remote, serial: Serial, tell: Tell, over: threading.Event) -> None:
    """Try until the host has heard, or the session has ended: the session says how."""
    tell = _once(tell)

    def only_trouble(stream: Stream, line: str) -> None:
        if stream == "err":
            tell(stream, line)

    while not over.is_set():
        if remote.call(("confirm", str(serial)), (), only_trouble) != BROKEN:
            return
        over.wait(_PAUSE)


def _confirm_and_wait(remote: Remote, serial: Serial, tell: Tell) -> int:
    """Try until the host has heard; its run's exit code, once that has ended."""
    tell = _once(tell)
    deadline = time.monotonic() + RECONNECT
    while True:
        code = remote.call(("confirm", "--wait", str(serial)), (), tell)
        if code not in (BROKEN, _BUSY):
            return code
        if time.monotonic() + _PAUSE > deadline:
            raise WorkFailed(
                f"{remote.login} can't be reached any more, so how release {serial} ended isn't known",
                "unless it is confirmed the host rolls back by itself; see: bento status",
            )
        time.sleep(_PAUSE)


def trigger(remote: Remote, tell: Tell) -> int:
    """Run the host's agent once; its exit code. Raises EnvironmentFailed where the host can't be reached."""
    code = remote.call(["run"], (), tell)
    if code == BROKEN:
        raise unreachable(remote)
    return code


def unreachable(remote: Remote, *more: str) -> EnvironmentFailed:
    """The error for a host that ssh doesn't reach, with `more` hints."""
    return EnvironmentFailed(
        f"can't reach {remote.login} by ssh, or the connection broke",
        f"try it by hand: ssh {remote.login} true",
        "options for ssh go into NIX_SSHOPTS",
        *more,
    )


def _stream(release: Published) -> Iterator[bytes]:
    """As models/push.py has it."""
    yield OPENING
    yield head(MANIFEST, len(release.document.raw))
    yield release.document.raw
    for digest, data in release.objects:
        yield head(digest, len(data))
        yield data
