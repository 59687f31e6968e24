"""What `bento deploy` would do now, without doing it: nothing is written, built or signed."""

from collections.abc import Mapping
from dataclasses import dataclass

from bento.adapters.folder import PublishFolder
from bento.admin.build import AS_USUAL, How, Packed, build_keys, measure_hosts
from bento.admin.deploy import Sealed, plan_hosts
from bento.admin.history import Release
from bento.admin.hold import find, releases
from bento.admin.inventory import Fleet, Host
from bento.admin.publish import Change, NotOurs, changes, check_signers, complete, lacking, read_published
from bento.admin.signing import check_accepted
from bento.admin.workspace import Workspace
from bento.core.deploy_plan import compose, same_content
from bento.errors import BentoError
from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings, TemplateRef
from bento.models.trust import Trust
from bento.names import HostName, SystemPath


@dataclass(frozen=True)
class Planned:
    """One host. `changes` is None where nothing would be published; `build`: whether it would be built first.

    `next` is what would be published; its system is None where only a build or an evaluation can tell.
    """

    published: Manifest | None
    next: Manifest
    changes: tuple[Change, ...] | None
    build: bool


@dataclass(frozen=True)
class Planning:
    """What would become of each chosen host, as far as that can be known without building."""

    hosts: Mapping[HostName, Planned]
    failed: Mapping[HostName, BentoError]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Draft:
    config: ConfigRef
    system: SystemPath | None
    secrets: tuple[SecretRef, ...]
    templates: tuple[TemplateRef, ...]
    settings: Settings


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
    folder, workspace = PublishFolder(fleet.publish_root), Workspace(fleet.root)
    ready = plan_hosts(fleet, chosen, now)
    packed = measure_hosts([host for host in ready.hosts if host.name in ready.sealed], ready.trees)
    keys = build_keys(packed, fleet) if packed else {}
    planned: dict[HostName, Planned] = {}
    failed, warnings = dict(ready.failed), list(ready.warnings)
    keep_signers = signing and not drop_signers
    dry = fleet.file.build.mode == "dry-build"
    for one in packed:
        name = one.host.name
        known = workspace.expected(name, keys[name]) if dry else workspace.built(name, keys[name])
        system = None if how.anew else known
        try:
            previous = _previous(fleet, trust, folder, one.host, warnings, keep_signers=keep_signers)
            draft = _today(one, ready.sealed[name], system, previous, now if how.anew else None)
            planned[name] = _planned(
                fleet,
                trust,
                folder,
                one.host,
                previous,
                draft,
                now,
                build=system is None and not dry,
                signing=signing,
                keep_signers=keep_signers,
            )
        except BentoError as error:
            failed[name] = error
    for host in ready.held:
        try:
            found = releases(folder, host.name, trust)
            earlier = find(found, host.name, host.hold) if host.hold is not None else found[0][1]
            draft = _Draft(earlier.config, earlier.system, earlier.secrets, earlier.templates, earlier.settings)
            planned[host.name] = _planned(
                fleet,
                trust,
                folder,
                host,
                found[0],
                draft,
                now,
                build=False,
                signing=signing,
                keep_signers=keep_signers,
            )
            warnings.append(f"{host.name} is held at release {host.hold}")
        except BentoError as error:
            failed[host.name] = error
    return Planning({name: planned[name] for name in chosen if name in planned}, failed, tuple(warnings))


def _previous(
    fleet: Fleet, trust: Trust, folder: PublishFolder, host: Host, warnings: list[str], *, keep_signers: bool
) -> Release | None:
    try:
        return read_published(folder, host.name, trust)
    except NotOurs as error:
        if keep_signers:
            check_accepted(folder, host, trust, fleet.signing_keys, None)
        warnings.append(f"{error.message}; it would be replaced")
        return None


def _today(
    packed: Packed, sealed: Sealed, system: SystemPath | None, previous: Release | None, anew: int | None
) -> _Draft:
    settings = packed.host.settings
    if packed.config.kind == "channel":
        last = previous[1].settings.rebuild if previous is not None else None
        settings = settings.model_copy(update={"rebuild": last if anew is None else anew})
    return _Draft(packed.config, system, sealed.refs, sealed.templates, settings)


def _planned(
    fleet: Fleet,
    trust: Trust,
    folder: PublishFolder,
    host: Host,
    previous: Release | None,
    draft: _Draft,
    now: int,
    *,
    build: bool,
    signing: bool,
    keep_signers: bool,
) -> Planned:
    before = previous[1] if previous is not None else None
    if (
        previous is not None
        and before is not None
        and same_content(before, draft.config, draft.secrets, draft.templates, draft.settings)
        and complete(folder, before)
    ):
        more = signing and lacking(previous, trust, fleet.signing_keys)
        return Planned(before, before, ("signatures",) if more else None, build)
    if keep_signers and previous is not None:
        check_accepted(folder, host, trust, fleet.signing_keys, previous[0])
    after = compose(
        fleet=trust.fleet,
        host=host.name,
        now=now,
        previous=previous,
        config=draft.config,
        system=draft.system,
        secrets=draft.secrets,
        templates=draft.templates,
        settings=draft.settings,
    )
    return Planned(before, after, changes(before, after), build)
