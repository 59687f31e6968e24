"""What `bento deploy` would do now, without doing it: nothing is written, built or signed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bento.adapters.stamps import Stamps
from bento.adapters.transport import PublishTarget
from bento.admin.build import AS_USUAL, How, Packed, build_keys, look_here, measure_hosts
from bento.admin.content import Content, Sealed
from bento.admin.deploy import content_of_today, plan_hosts
from bento.admin.hold import content_to_plan, go_on
from bento.admin.inventory import Fleet, Host
from bento.admin.look import Look, draft, lacking, look_at
from bento.admin.memory import Memory
from bento.admin.publish import Change, changes
from bento.admin.publishing import taking_over
from bento.admin.signing import ask_for_words, check_accepted, check_signers
from bento.admin.targets import reading, targets_of
from bento.admin.workspace import Workspace
from bento.errors import BentoError
from bento.models.manifest import Manifest
from bento.models.trust import Trust
from bento.names import HostName, SystemPath

_TOGETHER: Final = 64  # hosts whose words are asked for at once


@dataclass(frozen=True)
class Planned:
    """One host. `changes` is None where nothing would be published; `build`: whether it would be built first.

    `next` is what would be published; its system is None where only a build or an evaluation can tell. `healed` names
    the mirrors that lack what is published and would get it.
    """

    published: Manifest | None
    next: Manifest
    changes: tuple[Change, ...] | None
    build: bool
    healed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planning:
    """What would become of each chosen host, as far as that can be known without building.

    `missed` names targets that can't be read now.
    """

    hosts: Mapping[HostName, Planned]
    failed: Mapping[HostName, BentoError]
    warnings: tuple[str, ...]
    missed: Mapping[str, BentoError]


@dataclass(frozen=True)
class _Work:
    """A plan in the making. `others` are hosts whose release is another machine's."""

    fleet: Fleet
    trust: Trust
    targets: Sequence[PublishTarget]
    workspace: Workspace
    memory: Memory
    stamps: Stamps
    now: int
    signing: bool
    drop_signers: bool
    failed: dict[HostName, BentoError]
    warnings: list[str]
    missed: dict[str, BentoError]
    planned: dict[HostName, Planned] = field(default_factory=dict)
    others: list[HostName] = field(default_factory=list)
    new: list[tuple[Host, Look, bool]] = field(default_factory=list)

    def follow(self, one: Packed, sealed: Sealed, known: SystemPath | None, *, anew: bool) -> None:
        """A host that follows the fleet; `known` is the system that is known to come of its files."""
        system = None if anew else known
        build = system is None and self.fleet.file.build.mode != "dry-build"
        try:
            self._add(one.host, content_of_today(one, sealed, system, self.workspace, anew=anew), build=build)
        except BentoError as error:
            self.failed[one.host.name] = error

    def hold(self, host: Host) -> None:
        """A host that stays at an earlier release."""
        try:
            self._add(host, content_to_plan(self.targets, host, self.trust, self.workspace), build=False)
        except BentoError as error:
            self.failed[host.name] = error
        else:
            self.warnings.append(f"{host.name} is held at release {host.hold}; to let it go on: {go_on(host.name)}")

    def _add(self, host: Host, content: Content, *, build: bool) -> None:
        keys = self.fleet.signing_keys
        seen = look_at(self.targets, content, self.trust, self.now, self.memory, self.stamps)
        self.warnings.extend(seen.warnings)
        self.missed.update(seen.missed)
        if seen.current:
            more = self.signing and lacking(seen.whole[0], keys)
            manifest = seen.whole[0].release[0]
            healed = tuple(one.target.name for one in seen.standings if one not in seen.whole)
            self.planned[host.name] = Planned(manifest, manifest, ("signatures",) if more else None, build, healed)
        else:
            self.new.append((host, seen, build))

    def finish(self) -> None:
        """Of the hosts that would get a new release: whether they would accept it, and what it changes."""
        for first in range(0, len(self.new), _TOGETHER):
            some = self.new[first : first + _TOGETHER]
            if self.signing and not self.drop_signers:
                ask_for_words(self.targets, [seen for _, seen, _ in some], self.fleet.signing_keys)
            for host, seen, build in some:
                try:
                    self._finish(host, seen, build=build)
                except BentoError as error:
                    self.failed[host.name] = error

    def _finish(self, host: Host, seen: Look, *, build: bool) -> None:
        if self.signing and not self.drop_signers:
            seen.check(partial(check_accepted, self.targets, host, self.trust, self.fleet.signing_keys))
        after = draft(seen, self.trust, self.now)
        changed = changes(seen.before, after)
        self.planned[host.name] = Planned(seen.before, after, changed, build)
        if seen.takes_over and changed != ("objects",):
            self.others.append(host.name)


def plan_deploy(
    fleet: Fleet,
    trust: Trust,
    chosen: tuple[HostName, ...],
    now: int,
    how: How = AS_USUAL,
    *,
    signing: bool = True,
    drop_signers: bool = False,
) -> Planning:
    """The plan; `now` in UTC seconds. Without `signing` no signing key is needed; `drop_signers` as for a deploy.

    Raises InputError, EnvironmentFailed where deploy would before it builds.
    """
    if signing:
        check_signers(fleet.signing_keys, trust)
    workspace = Workspace(fleet.root)
    stamps = workspace.stamps(trusting=not how.anew)  # made use of, not written
    ready = plan_hosts(fleet, chosen, now, stamps)
    packed = measure_hosts([host for host in ready.hosts if host.name in ready.sealed], ready.trees)
    keys = build_keys(packed, look_here(fleet, [one.config.kind for one in packed])) if packed else {}
    known = workspace.expected if fleet.file.build.mode == "dry-build" else workspace.built
    failed, warnings = dict(ready.failed), list(ready.warnings)
    with reading(targets_of(fleet, trust, stamps=stamps)) as reached:
        missed = dict(reached.missed)
        work = _Work(
            fleet,
            trust,
            reached.targets,
            workspace,
            workspace.memory(),
            stamps,
            now,
            signing,
            drop_signers,
            failed,
            warnings,
            missed,
        )
        for target in reached.targets:
            target.look_ahead(
                {one.host.name: (one.config.digest, *ready.sealed[one.host.name].ciphertexts) for one in packed}
            )
        for one in packed:
            name = one.host.name
            work.follow(one, ready.sealed[name], known(name, keys[name]), anew=how.anew)
        for host in ready.held:
            work.hold(host)
        work.finish()
    planned = {name: work.planned[name] for name in chosen if name in work.planned}
    return Planning(planned, failed, (*warnings, *taking_over(work.others)), missed)
