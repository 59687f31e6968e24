"""Build hosts with Nix on this machine: each from its own unpacked tree, as the host itself will."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bento.adapters import nix
from bento.adapters.meminfo import MEMINFO, available
from bento.adapters.stamps import Stamps
from bento.admin.crew import Crew, Show
from bento.admin.inventory import Fleet, Host
from bento.admin.pack import Around, Tree, collect
from bento.admin.progress import Say
from bento.admin.workspace import Unpacking, Workspace
from bento.core.flake_lock import inputs
from bento.errors import BentoError, InputError
from bento.models.manifest import ConfigKind, ConfigRef
from bento.models.signed import canonical, sha256
from bento.names import Digest, HostName, SystemPath, did_you_mean


@dataclass(frozen=True)
class How:
    """How to build. `jobs`: how many hosts at once, else as bento.toml says; `anew`: also what hasn't changed.

    `show` gets each line that Nix says, as it is; `meminfo` is where the kernel says what memory is available.
    """

    jobs: int | None = None
    anew: bool = False
    show: Show | None = None
    meminfo: Path = MEMINFO


AS_USUAL = How()


@dataclass(frozen=True)
class Here:
    """What builds follow from besides the hosts' files: Nix, where `<nixpkgs>` leads, Nix's arguments."""

    version: str
    channel: str | None
    args: tuple[str, ...]

    def of(self, kind: ConfigKind) -> tuple[tuple[str, ...], str, str | None]:
        """What a configuration of this kind depends on."""
        return self.args, self.version, self.channel if kind == "channel" else None


def look_here(fleet: Fleet, kinds: Iterable[ConfigKind]) -> Here:
    """This machine, as far as configurations of these kinds depend on it. Raises EnvironmentFailed."""
    channel = nix.channel_path() if "channel" in kinds else None
    return Here(nix.version(), channel, local_args(fleet))


def local_args(fleet: Fleet) -> tuple[str, ...]:
    """Nix's arguments on this machine."""
    return (*fleet.file.build.args, *fleet.file.build.local_args)


@dataclass(frozen=True)
class Packed:
    """A host whose tree is packed and whose configuration has a digest."""

    host: Host
    config: ConfigRef


@dataclass(frozen=True)
class Built:
    """`system` is the store path; `fresh` tells whether anything was built for it just now."""

    packed: Packed
    system: SystemPath
    fresh: bool


def collect_trees(
    hosts: Iterable[Host], fleet: Fleet, stamps: Stamps | None = None
) -> tuple[Mapping[Path, Tree], Mapping[HostName, BentoError]]:
    """Every host's tree, by its source, and what is wrong with the others. Hosts of one flake share it.

    With `stamps` files that haven't changed aren't read. Raises InputError, EnvironmentFailed where no host has one.
    Writes nothing.
    """
    users: dict[Path, list[HostName]] = {}
    for host in hosts:
        users.setdefault(host.source, []).append(host.name)
    trees: dict[Path, Tree] = {}
    failed: dict[HostName, BentoError] = {}
    around = Around(fleet.root, stamps)
    for source, names in users.items():
        try:
            tree = collect(source, fleet.root, names[0], around)
        except BentoError as error:
            failed.update(dict.fromkeys(names, error))
            continue
        said = {name: _self_update_error(fleet.hosts[name], tree) for name in names}
        wrong = {name: why for name, why in said.items() if why is not None}
        failed.update(wrong)
        if len(wrong) < len(names):
            trees[source] = tree
    if failed and not trees:
        raise next(iter(failed.values()))
    return trees, failed


def _self_update_error(host: Host, tree: Tree) -> InputError | None:
    """Why a host could never update the inputs by itself that its settings name."""
    wanted = host.settings.self_update
    if not wanted:
        return None
    if tree.kind == "channel":
        return InputError(
            f"{host.name} can't update inputs by itself: its configuration is no flake",
            "take self_update out of its settings; for this host alone: self_update = []",
        )
    lock = next((entry.source for entry in tree.entries if entry.name == "flake.lock"), None)
    try:
        known = () if lock is None else inputs(lock.read_bytes(), str(lock))
    except InputError as error:
        return error
    unknown = next((name for name in wanted if name not in known), None)
    if unknown is None:
        return None
    hints = did_you_mean(unknown, known) or (f"it has: {', '.join(known) or 'none'}",)
    return InputError(f"{host.name} is to update '{unknown}' by itself, but its flake has no such input", *hints)


def tree_warnings(trees: Mapping[Path, Tree]) -> tuple[str, ...]:
    """Sentences on what hosts don't get."""
    return tuple(sentence for tree in trees.values() for sentence in tree.warnings)


def pack_hosts(
    hosts: Iterable[Host], trees: Mapping[Path, Tree], workspace: Workspace, stamps: Stamps | None = None
) -> tuple[Packed, ...]:
    """Pack the hosts' trees, each once; `stamps` are those that they were collected with."""

    def pack(tree: Tree) -> tuple[Digest, int]:
        packed = workspace.pack(tree)
        if stamps is not None and tree.sight is not None and packed != tree.packed and tree.is_as_seen():
            stamps.remember(tree.sight, packed)
        return packed

    return _refs(hosts, trees, pack)


