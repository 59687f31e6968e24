"""`bento deploy`: fleet → plan → build → publish. A host that fails is named and left as it was; the others go on."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from bento.adapters import nix
from bento.adapters.folder import PublishFolder, account_group
from bento.admin.build import AS_USUAL, Built, How, Packed, Say, collect_trees, pack_hosts, systems_to_publish
from bento.admin.inventory import Fleet, Host
from bento.admin.publish import Content, NotOurs, Published, check_signers, publish, read_published
from bento.admin.templates import declared_templates, template_refs
from bento.admin.workspace import Workspace
from bento.errors import BentoError, InputError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest, SecretRef, Settings, TemplateRef, check_contents
from bento.models.signed import SignedDocument, sha256
from bento.models.trust import Trust
from bento.names import Digest, HostName, SecretName
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


def deploy(
    fleet: Fleet,
    trust: Trust,
    chosen: tuple[HostName, ...],
    clock: Callable[[], int],
    say: Say,
    how: How = AS_USUAL,
) -> Deployed:
    """Build and publish the chosen hosts. `clock` gives UTC seconds.

    Raises InputError before anything is written, EnvironmentFailed where there is no Nix, ssh-keygen or publish folder.
    """
    check_signers(fleet.signing_keys, trust)
    nix.require_nix()
    folder = PublishFolder(fleet.publish_root)
    workspace = Workspace(fleet.root)
    hosts = [fleet.hosts[name] for name in chosen]
    sealed, failed, findings = collect_secrets(fleet, hosts, clock())
    trees = collect_trees(hosts, fleet)
    with folder.locked(), workspace.locked():
        packed = pack_hosts([host for host in hosts if host.name in sealed], trees, workspace)
        built, broken = systems_to_publish(packed, fleet, workspace, say, how)
        failed = {**failed, **broken}
        published, unpublished, warnings = _publish_all(
            built, sealed, fleet, trust, folder, workspace, clock, say, anew=how.anew
        )
        _forget_old_trees(fleet, chosen, workspace, built)
    return Deployed(
        published,
        {**failed, **unpublished},
        sum(one.fresh for one in built),
        findings + tuple(warnings) + _accounts(published),
    )


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


def _publish_all(
    built: tuple[Built, ...],
    sealed: Mapping[HostName, Sealed],
    fleet: Fleet,
    trust: Trust,
    folder: PublishFolder,
    workspace: Workspace,
    clock: Callable[[], int],
    say: Say,
    *,
    anew: bool,
) -> tuple[dict[HostName, Published], dict[HostName, BentoError], list[str]]:
    published: dict[HostName, Published] = {}
    failed: dict[HostName, BentoError] = {}
    warnings: list[str] = []
    shared: dict[Digest, HostName] = {}
    for one in built:
        host = one.packed.host
        secrets = sealed[host.name]
        try:
            previous = _previous(folder, host.name, trust, warnings)
            content = Content(
                host=host.name,
                config=one.packed.config,
                system=one.system,
                secrets=secrets.refs,
                settings=settings_of(one.packed, previous[1] if previous is not None else None, clock(), anew=anew),
                tar=workspace.tar(one.packed.config.digest),
                ciphertexts=secrets.ciphertexts,
                templates=secrets.templates,
            )
            done = publish(folder, content, previous, trust, fleet.signing_keys, clock(), shared)
        except BentoError as error:
            failed[host.name] = error
            say(host.name, "not published")
            continue
        shared.setdefault(content.config.digest, host.name)
        published[host.name] = done
        if done.changed is not None:
            warnings.extend(_kept(workspace, one))
        what = "unchanged" if done.changed is None else f"published {done.manifest.serial} ({', '.join(done.changed)})"
        say(host.name, what)
    return published, failed, warnings


def _kept(workspace: Workspace, one: Built) -> tuple[str, ...]:
    """Hosts may fetch it from here as from a binary cache. It is published: not to keep it is only worth a warning."""
    try:
        workspace.keep_published(one.packed.host.name, one.system)
    except BentoError as error:
        return (error.message,)
    return ()


def settings_of(packed: Packed, published: Manifest | None, now: int, *, anew: bool) -> Settings:
    """The host's settings. When a channel host was last asked to build anew stays there until it is asked again."""
    if packed.config.kind != "channel":
        return packed.host.settings
    last = published.settings.rebuild if published is not None else None
    return packed.host.settings.model_copy(update={"rebuild": now if anew else last})


def _previous(
    folder: PublishFolder, host: HostName, trust: Trust, warnings: list[str]
) -> tuple[SignedDocument, Manifest] | None:
    """What is published now. One that doesn't verify is replaced, loudly: its content is nobody's word."""
    try:
        return read_published(folder, host, trust)
    except NotOurs as error:
        warnings.append(f"{error.message}; it was replaced")
        return None


def _accounts(published: Mapping[HostName, Published]) -> tuple[str, ...]:
    missing = [name for name in published if account_group(name) is None]
    if not missing:
        return ()
    return (f"no account on this machine, so they can't log in here: {', '.join(missing)}",)


def _forget_old_trees(
    fleet: Fleet, chosen: tuple[HostName, ...], workspace: Workspace, built: tuple[Built, ...]
) -> None:
    """Packed trees are only of use until they are published; after a deploy of everything, the rest is old."""
    if set(chosen) == set(fleet.hosts):
        workspace.forget_trees_except(frozenset(one.packed.config.digest for one in built))
