"""`bento rollback`: publish a host's earlier content under a new serial, and hold it there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bento.adapters.transport import PublishTarget
from bento.admin.edit import set_hold
from bento.admin.history import Release
from bento.admin.hold import (
    Past,
    SecretsBack,
    check_openable,
    check_there,
    content_of,
    find,
    gone,
    past,
    same,
    secrets_back,
)
from bento.admin.inventory import Fleet, Host
from bento.admin.progress import Say
from bento.admin.publishing import Deployed, Prepared, publish_prepared
from bento.admin.signing import check_signers
from bento.admin.status import missed_mirror
from bento.admin.targets import reading, targets_of, writing
from bento.admin.workspace import Workspace
from bento.errors import BentoError, InputError
from bento.models.manifest import Manifest
from bento.models.trust import Trust
from bento.names import Serial


@dataclass(frozen=True)
class Earlier:
    """One release that a host had. `gone` counts its objects that garbage collection took: it can't be gone back to."""

    manifest: Manifest
    same: bool  # as what is published now
    gone: int


@dataclass(frozen=True)
class Back:
    """Where a host goes back to, and what that does to its secrets. `missed` names targets that couldn't be read."""

    published: Manifest
    earlier: Manifest
    secrets: SecretsBack
    missed: Mapping[str, BentoError] = field(default_factory=dict)


def earlier_releases(
    fleet: Fleet, trust: Trust, host: Host, warn: Callable[[str], None] = lambda _: None
) -> tuple[Earlier, ...]:
    """The published release and those before it, newest first. Raises InputError before the first.

    `warn` gets a sentence for each mirror that can't be read, or not to the end.
    """
    with reading(targets_of(fleet, trust)) as reached:
        missed = dict(reached.missed)
        found = _read_past(list(reached.targets), trust, host, missed)
    for name, error in missed.items():
        warn(missed_mirror(name, error))
    return found


def _read_past(
    targets: list[PublishTarget], trust: Trust, host: Host, missed: dict[str, BentoError]
) -> tuple[Earlier, ...]:
    found = past(targets, host.name, trust, missed)
    try:
        return tuple(Earlier(one, same(found.published, one), gone(found.target, one)) for _, one in found.releases)
    except BentoError as error:
        targets.remove(found.target)
        if not targets:
            raise
        missed.setdefault(found.target.name, error)
        return _read_past(targets, trust, host, missed)


def plan_rollback(fleet: Fleet, trust: Trust, host: Host, serial: Serial | None) -> Back:
    """What `roll_back` would do. Writes nothing; raises as it does."""
    with reading(targets_of(fleet, trust)) as reached:
        back, _ = _plan(reached.targets, trust, host, serial)
        return replace(back, missed={**reached.missed, **back.missed})


def _plan(targets: Sequence[PublishTarget], trust: Trust, host: Host, serial: Serial | None) -> tuple[Back, Past]:
    """Find the release to go back to: the named one, else the newest before with another content. Writes nothing.

    Raises InputError where there is none, or where the host couldn't open its secrets; ObjectsGone.
    """
    missed: dict[str, BentoError] = {}
    found = past(targets, host.name, trust, missed)
    earlier = find(found.releases, host.name, serial) if serial is not None else _before(found.releases, host)
    check_openable(host, earlier)
    check_there(found, earlier)
    return Back(found.published, earlier, secrets_back(found.published, earlier), missed), found


def _before(found: tuple[Release, ...], host: Host) -> Manifest:
    """The newest release of another content; of a host that is held, before the one that it is held at."""
    published = found[0][1]
    below = published.serial if host.hold is None else min(host.hold, published.serial)
    for _, manifest in found:
        if manifest.serial < below and not same(manifest, published):
            return manifest
    raise InputError(
        f"{host.name} has no earlier release of another content",
        f"see what there is: bento rollback {host.name} --list",
    )


def roll_back(
    fleet: Fleet, trust: Trust, host: Host, serial: Serial | None, clock: Callable[[], int], say: Say
) -> tuple[Back, Deployed]:
    """Hold the host at an earlier release and publish that. `clock` gives UTC seconds.

    `hold` is written first: if this is cut short, the next deploy goes on with it. Raises InputError before that.
    """
    check_signers(fleet.signing_keys, trust)
    workspace = Workspace(fleet.root)
    plan_rollback(fleet, trust, host, serial)  # what can't be done is said before anything is made, locks too
    with workspace.locked(), writing(targets_of(fleet, trust, clock)) as reached:
        back, found = _plan(reached.targets, trust, host, serial)
        content = content_of(found, host, back.earlier, workspace)
        set_hold(fleet.root, host.name, back.earlier.serial)
        prepared = Prepared({host.name: content}, {}, 0, ())
        return back, publish_prepared(prepared, (host.name,), fleet, trust, reached, workspace, clock, say)


def let_go(fleet: Fleet, host: Host) -> Serial:
    """Take the host's `hold` out of bento.toml; the serial it had. Raises InputError where it has none."""
    if host.hold is None:
        raise InputError(f"{host.name} is not held", f"hold it at an earlier release: bento rollback {host.name}")
    set_hold(fleet.root, host.name, None)
    return host.hold
