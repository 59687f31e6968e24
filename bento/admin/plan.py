"""What `bento deploy` would do now, without doing it: nothing is written, built or signed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bento.adapters.transport import PublishTarget
from bento.admin.build import AS_USUAL, How, build_keys, look_here, measure_hosts
from bento.admin.content import Content
from bento.admin.deploy import content_of_today, plan_hosts
from bento.admin.hold import check_openable, check_there, find, go_on, past, to_fetch
from bento.admin.inventory import Fleet, Host
from bento.admin.publish import Change, changes, draft, lacking, look_at
from bento.admin.publishing import taking_over
from bento.admin.signing import check_accepted, check_signers
from bento.admin.targets import reading, targets_of
from bento.admin.workspace import Workspace
from bento.errors import BentoError
from bento.models.manifest import Manifest
from bento.models.trust import Trust
from bento.names import HostName


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
    planned: dict[HostName, Planned] = {}
    failed, warnings = dict(ready.failed), list(ready.warnings)
    missed: dict[str, BentoError] = {}
    others: list[HostName] = []  # hosts whose release is another machine's
    dry = fleet.file.build.mode == "dry-build"
    with reading(targets_of(fleet, trust, stamps=stamps)) as reached:
        missed.update(reached.missed)

        def add(host: Host, content: Content, *, build: bool) -> None:
            seen = look_at(reached.targets, content, trust, now, workspace.memory, stamps)
            warnings.extend(seen.warnings)
            missed.update(seen.missed)
            if seen.current:
                more = signing and lacking(seen.whole[0], fleet.signing_keys)
                manifest = seen.whole[0].release[0]
                healed = tuple(one.target.name for one in seen.standings if one not in seen.whole)
                planned[host.name] = Planned(manifest, manifest, ("signatures",) if more else None, build, healed)
                return
            if signing and not drop_signers:
                seen.check(partial(check_accepted, reached.targets, host, trust, fleet.signing_keys))
            after = draft(seen, trust, now)
            planned[host.name] = Planned(seen.before, after, changes(seen.before, after), build)
            if seen.takes_over and planned[host.name].changes != ("objects",):
                others.append(host.name)

        for target in reached.targets:
            target.look_ahead(
                {one.host.name: (one.config.digest, *ready.sealed[one.host.name].ciphertexts) for one in packed}
            )
        for one in packed:
            name = one.host.name
            known = workspace.expected(name, keys[name]) if dry else workspace.built(name, keys[name])
            system = None if how.anew else known
            try:
                content = content_of_today(one, ready.sealed[name], system, workspace, anew=how.anew)
                add(one.host, content, build=system is None and not dry)
            except BentoError as error:
                failed[name] = error
        for host in ready.held:
            try:
                content = _held(reached.targets, host, trust, workspace)
                add(host, content, build=False)
                warnings.append(f"{host.name} is held at release {host.hold}; to let it go on: {go_on(host.name)}")
            except BentoError as error:
                failed[host.name] = error
    warnings.extend(taking_over(others))
    return Planning({name: planned[name] for name in chosen if name in planned}, failed, tuple(warnings), missed)


def _held(targets: Sequence[PublishTarget], host: Host, trust: Trust, workspace: Workspace) -> Content:
    """What a held host would get. As `held_content`, but no object is fetched: that they are there is enough.

    A target that fails here is named by what looks at it next.
    """
    found = past(targets, host.name, trust)
    earlier = find(found.releases, host.name, host.hold) if host.hold is not None else found.published
    check_openable(host, earlier)
    check_there(found, earlier, to_fetch(found, earlier, workspace))
    return Content(
        host=host.name,
        config=earlier.config,
        system=earlier.system,
        secrets=earlier.secrets,
        settings=earlier.settings,
        tar=workspace.tar(earlier.config.digest),
        ciphertexts={},
        templates=earlier.templates,
        hold=earlier.serial,
    )