def measure_hosts(hosts: Iterable[Host], trees: Mapping[Path, Tree]) -> tuple[Packed, ...]:
    """As `pack_hosts` would, but nothing is written."""
    return _refs(hosts, trees, Workspace.measure)


def _refs(
    hosts: Iterable[Host], trees: Mapping[Path, Tree], pack: Callable[[Tree], tuple[Digest, int]]
) -> tuple[Packed, ...]:
    hosts = tuple(hosts)
    tars = {source: pack(trees[source]) for source in dict.fromkeys(host.source for host in hosts)}
    return tuple(Packed(host, _ref(host, trees[host.source], *tars[host.source])) for host in hosts)


def _ref(host: Host, tree: Tree, digest: Digest, size: int) -> ConfigRef:
    attribute = host.attribute if tree.kind == "flake" else None
    return ConfigRef(digest=digest, size=size, kind=tree.kind, attribute=attribute)


def systems_to_publish(
    packed: Iterable[Packed], fleet: Fleet, workspace: Workspace, say: Say, how: How, here: Here | None = None
) -> tuple[tuple[Built, ...], Mapping[HostName, BentoError]]:
    """Each host's system, built, or with `mode = "dry-build"` only evaluated; and what failed by host."""
    if fleet.file.build.mode == "build":
        return build_hosts(packed, fleet, workspace, say, how, here)
    packed = tuple(packed)
    keys = build_keys(packed, here or look_here(fleet, [one.config.kind for one in packed]))
    known = (
        {} if how.anew else {one.host.name: workspace.expected(one.host.name, keys[one.host.name]) for one in packed}
    )
    todo = [one for one in packed if known.get(one.host.name) is None]
    found, failures = evaluate_hosts(todo, fleet, workspace, say, how)
    for name, system in found.items():
        workspace.remember(name, keys[name], system)
    systems = {**known, **found}
    built = ((one, systems.get(one.host.name)) for one in packed)
    return tuple(Built(one, system, fresh=False) for one, system in built if system is not None), failures


def build_keys(packed: Iterable[Packed], here: Here) -> Mapping[HostName, Digest]:
    """What each host's build follows from: with the same key it needs no new one."""
    return {one.host.name: sha256(canonical([one.config.model_dump(), *here.of(one.config.kind)])) for one in packed}


def build_hosts(
    packed: Iterable[Packed],
    fleet: Fleet,
    workspace: Workspace,
    say: Say,
    how: How = AS_USUAL,
    here: Here | None = None,
) -> tuple[tuple[Built, ...], Mapping[HostName, BentoError]]:
    """Build what has changed, some hosts at a time. Returns what was built, and what failed by host.

    Raises EnvironmentFailed where there is no Nix at all.
    """
    packed = tuple(packed)
    keys = build_keys(packed, here or look_here(fleet, [one.config.kind for one in packed]))
    systems: dict[HostName, SystemPath] = {}
    for one in packed:
        name = one.host.name
        system = None if how.anew else workspace.built(name, keys[name])
        if system is not None:
            systems[name] = system
            say(name, "needs no build", "same")
    unchanged = frozenset(systems)
    sources = _sources([one for one in packed if one.host.name not in unchanged], fleet, workspace)

    def build_one(name: HostName, derivation: nix.Derivation) -> None:
        show = None if how.show is None else partial(how.show, name)
        system = nix.build_derivation(derivation, sources[name], workspace.gc_root(name), show)
        workspace.remember(name, keys[name], system)
        systems[name] = system
        say(name, f"built {system}")

    crew = _crew(fleet, say, how, build_one)
    crew.work(sources)
    built = [
        Built(one, systems[one.host.name], fresh=one.host.name not in unchanged)
        for one in packed
        if one.host.name in systems
    ]
    return tuple(built), crew.failed


def evaluate_hosts(
    packed: Iterable[Packed], fleet: Fleet, workspace: Workspace, say: Say, how: How = AS_USUAL
) -> tuple[Mapping[HostName, SystemPath], Mapping[HostName, BentoError]]:
    """The paths that builds would give, without building. Raises EnvironmentFailed where there is no Nix."""
    nix.version()
    sources = _sources(packed, fleet, workspace)
    crew = _crew(fleet, say, how, None)
    crew.work(sources)
    systems: dict[HostName, SystemPath] = {}
    failed = dict(crew.failed)
    for name in sources:
        if name in crew.found:
            try:
                systems[name] = nix.system_path(crew.found[name].out)
            except BentoError as error:
                failed[name] = error
            say(name, "evaluated", "ready")
    return systems, failed


def _sources(packed: Iterable[Packed], fleet: Fleet, workspace: Workspace) -> dict[HostName, nix.BuildInput]:
    """What to evaluate for each host, unpacked by whoever needs it first."""
    packed = tuple(packed)
    args = local_args(fleet)
    trees = {digest: Unpacking(workspace, digest) for digest in {one.config.digest for one in packed}}
    return {
        one.host.name: nix.BuildInput(
            workspace.tree(one.config.digest),
            one.config.kind,
            one.config.attribute,
            args,
            trees[one.config.digest],
        )
        for one in packed
    }


def _crew(fleet: Fleet, say: Say, how: How, build: Callable[[HostName, nix.Derivation], None] | None) -> Crew:
    jobs = how.jobs or fleet.file.build.jobs or len(os.sched_getaffinity(0))
    return Crew(jobs, available(how.meminfo), say, build, how.show)
