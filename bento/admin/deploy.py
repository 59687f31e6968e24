"""`bento deploy`: fleet → plan → build → publish. A host that fails is named and left as it was; the others go on.

`prepare` makes what hosts are to get, `publish_prepared` publishes it: in waves, for some of the hosts first.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from bento.adapters import nix
from bento.adapters.folder import PublishFolder, account_group
from bento.admin.build import AS_USUAL, Built, How, Say, collect_trees, pack_hosts, systems_to_publish
from bento.admin.hold import go_on, held_content
from bento.admin.inventory import Fleet, Host
from bento.admin.pack import Tree
from bento.admin.publish import Content, NotOurs, Published, check_signers, publish, read_published
from bento.admin.signing import check_accepted
from bento.admin.templates import declared_templates, template_refs
from bento.admin.workspace import Workspace
from bento.errors import BentoError, InputError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest, SecretRef, TemplateRef, check_contents
from bento.models.signed import SignedDocument, sha256
from bento.models.trust import Trust
from bento.names import Digest, HostName, SecretName, SystemPath
from bento_secrets.check import Finding, check
from bento_secrets.declared import Declaration
from bento_secrets.lock import Copies
from bento_secrets.members import effective
from bento_secrets.store import SecretStore


@dataclass(frozen=True)
class Deployed:
    """What became of each chosen host. `warnings` are sentences for the admin."""

    published: Mapping[HostName, Published]
    failed: Mapping[HostName, BentoError]
    built: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Sealed:
    """A host's secrets as the store holds them."""

    refs: tuple[SecretRef, ...]
    ciphertexts: Mapping[Digest, bytes]
    templates: tuple[TemplateRef, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """What each host is to get, and what went wrong before. `built` counts what was built just now.

    `of_today` are the hosts whose content is today's; the others get an earlier release's.
    """

    contents: Mapping[HostName, Content]
    failed: Mapping[HostName, BentoError]
    built: int
    warnings: tuple[str, ...]
    of_today: frozenset[HostName] = frozenset()


def deploy(
    fleet: Fleet,
    trust: Trust,
    chosen: tuple[HostName, ...],
    clock: Callable[[], int],
    say: Say,
    how: How = AS_USUAL,
    *,
    drop_signers: bool = False,
) -> Deployed:
    """Build and publish the chosen hosts. `clock` gives UTC seconds.

    With `drop_signers` a release may leave out the key that its host is known to trust.
    Raises InputError before anything is written, EnvironmentFailed where there is no Nix, ssh-keygen or publish folder.
    """
    check_signers(fleet.signing_keys, trust)
    folder = PublishFolder(fleet.publish_root)
    workspace = Workspace(fleet.root)
    plan = plan_hosts(fleet, chosen, clock())
    with folder.locked(), workspace.locked():
        prepared = prepare(plan, fleet, trust, folder, workspace, say, how)
        done = publish_prepared(
            prepared, chosen, fleet, trust, folder, workspace, clock, say, anew=how.anew, drop_signers=drop_signers
        )
        forget_old_trees(fleet, chosen, workspace, prepared)
    return done


@dataclass(frozen=True)
class Plan:
    """The chosen hosts, checked as far as that goes without building; nothing has been written."""

    hosts: tuple[Host, ...]
    held: tuple[Host, ...]
    sealed: Mapping[HostName, Sealed]
    trees: Mapping[Path, Tree]
    failed: Mapping[HostName, BentoError]
    warnings: tuple[str, ...]


def plan_hosts(fleet: Fleet, chosen: tuple[HostName, ...], now: int) -> Plan:
    """Check the chosen hosts; `now` in UTC seconds. Raises InputError, EnvironmentFailed where Nix is missed."""
    chosen_hosts = [fleet.hosts[name] for name in chosen]
    held = tuple(host for host in chosen_hosts if host.hold is not None)
    hosts = [host for host in chosen_hosts if host.hold is None]
    if hosts:
        nix.require_nix()
    sealed, failed, findings = collect_secrets(fleet, hosts, now)
    return Plan(tuple(hosts), held, sealed, collect_trees(hosts, fleet), failed, findings)


def prepare(
    plan: Plan,
    fleet: Fleet,
    trust: Trust,
    folder: PublishFolder,
    workspace: Workspace,
    say: Say,
    how: How = AS_USUAL,
) -> Prepared:
    """Build what is new; for hosts that are held, find what they are held at. Both locks must be held."""
    contents: dict[HostName, Content] = {}
    failed = dict(plan.failed)
    warnings = list(plan.warnings)
    for host in plan.held:
        try:
            contents[host.name] = held_content(folder, host, trust, workspace)
        except BentoError as error:
            failed[host.name] = error
        else:
            say(host.name, f"held at release {host.hold}")
            warnings.append(f"{host.name} is held at release {host.hold}; to let it go on: {go_on(host.name)}")
    built: tuple[Built, ...] = ()
    packed = pack_hosts([host for host in plan.hosts if host.name in plan.sealed], plan.trees, workspace)
    if packed:
        built, broken = systems_to_publish(packed, fleet, workspace, say, how)
        failed.update(broken)
    for one in built:
        contents[one.packed.host.name] = _content(one, plan.sealed[one.packed.host.name], workspace)
    of_today = frozenset(one.packed.host.name for one in built)
    return Prepared(contents, failed, sum(one.fresh for one in built), tuple(warnings), of_today)


def _content(one: Built, sealed: Sealed, workspace: Workspace) -> Content:
    host = one.packed.host
    return Content(
        host=host.name,
        config=one.packed.config,
        system=one.system,
        secrets=sealed.refs,
        settings=host.settings,
        tar=workspace.tar(one.packed.config.digest),
        ciphertexts=sealed.ciphertexts,
        templates=sealed.templates,
    )


def publish_prepared(
    prepared: Prepared,
    chosen: tuple[HostName, ...],
    fleet: Fleet,
    trust: Trust,
    folder: PublishFolder,
    workspace: Workspace,
    clock: Callable[[], int],
    say: Say,
    *,
    anew: bool = False,
    drop_signers: bool = False,
) -> Deployed:
    """Publish what was prepared for the chosen hosts. The publisher's lock must be held."""
    published: dict[HostName, Published] = {}
    failed: dict[HostName, BentoError] = {name: error for name, error in prepared.failed.items() if name in chosen}
    warnings = list(prepared.warnings)
    shared: dict[Digest, HostName] = {}
    for name in chosen:
        content = prepared.contents.get(name)
        if content is None:
            continue
        host = fleet.hosts[name]

        def before_signing(document: SignedDocument | None, host: Host = host) -> None:
            if not drop_signers:
                check_accepted(folder, host, trust, fleet.signing_keys, document)

        try:
            previous = _previous(folder, name, trust, warnings, before_signing)
            if name in prepared.of_today:
                content = with_rebuild(content, previous[1] if previous is not None else None, clock(), anew=anew)
            done = publish(folder, content, previous, trust, fleet.signing_keys, clock(), shared, before_signing)
        except BentoError as error:
            failed[name] = error
            say(name, "not published")
            continue
        shared.setdefault(content.config.digest, name)
        published[name] = done
        if done.changed is not None:
            warnings.extend(_kept(workspace, host, content.system))
        what = "unchanged" if done.changed is None else f"published {done.manifest.serial} ({', '.join(done.changed)})"
        say(name, what)
    return Deployed(published, failed, prepared.built, (*warnings, *_accounts(published)))


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


def _kept(workspace: Workspace, host: Host, system: SystemPath | None) -> tuple[str, ...]:
    """Hosts may fetch it from here as from a binary cache. It is published: not to keep it is only worth a warning."""
    try:
        if system is not None:
            workspace.keep_published(host.name, system)
    except BentoError as error:
        return (error.message,)
    return ()


def with_rebuild(content: Content, published: Manifest | None, now: int, *, anew: bool) -> Content:
    """When a channel host was last asked to build anew stays in its settings until it is asked again."""
    if content.config.kind != "channel":
        return content
    last = published.settings.rebuild if published is not None else None
    return replace(content, settings=content.settings.model_copy(update={"rebuild": now if anew else last}))


def _previous(
    folder: PublishFolder,
    host: HostName,
    trust: Trust,
    warnings: list[str],
    replacing: Callable[[None], None] | None = None,
) -> tuple[SignedDocument, Manifest] | None:
    """What is published now. One that doesn't verify is replaced, loudly: its content is nobody's word.

    `replacing` is called before, and may raise.
    """
    try:
        return read_published(folder, host, trust)
    except NotOurs as error:
        if replacing is not None:
            replacing(None)
        warnings.append(f"{error.message}; it was replaced")
        return None


def _accounts(published: Mapping[HostName, Published]) -> tuple[str, ...]:
    missing = [name for name in published if account_group(name) is None]
    if not missing:
        return ()
    return (f"no account on this machine, so they can't log in here: {', '.join(missing)}",)


def forget_old_trees(fleet: Fleet, chosen: tuple[HostName, ...], workspace: Workspace, prepared: Prepared) -> None:
    """Packed trees are only of use until they are published; after a deploy of everything, the rest is old."""
    if set(chosen) == set(fleet.hosts):
        workspace.forget_trees_except(frozenset(content.config.digest for content in prepared.contents.values()))
