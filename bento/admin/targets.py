"""The fleet's publish targets, made from bento.toml and pinned by utils/trust.toml."""

import getpass
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bento.adapters.files import Busy, store
from bento.adapters.folder import PublishFolder
from bento.adapters.stamps import Stamps
from bento.adapters.transport import NONE, Objects, PublishTarget
from bento.admin.inventory import MAIN, TRUST, Fleet
from bento.admin.workspace import Workspace
from bento.errors import BentoError, EnvironmentFailed, InputError
from bento.models.targets import SftpPlace
from bento.models.trust import Server, Trust

if TYPE_CHECKING:  # paramiko is imported only where a server is published to
    from bento.adapters.sftp_lock import Owner

_TIMEOUT = 20  # seconds, for a server that trust.toml doesn't name
_SILENCE = 60  # seconds: an admin's uplink may be slow, and much is under way on it


def targets_of(
    fleet: Fleet,
    trust: Trust,
    clock: Callable[[], int] = lambda: int(time.time()),
    *,
    break_lock: bool = False,
    stamps: Stamps | None = None,
) -> tuple[PublishTarget, ...]:
    """Where releases go, in bento.toml's order; nothing is reached yet. Raises InputError for an unpinned server.

    With `stamps`, objects in a folder that haven't changed since they were read aren't read again.
    """
    return tuple(
        PublishFolder(to, stamps) if isinstance(to, Path) else _remote(fleet, trust, to, clock, break_lock=break_lock)
        for to in fleet.publish_to
    )


@dataclass(frozen=True)
class Reached:
    """The targets that do their part, and what is wrong with the others, by name."""

    targets: tuple[PublishTarget, ...]
    missed: Mapping[str, BentoError]


@contextmanager
def approaching(targets: Sequence[PublishTarget]) -> Iterator[Callable[[], None]]:
    """Log in at all of them at once, while something else is done; `writing` in the block says where that fails.

    What it gives raises the first error where it is known that no target is there: to be asked before anything is
    written.
    """
    away: list[BentoError] = []
    with ExitStack() as stack:
        for target in targets:
            try:
                stack.enter_context(target.approached())
            except EnvironmentFailed as error:
                away.append(error)

        def one_is_there() -> None:
            if away and len(away) == len(targets):
                raise away[0]

        yield one_is_there


@contextmanager
def reading(targets: Sequence[PublishTarget]) -> Iterator[Reached]:
    """Be ready to read from all that can be reached. Raises the first error where none can."""
    with ExitStack() as stack:
        yield _usable(targets, lambda target: stack.enter_context(target.opened()))


@contextmanager
def writing(targets: Sequence[PublishTarget], ahead: Objects = NONE) -> Iterator[Reached]:
    """Be ready to write to all that can be reached, other publishers kept out. Raises Busy, or as `reading`.

    `ahead` is what each is asked about first.
    """
    with ExitStack() as stack:
        yield _usable(targets, lambda target: stack.enter_context(target.locked(ahead)))


def still_there(reached: Reached) -> Reached:
    """The targets that are there after the builds, which may have taken hours. Raises Busy where a lock was broken."""
    now = _usable(reached.targets, lambda target: target.refresh())
    return Reached(now.targets, {**reached.missed, **now.missed})


def _usable(targets: Sequence[PublishTarget], prepare: Callable[[PublishTarget], None]) -> Reached:
    usable: list[PublishTarget] = []
    missed: dict[str, BentoError] = {}
    for target in targets:
        try:
            prepare(target)
        except Busy:
            raise  # two deploys, each with a mirror of its own, would tear the mirrors apart
        except BentoError as error:
            missed[target.name] = error
        else:
            usable.append(target)
    if not usable:
        raise next(iter(missed.values()))
    return Reached(tuple(usable), missed)


def _remote(
    fleet: Fleet, trust: Trust, place: SftpPlace, clock: Callable[[], int], *, break_lock: bool
) -> PublishTarget:
    server = _pinned(fleet, trust, place)
    from bento.adapters.sftp import Advice, logged_in
    from bento.adapters.sftp_keys import publisher
    from bento.adapters.sftp_lock import Locking
    from bento.adapters.sftp_target import SftpTarget

    advice = Advice(
        f"the address and port are those of publish.to in {MAIN}",
        f"if the server was renewed, put its new key into {TRUST} or {MAIN}: [publish] host_keys",
    )
    log_in = publisher(place.user, server.where, fleet.publish_identity)
    locking = Locking(lambda: _owner(Workspace(fleet.root)), clock, break_lock)
    return SftpTarget(place, lambda first: logged_in(server, log_in, _SILENCE, advice=advice, first=first), locking)


def _pinned(fleet: Fleet, trust: Trust, place: SftpPlace) -> Server:
    same = [one for one in trust.servers if (one.address.lower(), one.port) == (place.address.lower(), place.port)]
    named = (one.key for one in fleet.file.publish.host_keys if one.is_for(place.address, place.port))
    keys = (*(key for one in same for key in one.host_keys), *named)
    if not keys:
        raise InputError(
            f"the host key of {place} isn't known",
            f'put it into {MAIN}: [publish] host_keys = ["ssh-ed25519 …"]; the line is in the server\'s'
            " /etc/ssh/ssh_host_ed25519_key.pub",
        )
    # The way there is this machine's own: hosts may need a proxy where the admin doesn't, and the reverse.
    proxy = fleet.file.publish.proxy_command
    return Server(place.address, place.port, keys, same[0].timeout if same else _TIMEOUT, proxy)


def _owner(workspace: Workspace) -> "Owner":
    """Who publishes from here. The token is this workspace's for good: a lock that was left behind is known by it."""
    from bento.adapters.sftp_lock import Owner

    path = workspace.root / "publisher"
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not token:
        token = secrets.token_hex(16)
        workspace.prepare()
        store(path, f"{token}\n".encode(), 0o600)
    return Owner(f"{_user()}@{socket.gethostname()}", token)


def _user() -> str:
    """Somebody without an account has a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())
