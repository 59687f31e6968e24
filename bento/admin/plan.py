"""What `bento deploy` would do now, without doing it: nothing is written, built or signed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bento.adapters import signatures
from bento.adapters.transport import PublishTarget
from bento.admin.build import AS_USUAL, How, build_keys, measure_hosts
from bento.admin.deploy import Plan, plan_hosts
from bento.admin.history import Release
from bento.admin.hold import check_openable, find, past
from bento.admin.inventory import Fleet, Host
from bento.admin.publish import Change, Content, check_signers, newest_published, publish
from bento.admin.rehearsal import Recollection, Rehearsal
from bento.admin.shares import Shares
from bento.admin.signing import check_accepted
from bento.admin.targets import reading, targets_of
from bento.admin.workspace import Workspace
from bento.core import signer_rules
from bento.errors import BentoError, InputError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest
from bento.models.signed import SignedDocument
from bento.models.trust import NAMESPACE_RELEASE, Trust
from bento.names import HostName


@dataclass(frozen=True)
class Planned:
    """One host. `changes` is None where nothing would be published; `build`: whether it would be built first.

    `next` is what would be published; its system is None where only a build or an evaluation can tell. `healed` names
    the targets that lag behind.
    """

    published: Manifest | None
    next: Manifest
    changes: tuple[Change, ...] | None
    build: bool
    healed: tuple[str, ...]


@dataclass(frozen=True)
class Planning:
    """What would become of each chosen host, as far as that can be known without building."""

    hosts: Mapping[HostName, Planned]
    failed: Mapping[HostName, BentoError]
    warnings: tuple[str, ...]


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
    keys = fleet.signing_keys if signing else ()
    workspace = Workspace(fleet.root)
    ready = plan_hosts(fleet, chosen, now)
    contents, build = _today(ready, fleet, workspace, how)
    planned: dict[HostName, Planned] = {}
    failed, warnings = dict(ready.failed), list(ready.warnings)
    with reading(targets_of(fleet, trust)) as reached:
        warnings += [error.message for error in reached.missed.values()]
        for name in chosen:
            host = fleet.hosts[name]
            try:
                if host in ready.held:
                    contents[name] = _held(reached.targets, host, trust, workspace)
                    warnings.append(f"{name} is held at release {host.hold}")
                if name in contents:
                    planned[name] = _rehearse(
                        reached.targets, contents[name], host, trust, keys, workspace, now, warnings,
                        build=name in build, keep_signers=signing and not drop_signers,
                    )  # fmt: skip
            except BentoError as error:
                failed[name] = error
    return Planning(planned, failed, tuple(warnings))


def _today(
    ready: Plan, fleet: Fleet, workspace: Workspace, how: How
) -> tuple[dict[HostName, Content], frozenset[HostName]]:
    """What the hosts would get, and which would be built first."""
    packed = measure_hosts([host for host in ready.hosts if host.name in ready.sealed], ready.trees)
    keys = build_keys(packed, fleet) if packed else {}
    dry = fleet.file.build.mode == "dry-build"
    contents: dict[HostName, Content] = {}
    for one in packed:
        name, sealed = one.host.name, ready.sealed[one.host.name]
        known = workspace.expected(name, keys[name]) if dry else workspace.built(name, keys[name])
        contents[name] = Content(
            host=name,
            config=one.config,
            system=None if how.anew else known,
            secrets=sealed.refs,
            settings=one.host.settings,
            tar=workspace.tar(one.config.digest),
            ciphertexts={},
            templates=sealed.templates,
            anew=how.anew,
        )
    return contents, frozenset(name for name, one in contents.items() if one.system is None and not dry)


def _held(targets: Sequence[PublishTarget], host: Host, trust: Trust, workspace: Workspace) -> Content:
    found = past(targets, host.name, trust)
    earlier = find(found.releases, host.name, host.hold) if host.hold is not None else found.published
    check_openable(host, earlier)
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


def _rehearse(
    targets: Sequence[PublishTarget],
    content: Content,
    host: Host,
    trust: Trust,
    keys: tuple[Path, ...],
    workspace: Workspace,
    now: int,
    warnings: list[str],
    *,
    build: bool,
    keep_signers: bool,
) -> Planned:
    def before_signing(document: SignedDocument | None) -> None:
        if keep_signers:
            check_accepted(targets, host, trust, keys, document)

    rehearsals = [Rehearsal(target) for target in targets]
    memory = Recollection(workspace.memory.folder)
    # Without keys nothing is signed: an agent or a token isn't asked for what is then thrown away.
    done = publish(rehearsals, content, trust, (), now, memory, Shares(), before_signing)
    warnings += [sentence.replace("it was replaced", "it would be replaced") for sentence in done.warnings]
    newest = _newest(targets, host.name, trust)
    changes = done.changed
    if changes is None and newest is not None and _lacking(newest[0], trust, keys):
        changes = ("signatures",)
    return Planned(newest[1] if newest is not None else None, done.manifest, changes, build, done.healed)


def _newest(targets: Sequence[PublishTarget], host: HostName, trust: Trust) -> Release | None:
    try:
        return newest_published(targets, host, trust)[1]
    except InputError:
        return None


def _lacking(document: SignedDocument, trust: Trust, keys: tuple[Path, ...]) -> bool:
    """Whether a deploy would add signatures to what is published."""
    ours = {signatures.public_half(key).fingerprint for key in keys}
    signed = signatures.signed_by(document, trust.signers, NAMESPACE_RELEASE)
    missing = signer_rules.missing({one.fingerprint for one in signed}, ours)
    return bool(missing) and len(document.armours) + len(missing) <= LIMITS.armours
