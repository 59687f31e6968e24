"""`bento deploy`: fleet → plan → build → publish. A host that fails is named and left as it was; the others go on."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bento.adapters import nix
from bento.adapters.files import Busy
from bento.adapters.transport import PublishTarget
from bento.admin.build import Built, Say, build_hosts, collect_trees, pack_hosts
from bento.admin.inventory import Fleet, Host
from bento.admin.publish import Content, Published, check_signers, publish
from bento.admin.shares import Shares
from bento.admin.targets import targets_of
from bento.admin.templates import declared_templates, template_refs
from bento.admin.workspace import Workspace
from bento.errors import BentoError, InputError
from bento.models.limits import LIMITS
from bento.models.manifest import SecretRef, TemplateRef, check_contents
from bento.models.signed import sha256
from bento.models.trust import Trust
from bento.names import Digest, HostName, SecretName
from bento_secrets.check import Finding, check
from bento_secrets.declared import Declaration
from bento_secrets.lock import Copies
from bento_secrets.members import effective
from bento_secrets.store import SecretStore


@dataclass(frozen=True)
class Deployed:
    """What became of each chosen host. `warnings` are sentences for the admin.

    `missed`: the targets that lack something now, by name, with why; others have it.
    """

    published: Mapping[HostName, Published]
    failed: Mapping[HostName, BentoError]
    built: int
    warnings: tuple[str, ...]
    missed: Mapping[str, BentoError] = field(default_factory=dict)


@dataclass(frozen=True)
class Sealed:
    """A host's secrets as the store holds them."""

    refs: tuple[SecretRef, ...]
    ciphertexts: Mapping[Digest, bytes]
    templates: tuple[TemplateRef, ...] = ()


def deploy(
    fleet: Fleet,
    trust: Trust,
    chosen: tuple[HostName, ...],
    clock: Callable[[], int],
    say: Say,
    *,
    break_lock: bool = False,
) -> Deployed:
    """Build and publish the chosen hosts. `clock` gives UTC seconds; `break_lock` takes a server's lock from another.

    Raises InputError before anything is written, EnvironmentFailed where there is no Nix, ssh-keygen or publish target.
    """
    check_signers(fleet.signing_keys, trust)
    nix.require_nix()
    targets = targets_of(fleet, trust, clock, break_lock=break_lock)
    workspace = Workspace(fleet.root)
    hosts = [fleet.hosts[name] for name in chosen]
    sealed, failed, findings = collect_secrets(fleet, hosts, clock())
    trees = collect_trees(hosts, fleet)
    missed: dict[str, BentoError] = {}
    with workspace.locked(), ExitStack() as locks:
        usable = _locked(targets, locks, missed)
        packed = pack_hosts([host for host in hosts if host.name in sealed], trees, workspace)
        built, broken = build_hosts(packed, fleet, workspace, say)
        failed = {**failed, **broken}
        usable = _still_there(usable, missed)
        contents = [_content(one, sealed[one.packed.host.name], workspace) for one in built]
        published, unpublished = _publish_all(usable, contents, trust, fleet.signing_keys, workspace, clock, say)
        _forget_old_trees(fleet, chosen, workspace, built)
    for done in published.values():
        missed = {**done.missed, **missed}
    complaints = [sentence for target in usable for sentence in target.complaints(published)]
    return Deployed(
        published,
        {**failed, **unpublished},
        sum(one.fresh for one in built),
        (*findings, *(sentence for done in published.values() for sentence in done.warnings), *complaints),
        missed,
    )


def _locked(
    targets: Sequence[PublishTarget], locks: ExitStack, missed: dict[str, BentoError]
) -> tuple[PublishTarget, ...]:
    """Lock all targets that can be reached, until `locks` closes. Raises Busy, or the first error if all failed."""
    usable: list[PublishTarget] = []
    for target in targets:
        try:
            locks.enter_context(target.locked())
            usable.append(target)
        except Busy:
            raise  # two deploys, each with a mirror of its own, would tear the mirrors apart
        except BentoError as error:
            missed[target.name] = error
    if not usable:
        raise next(iter(missed.values()))
    return tuple(usable)


def _still_there(targets: Sequence[PublishTarget], missed: dict[str, BentoError]) -> tuple[PublishTarget, ...]:
    """The targets that are there after the builds, which may have taken hours. Raises Busy where a lock was broken."""
    usable: list[PublishTarget] = []
    for target in targets:
        try:
            target.refresh()
            usable.append(target)
        except Busy:
            raise
        except BentoError as error:
            missed[target.name] = error
    if not usable:
        raise next(iter(missed.values()))
    return tuple(usable)


