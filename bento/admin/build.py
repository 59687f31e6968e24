"""Build hosts with Nix on this machine: each from its own unpacked tree, as the host itself will."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bento.adapters import nix
from bento.adapters.process import stop_children
from bento.admin.inventory import Fleet, Host
from bento.admin.pack import Tree, collect
from bento.admin.workspace import Workspace
from bento.errors import BentoError
from bento.models.manifest import ConfigRef
from bento.models.signed import canonical, sha256
from bento.names import Digest, HostName, SystemPath

Say = Callable[[HostName, str], None]  # one line of progress about one host


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


def collect_trees(hosts: Iterable[Host], fleet: Fleet) -> Mapping[Path, Tree]:
    """Every host's tree, by its source. Hosts of one flake share it. Raises InputError; writes nothing."""
    return {source: collect(source, fleet.root) for source in dict.fromkeys(host.source for host in hosts)}


def pack_hosts(hosts: Iterable[Host], trees: Mapping[Path, Tree], workspace: Workspace) -> tuple[Packed, ...]:
    """Pack the hosts' trees, each once."""
    hosts = tuple(hosts)
    tars = {source: workspace.pack(trees[source]) for source in dict.fromkeys(host.source for host in hosts)}
    return tuple(Packed(host, _ref(host, trees[host.source], *tars[host.source])) for host in hosts)


def _ref(host: Host, tree: Tree, digest: Digest, size: int) -> ConfigRef:
    attribute = host.attribute if tree.kind == "flake" else None
    return ConfigRef(digest=digest, size=size, kind=tree.kind, attribute=attribute)


def build_hosts(
    packed: Iterable[Packed], fleet: Fleet, workspace: Workspace, say: Say
) -> tuple[tuple[Built, ...], Mapping[HostName, BentoError]]:
    """Build what has changed, `[build] jobs` at a time. Returns what was built, and what failed by host.

    Raises EnvironmentFailed where there is no Nix at all.
    """
    packed = tuple(packed)
    version = nix.version()
    # A channel host's system also follows from where <nixpkgs> leads here.
    channel = nix.channel_path() if any(one.config.kind == "channel" for one in packed) else None
    args = (*fleet.file.build.args, *fleet.file.build.local_args)
    keys = {
        one.host.name: sha256(
            canonical([one.config.model_dump(), args, version, channel if one.config.kind == "channel" else None])
        )
        for one in packed
    }
    built: list[Built] = []
    todo: list[Packed] = []
    for one in packed:
        system = workspace.built(one.host.name, keys[one.host.name])
        if system is None:
            todo.append(one)
        else:
            built.append(Built(one, system, fresh=False))
    trees = {digest: workspace.unpacked(digest) for digest in {one.config.digest for one in todo}}
    failures: dict[HostName, BentoError] = {}

    def build_one(one: Packed) -> None:
        name = one.host.name
        say(name, "building")
        source = nix.BuildInput(trees[one.config.digest], one.config.kind, one.config.attribute, args)
        try:
            system = nix.build(source, workspace.gc_root(name))
            workspace.remember(name, keys[name], system)
        except BentoError as error:
            failures[name] = error
            say(name, "build failed")
        else:
            built.append(Built(one, system, fresh=True))
            say(name, f"built {system}")

    with ThreadPoolExecutor(fleet.file.build.jobs) as pool:
        try:
            list(pool.map(build_one, todo))
        except BaseException:
            # Ctrl-C or SIGTERM: no build goes on behind the admin's back.
            pool.shutdown(wait=False, cancel_futures=True)
            stop_children()
            raise
    order = {one.host.name: number for number, one in enumerate(packed)}
    return tuple(sorted(built, key=lambda one: order[one.packed.host.name])), failures


def evaluate_hosts(
    packed: Iterable[Packed], fleet: Fleet, workspace: Workspace, say: Say
) -> tuple[Mapping[HostName, SystemPath], Mapping[HostName, BentoError]]:
    """The paths that builds would give, without building. Raises EnvironmentFailed where there is no Nix."""
    nix.version()
    args = (*fleet.file.build.args, *fleet.file.build.local_args)
    packed = tuple(packed)
    trees = {digest: workspace.unpacked(digest) for digest in {one.config.digest for one in packed}}
    systems: dict[HostName, SystemPath] = {}
    failures: dict[HostName, BentoError] = {}
    for one in packed:
        name = one.host.name
        say(name, "evaluating")
        try:
            source = nix.BuildInput(trees[one.config.digest], one.config.kind, one.config.attribute, args)
            systems[name] = nix.evaluate(source)
        except BentoError as error:
            failures[name] = error
            say(name, "evaluation failed")
    return systems, failures
