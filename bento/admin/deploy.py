"""`bento deploy`: fleet → plan → build → publish. A host that fails is named and left as it was; the others go on.

`prepare` makes what hosts are to get, `publish_prepared` publishes it: in waves, for some of the hosts first.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from bento.adapters import nix
from bento.adapters.declared import declaration_of
from bento.adapters.stamps import Stamps
from bento.adapters.transport import PublishTarget
from bento.admin.build import (
    AS_USUAL,
    Built,
    How,
    Packed,
    collect_trees,
    look_here,
    pack_hosts,
    systems_to_publish,
    tree_warnings,
)
from bento.admin.content import Content, Sealed
from bento.admin.hold import go_on, held_content
from bento.admin.inventory import Fleet, Host, note_fleet
from bento.admin.pack import Tree
from bento.admin.progress import Say, State
from bento.admin.publishing import Deployed, Prepared, publish_prepared
from bento.admin.signing import check_signers
from bento.admin.targets import approaching, still_there, targets_of, writing
from bento.admin.templates import declared_templates, template_refs
from bento.admin.unchanged import Unchanged, Wish, asked_first
from bento.admin.workspace import Workspace
from bento.core.declared import fill
from bento.errors import BentoError, InputError
from bento.models.limits import LIMITS
from bento.models.manifest import SecretRef, check_contents
from bento.models.signed import sha256
from bento.models.trust import Trust
from bento.names import Digest, HostName, SecretName, SystemPath
from bento_secrets.check import Finding, check
from bento_secrets.declared import Declaration
from bento_secrets.lock import Copies
from bento_secrets.members import effective
from bento_secrets.store import SecretStore


@dataclass(frozen=True)
class Plan:
    """The chosen hosts, checked as far as that goes without building; nothing has been written.

    `stamps` are those that the trees were collected with.
    """

    hosts: tuple[Host, ...]
    held: tuple[Host, ...]
    sealed: Mapping[HostName, Sealed]
    trees: Mapping[Path, Tree]
    failed: Mapping[HostName, BentoError]
    warnings: tuple[str, ...]
    stamps: Stamps

    @property
    def wishes(self) -> list[Wish]:
        """Those of the hosts whose secrets are there, too."""
        return [
            (host, self.trees[host.source], self.sealed[host.name]) for host in self.hosts if host.name in self.sealed
        ]


def deploy(
    fleet: Fleet,
    trust: Trust,
    chosen: tuple[HostName, ...],
    clock: Callable[[], int],
    say: Say,
    how: How = AS_USUAL,
    *,
    break_lock: bool = False,
    drop_signers: bool = False,
) -> Deployed:
    """Build and publish the chosen hosts. `clock` gives UTC seconds; `break_lock` takes a server's lock from another.

    With `drop_signers` a release may leave out the key that its host is known to trust.
    Raises InputError before anything is written, EnvironmentFailed where there is no Nix, ssh-keygen or publish target.
    """
    check_signers(fleet.signing_keys, trust)
    workspace = Workspace(fleet.root)
    stamps = workspace.stamps(trusting=not how.anew)
    targets = targets_of(fleet, trust, clock, break_lock=break_lock, stamps=stamps)
    with approaching(targets) as one_is_there:
        plan = plan_hosts(fleet, chosen, clock(), stamps)
        one_is_there()
        with workspace.locked(), writing(targets, asked_first(plan.wishes)) as reached:
            prepared = prepare(plan, fleet, trust, reached.targets, workspace, say, how)
            usable = still_there(reached)
            done = publish_prepared(
                prepared, chosen, fleet, trust, usable, workspace, clock, say, drop_signers=drop_signers
            )
            tidy_up(fleet, chosen, workspace, prepared, stamps)
    return done


def plan_hosts(fleet: Fleet, chosen: tuple[HostName, ...], now: int, stamps: Stamps) -> Plan:
    """Check the chosen hosts; `now` in UTC seconds. By `stamps` files that haven't changed aren't read.

    Raises InputError, EnvironmentFailed where Nix is missed.
    """
    chosen_hosts = [fleet.hosts[name] for name in chosen]
    held = tuple(host for host in chosen_hosts if host.hold is not None)
    hosts = [host for host in chosen_hosts if host.hold is None]
    if hosts:
        nix.require_nix()
    sealed, failed, findings = collect_secrets(fleet, hosts, now)
    trees, unpacked = collect_trees(hosts, fleet, stamps)
    ready = tuple(host for host in hosts if host.name not in unpacked)
    return Plan(ready, held, sealed, trees, {**failed, **unpacked}, (*tree_warnings(trees), *findings), stamps)


def prepare(
    plan: Plan,
    fleet: Fleet,
    trust: Trust,
    targets: Sequence[PublishTarget],
    workspace: Workspace,
    say: Say,
    how: How = AS_USUAL,
    later: AbstractSet[HostName] = frozenset(),
) -> Prepared:
    """Build what is new; for hosts that are held, find what they are held at. All locks must be held.

    Those `later` are published after a wait, under other locks.
    """
    note_fleet(fleet, workspace)
    contents: dict[HostName, Content] = {}
    failed = dict(plan.failed)
    warnings = list(plan.warnings)
    wishes = plan.wishes
    here = look_here(fleet, {tree.kind for _, tree, _ in wishes}) if wishes else None
    unchanged = Unchanged(fleet, trust, targets, workspace, plan.stamps)
    if here is not None:
        unchanged.find(wishes, here, later)
    for host in plan.held:
        try:
            contents[host.name] = held_content(targets, host, trust, workspace)
        except BentoError as error:
            failed[host.name] = error
        else:
            say(host.name, f"held at release {host.hold}", "ready")
            warnings.append(f"{host.name} is held at release {host.hold}; to let it go on: {go_on(host.name)}")
    built: tuple[Built, ...] = ()
    rest = [host for host, _, _ in wishes if host.name not in unchanged.found]
    packed = pack_hosts(rest, plan.trees, workspace, plan.stamps)
    if packed and here is not None:
        built, broken = systems_to_publish(packed, fleet, workspace, _before_publishing(say), how, here)
        failed.update(broken)
    for one in built:
        name = one.packed.host.name
        try:
            contents[name] = content_of_today(one.packed, plan.sealed[name], one.system, workspace, anew=how.anew)
        except InputError as error:
            failed[name] = error
            say(name, "its secrets don't fit", "failed")
    return Prepared(contents, failed, sum(one.fresh for one in built), tuple(warnings), unchanged, plan.stamps)


def _before_publishing(say: Say) -> Say:
    """What a build is done with isn't done yet."""

    def said(host: HostName, what: str, state: State = "done") -> None:
        say(host, what, "ready" if state in ("done", "same") else state)

    return said