def collect_secrets(
    fleet: Fleet, hosts: list[Host], now: int
) -> tuple[dict[HostName, Sealed], dict[HostName, BentoError], tuple[str, ...]]:
    """Each host's sealed files, and warnings. A host that couldn't install its copies fails by itself."""
    store = fleet.store
    state, found = store.survey()
    findings = check(state.declarations, state.lock, found, fleet.members, fleet.admins, now)
    wanted = effective(state.declarations, fleet.members)
    templates = declared_templates(fleet)
    sealed: dict[HostName, Sealed] = {}
    failed: dict[HostName, BentoError] = {}
    for host in hosts:
        try:
            _refuse_broken(host.name, findings)
            one = _sealed(store, state.lock, host, wanted.get(host.name, {}))
            refs = template_refs(fleet, templates.get(host.name, ()))
            check_contents(one.refs, refs)
            sealed[host.name] = replace(one, templates=refs)
        except InputError as error:
            failed[host.name] = error
    return sealed, failed, _warnings(findings, {host.name for host in hosts})


def _refuse_broken(host: HostName, findings: tuple[Finding, ...]) -> None:
    broken = [one for one in findings if one.breaks and host in one.hosts]
    if broken:
        hints = dict.fromkeys(hint for one in broken for hint in one.hints)
        raise InputError("; ".join(one.message for one in broken), *hints)


def _warnings(findings: tuple[Finding, ...], chosen: AbstractSet[HostName]) -> tuple[str, ...]:
    """What doesn't stop a release, of these hosts or of no host at all."""
    return tuple(
        f"{one.message}; {one.hints[0]}"
        for one in findings
        if not one.breaks and (chosen & set(one.hosts) or not one.hosts)
    )


def _sealed(store: SecretStore, lock: Copies, host: Host, wanted: Mapping[SecretName, Declaration]) -> Sealed:
    refs: list[SecretRef] = []
    ciphertexts: dict[Digest, bytes] = {}
    for name, declared in sorted(wanted.items()):
        data = store.ciphertext(host.name, name, lock)
        digest = sha256(data)
        ciphertexts[digest] = data
        refs.append(
            SecretRef(
                name=name,
                digest=digest,
                size=len(data),
                recipient=host.recipient.text,
                owner=declared.owner,
                group=declared.group,
                mode=declared.mode,
                path=declared.path,
                restart=declared.restart,
                reload=declared.reload,
                users=declared.users,
            )
        )
    total = sum(ref.size for ref in refs)
    if len(refs) > LIMITS.secrets or total > LIMITS.generation:
        raise InputError(
            f"the secrets of {host.name} are too many or too large: {len(refs)} with {total} bytes",
            f"a host takes {LIMITS.secrets} secrets with {LIMITS.generation} bytes together",
        )
    return Sealed(tuple(refs), ciphertexts)


def _content(one: Built, secrets: Sealed, workspace: Workspace) -> Content:
    host = one.packed.host
    return Content(
        host=host.name,
        config=one.packed.config,
        system=one.system,
        secrets=secrets.refs,
        settings=host.settings,
        tar=workspace.tar(one.packed.config.digest),
        ciphertexts=secrets.ciphertexts,
        templates=secrets.templates,
    )


def _publish_all(
    targets: Sequence[PublishTarget],
    contents: Sequence[Content],
    trust: Trust,
    keys: tuple[Path, ...],
    workspace: Workspace,
    clock: Callable[[], int],
    say: Say,
) -> tuple[dict[HostName, Published], dict[HostName, BentoError]]:
    """Publish hosts, as many at once as the targets like best; results in the hosts' order."""
    published: dict[HostName, Published] = {}
    failed: dict[HostName, BentoError] = {}
    shares = Shares()

    def publish_one(content: Content) -> None:
        try:
            done = publish(targets, content, trust, keys, clock(), workspace.memory, shares)
        except BentoError as error:
            failed[content.host] = error
            say(content.host, "not published")
            return
        published[content.host] = done
        say(content.host, _what(done))

    at_once = max(target.at_once for target in targets)
    if at_once == 1:
        for content in contents:
            publish_one(content)
    else:
        with ThreadPoolExecutor(at_once) as pool:
            try:
                list(pool.map(publish_one, contents))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    order = [content.host for content in contents]
    return {host: published[host] for host in order if host in published}, {
        host: failed[host] for host in order if host in failed
    }


def _what(done: Published) -> str:
    if done.changed is not None:
        return f"published {done.manifest.serial} ({', '.join(done.changed)})"
    return f"unchanged; brought up to date: {', '.join(done.healed)}" if done.healed else "unchanged"


def _forget_old_trees(
    fleet: Fleet, chosen: tuple[HostName, ...], workspace: Workspace, built: tuple[Built, ...]
) -> None:
    """Packed trees are only of use until they are published; after a deploy of everything, the rest is old."""
    if set(chosen) == set(fleet.hosts):
        workspace.forget_trees_except(frozenset(one.packed.config.digest for one in built))
