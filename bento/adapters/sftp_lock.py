"""The publisher's lock over SFTP: a file that only one can make, saying whose it is and since when."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from bento.adapters import protocol, sftp_files
from bento.adapters.files import Busy
from bento.adapters.protocol import Answer, NotThere, SaidNo
from bento.adapters.wire import Wire
from bento.core.deploy_plan import MAX_AHEAD
from bento.errors import EnvironmentFailed, WorkFailed
from bento.models.limits import LIMITS
from bento.models.signed import canonical
from bento.names import printable


@dataclass(frozen=True)
class Owner:
    """Who publishes. `name` is for people; `token` is one workspace's own, in which only one deploy runs at a time."""

    name: str
    token: str


@dataclass(frozen=True)
class Locking:
    """How to take the lock: as whom, by which clock (UTC seconds), and whether over another's."""

    owner: Callable[[], Owner]  # asked only when the lock is wanted
    clock: Callable[[], int]
    break_lock: bool = False


@dataclass(frozen=True)
class _Holder:
    name: str
    token: str
    since: int | None


def reach_for(wire: Wire, root: str) -> Answer:
    """Begin to make the lock in `root`: what the server says is for `take`. Raises ServerAway."""
    # The folder may be there, or not be ours to make: what is asked after it tells.
    wire.ask(protocol.MKDIR, protocol.text(lock_path(root).rpartition("/")[0]), protocol.mode_only(0o700))
    return _make(wire, root)


def _make(wire: Wire, root: str) -> Answer:
    flags = protocol.u32(protocol.FLAG_WRITE | protocol.FLAG_CREATE | protocol.FLAG_EXCLUSIVE)
    return wire.ask(protocol.OPEN, protocol.text(lock_path(root)), flags, protocol.mode_only(0o600))


def take(
    wire: Wire, root: str, opened: Answer, owner: Owner, how: Locking, target: str, user: str
) -> Callable[[], None]:
    """Make the lock in `root`. A left-over of this workspace's own is taken over, another's only with `break_lock`.

    Raises Busy, EnvironmentFailed where there is no place for it, ServerAway. Nobody else publishes from here on, and
    reading may begin: what is given is to be called before anything else. It waits until the lock says whose it is,
    and raises WorkFailed where the clocks differ, SaidNo where it can't be written, ServerAway. Then: `release`.
    """
    path = lock_path(root)
    for last in (False, True):
        try:
            handle = protocol.text(protocol.expect(opened, protocol.HANDLE).text())
            break
        except SaidNo as error:
            holder = _holder(wire, path)
            if holder is None:
                raise EnvironmentFailed(
                    f"{target}: can't write to {root}/.publisher: {error.message}",
                    f"on the server, as root: install -d -m 700 -o {user} {root.rstrip('/')}/.publisher",
                ) from None
            if last or not (how.break_lock or holder.token == owner.token):
                raise _busy(holder, how.clock(), target) from None
            wire.do(protocol.REMOVE, protocol.text(path))
            opened = _make(wire, root)
    now = how.clock()
    line = canonical({"owner": owner.name, "time": now, "token": owner.token})
    written = wire.ask(protocol.WRITE, handle, protocol.u64(0), protocol.text(line))
    stat, closed = wire.ask(protocol.FSTAT, handle), wire.ask(protocol.CLOSE, handle)

    def make_sure() -> None:
        try:
            protocol.done(written)
            theirs = protocol.expect(stat, protocol.ATTRS).attributes().mtime
            protocol.done(closed)
        except SaidNo:
            holder = _holder(wire, path)
            if holder is not None and not holder.token:  # it would be somebody else's for good
                wire.ask(protocol.REMOVE, protocol.text(path))
            raise
        if theirs is not None and abs(theirs - now) > MAX_AHEAD:
            raise WorkFailed(
                f"{target}: the server's clock is {abs(theirs - now)} seconds "
                f"{'ahead of' if theirs > now else 'behind'} this machine's",
                "look at both: date -u",
            )

    return make_sure


def is_held(wire: Wire, root: str, owner: Owner) -> bool:
    """Whether the lock is still this workspace's. Raises ServerAway, SaidNo."""
    holder = _holder(wire, lock_path(root))
    return holder is not None and holder.token == owner.token


def release(wire: Wire, root: str, owner: Owner) -> None:
    """Remove the lock, unless somebody broke it and made his own. Raises ServerAway, SaidNo."""
    if is_held(wire, root, owner):
        wire.do(protocol.REMOVE, protocol.text(lock_path(root)))


def lock_path(root: str) -> str:
    """Where the lock lies."""
    return f"{root.rstrip('/')}/.publisher/lock"


def _busy(holder: _Holder, now: int, target: str) -> Busy:
    since = "" if holder.since is None else f" since {max(0, now - holder.since)} seconds"
    if not holder.token:
        return Busy(
            f"another deploy to {target} is beginning, or ended while it began: its lock doesn't say whose it is",
            "wait a minute, and deploy again",
            "if it says the same then: bento deploy --break-lock",
        )
    return Busy(
        f"another deploy to {target} is under way: {printable(holder.name)}{since}",
        "wait for it to end",
        "if it is dead, for certain: bento deploy --break-lock",
    )


def _holder(wire: Wire, path: str) -> _Holder | None:
    """Whose the lock is; None where there is none that can be seen."""
    try:
        raw = sftp_files.read_small(wire, [path], LIMITS.lock_file)[0]
    except NotThere:
        return None
    except SaidNo as error:
        return None if error.code == protocol.PERMISSION_DENIED else _Holder("somebody", "", None)
    try:
        said = json.loads(raw)
        return _Holder(str(said["owner"]), str(said["token"]), int(said["time"]))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return _Holder("somebody", "", None)