def content_of_today(
    packed: Packed, sealed: Sealed, system: SystemPath | None, workspace: Workspace, *, anew: bool
) -> Content:
    """What the host gets now, its secrets with owner, mode, link and units as its system declares them.

    `system` is None where only a build can tell. Raises InputError where the two don't fit.
    """
    host = packed.host
    declaration = declaration_of(system) if system is not None else None
    refs, templates = sealed.refs, sealed.templates
    if declaration is not None:
        refs, templates = fill(host.name, declaration, refs, templates)
    check_contents(refs, templates)
    return Content(
        host=host.name,
        config=packed.config,
        system=system,
        secrets=refs,
        settings=host.settings,
        tar=workspace.tar(packed.config.digest),
        ciphertexts=sealed.ciphertexts,
        templates=templates,
        anew=anew,
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


def tidy_up(
    fleet: Fleet, chosen: tuple[HostName, ...], workspace: Workspace, prepared: Prepared, stamps: Stamps
) -> None:
    """Keep what the next command needn't find out again. After a deploy of everything, other packed trees are old."""
    whole = set(chosen) == set(fleet.hosts)
    stamps.save(whole=whole)
    if whole:
        unchanged = prepared.unchanged.trees.values() if prepared.unchanged is not None else ()
        contents = (content.config.digest for content in prepared.contents.values())
        workspace.forget_trees_except(frozenset((*contents, *unchanged)))
