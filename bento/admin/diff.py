"""`bento diff`: what would change on a host that takes what is published, or what would be published now."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bento.adapters import nix
from bento.adapters.transport import PublishTarget
from bento.admin.hold import past
from bento.admin.inventory import Fleet
from bento.admin.plan import plan_deploy
from bento.admin.status import HostStatus, missed_mirror, status
from bento.admin.targets import reading, targets_of
from bento.core.deploy_plan import same_build
from bento.core.release_diff import Difference, differences
from bento.errors import BentoError, InputError, WorkFailed
from bento.models.manifest import Manifest
from bento.models.trust import Trust
from bento.names import BadName, HostName, SystemPath


@dataclass(frozen=True)
class HostDiff:
    """`running` is by the host's last word; `system` what it is to run, None where nobody knows before a build.

    `same` where it would go on running what it runs.
    `packages` is how the two differ, None where they can't be compared: `why_not` says why. `differences` is None where
    what the host has isn't known.
    """

    host: HostName
    running: str | None
    system: SystemPath | None
    same: bool
    packages: str | None
    why_not: str
    differences: tuple[Difference, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Diffs:
    """Each chosen host's, and those that have nothing to be compared with."""

    hosts: tuple[HostDiff, ...]
    failed: Mapping[HostName, BentoError]


def diff(
    fleet: Fleet,
    trust: Trust,
    chosen: tuple[HostName, ...],
    now: int,
    *,
    following: bool,
    warn: Callable[[str], None] = lambda _: None,
) -> Diffs:
    """Compare what each host has with what is published, or if `following`, with what a deploy would publish now.

    `warn` gets a sentence for each mirror that can't be read.
    Raises InputError, EnvironmentFailed where that can't be known of any.
    """
    found: list[HostDiff] = []
    failed: dict[HostName, BentoError] = {}
    wanted: dict[HostName, Manifest] = {}
    if following:
        planning = plan_deploy(fleet, trust, chosen, now, signing=False)
        failed = dict(planning.failed)
        wanted = {name: one.next for name, one in planning.hosts.items()}
    seen = status(fleet, trust, [name for name in chosen if name not in failed], warn)
    missed: dict[str, BentoError] = {}  # by now: `status` has named those before
    with reading(targets_of(fleet, trust)) as reached:
        for one in seen:
            name = one.host.name
            target = wanted.get(name, one.published)
            if target is None:
                failed[name] = WorkFailed(f"nothing is published for {name}", f"bento diff --next --on {name}")
                continue
            found.append(_diff(reached.targets, trust, one, target, missed))
    for mirror, error in missed.items():
        warn(missed_mirror(mirror, error))
    return Diffs(tuple(found), failed)


def _diff(
    targets: Sequence[PublishTarget], trust: Trust, one: HostStatus, target: Manifest, missed: dict[str, BentoError]
) -> HostDiff:
    notes: list[str] = []
    base = _release(targets, trust, one, missed)
    told: tuple[Difference, ...] | None = None
    if one.state.committed is None:
        notes.append("it has not reported that it installed anything yet")
        told = differences(None, target)
    elif base is None:
        notes.append(f"the release that it has, {one.state.committed}, isn't on the server any more")
    else:
        told = differences(base, target)
    running, system = one.state.running, target.system
    kept = base is not None and same_build(base, target)
    if kept and target.settings.self_update and running is not None and running != system:
        # It goes on with what it has made of this configuration by itself.
        return HostDiff(one.host.name, running, _system(running), True, "", "", told, tuple(notes))
    same = running is not None and running == system
    if target.config.kind == "channel":  # its files tell, not its path
        same = kept
    packages, why_not = _packages(running, target)
    return HostDiff(one.host.name, running, system, same, packages, why_not, told, tuple(notes))


def _release(
    targets: Sequence[PublishTarget], trust: Trust, one: HostStatus, missed: dict[str, BentoError]
) -> Manifest | None:
    """What the host has, as far as it is still there."""
    serial = one.state.committed
    if serial is None:
        return None
    try:
        found = past(targets, one.host.name, trust, missed)
    except InputError:
        return None
    return next((manifest for _, manifest in found.releases if manifest.serial == serial), None)


def _system(running: str) -> SystemPath | None:
    """A host's word, if it is a path that can be passed on."""
    try:
        return SystemPath.parse(running)
    except BadName:
        return None


def _packages(running: str | None, target: Manifest) -> tuple[str | None, str]:
    """What differs, or why that can't be said. `running` is the host's word: only a store path is passed on."""
    if running is None:
        return None, "what it runs isn't known"
    if target.system is None:
        if target.config.kind == "channel":
            return None, "a channel host builds with its own nixpkgs"
        return None, "what it is to run isn't built yet; build it: bento build"
    if running == target.system:
        return "", ""
    before = _system(running)
    if before is None:
        return None, "what it runs is no system of a Nix store"
    for path, what in ((before, "what it runs"), (target.system, "what it is to run")):
        if not Path(path).exists():
            return None, f"{what} isn't in this machine's Nix store"
    try:
        return nix.compare(before, target.system), ""
    except WorkFailed as error:  # of this host alone; its secrets and settings are told all the same
        return None, error.message
