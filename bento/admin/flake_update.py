"""`bento flake-update`: move the inputs of the hosts' flakes on, each flake once.

Nix works on an unpacked copy. Only a lock file that it has finished comes back, whole: a failure, or a cut, leaves the
fleet as it was.
"""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bento.adapters import nix
from bento.adapters.files import store
from bento.admin.inventory import Fleet, Host
from bento.admin.pack import collect
from bento.admin.progress import Say
from bento.admin.workspace import Workspace
from bento.core.flake_lock import Moved, inputs, moved
from bento.errors import BentoError, InputError
from bento.names import HostName, did_you_mean, printable


@dataclass(frozen=True)
class Updated:
    """One flake: its folder as shown, the chosen hosts that it is for, and what moved."""

    source: str
    hosts: tuple[HostName, ...]
    moved: tuple[Moved, ...]


@dataclass(frozen=True)
class Updates:
    """What became of each flake; `failed` by its folder. `skipped` are sentences on what isn't Bento's to update."""

    done: tuple[Updated, ...]
    failed: Mapping[str, BentoError]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Flake:
    folder: Path
    shown: str
    hosts: tuple[HostName, ...]
    wanted: tuple[str, ...]

    @property
    def lock(self) -> Path:
        return self.folder / "flake.lock"


def flake_update(
    fleet: Fleet, chosen: tuple[HostName, ...], wanted: Sequence[str], say: Say, *, dry_run: bool
) -> Updates:
    """Update these inputs (none named: all) of the chosen hosts' flakes; with `dry_run` write no lock file.

    Raises InputError where no flake has such an input, EnvironmentFailed without Nix.
    """
    flakes, skipped = _flakes(fleet, [fleet.hosts[name] for name in chosen], wanted)
    nix.require_nix()
    workspace = Workspace(fleet.root)
    done: list[Updated] = []
    failed: dict[str, BentoError] = {}
    with workspace.locked():
        nix.version()
        for flake in flakes:
            say(flake.hosts[0], f"updating {flake.shown}/flake.lock")
            try:
                done.append(_update(fleet, workspace, flake, dry_run=dry_run))
            except BentoError as error:
                failed[flake.shown] = error
    return Updates(tuple(done), failed, tuple(skipped))


def _flakes(fleet: Fleet, hosts: Sequence[Host], wanted: Sequence[str]) -> tuple[list[_Flake], list[str]]:
    """The distinct flakes with a lock file that have one of the wanted inputs."""
    sources: dict[Path, list[HostName]] = {}
    outside: dict[Path, list[HostName]] = {}
    skipped: list[str] = []
    for host in hosts:
        if (host.source / "flake.nix").is_file():
            where = sources if host.source.is_relative_to(fleet.root) else outside
            where.setdefault(host.source, []).append(host.name)
    for folder, theirs in outside.items():
        nix.require_nix()
        skipped.append(
            f"the flake of {', '.join(theirs)} in {folder} is not the fleet's, so it is left as it is; "
            f"update it yourself: {shlex.join(nix.update_command(str(folder), wanted))}"
        )
    if not sources and not outside and not wanted:
        skipped.append("none of these hosts has a flake: a channel host's nixpkgs moves with its own channel")
    found: list[_Flake] = []
    known: set[str] = set()
    for source, names in sources.items():
        shown = str(source.relative_to(fleet.root))
        if not (source / "flake.lock").exists():
            skipped.append(f"{shown} has no flake.lock: it has no inputs, or they were never locked")
            continue
        there = inputs((source / "flake.lock").read_bytes(), f"{shown}/flake.lock")
        known |= set(there)
        mine = tuple(name for name in there if name in wanted)
        if mine or not wanted:
            found.append(_Flake(source, shown, tuple(names), mine))
    for name in wanted:
        if name not in known and (sources or not outside):
            raise InputError(
                f"no flake of these hosts has the input '{printable(name)}'",
                *(did_you_mean(name, known) or (f"they have: {', '.join(sorted(known)) or 'none'}",)),
            )
    return found, skipped


def _update(fleet: Fleet, workspace: Workspace, flake: _Flake, *, dry_run: bool) -> Updated:
    digest, _ = workspace.pack(collect(flake.folder, fleet.root, flake.hosts[0]))
    copy = workspace.unpacked(digest)
    try:
        before = (copy / "flake.lock").read_bytes()
        nix.update_flake(copy, flake.wanted)
        after = (copy / "flake.lock").read_bytes()
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    changes = moved(before, after, f"{flake.shown}/flake.lock")
    if changes and not dry_run:
        real = flake.lock.resolve()  # where several flakes share one, by a link
        store(real, after, real.stat().st_mode & 0o777)
    return Updated(flake.shown, flake.hosts, changes)
