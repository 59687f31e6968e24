"""Nix's command line, as 2.8 to 2.34 have it in common."""

import functools
import grp
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from bento.adapters.process import Done, require, run, run_keeping_tail
from bento.errors import EnvironmentFailed, Refused, WorkFailed
from bento.models.limits import LIMITS
from bento.names import BadName, SystemPath

if TYPE_CHECKING:  # pydantic stays out of the agent's poll path (docs/decisions/0002)
    from bento.models.manifest import ConfigKind

FEATURES = ("--extra-experimental-features", "nix-command flakes")
# Debian's nix-bin alone makes no group of build users, without which Nix builds nothing for root.
ALONE_AS_ROOT = (
    "on Debian: apt-get install nix-setup-systemd",
    "or let root build by himself: mkdir -p /etc/nix && echo 'build-users-group =' >>/etc/nix/nix.conf",
)
_NAMES_OUTPUTS = (2, 15)  # from here on X.drv is the file, and X.drv^* what it builds
_NAMES_INPUTS = (2, 19)  # from here on `nix flake update` takes names of inputs, and --flake


def _is_there() -> None:
    """Nothing is to be done for a tree that lies there already."""


@dataclass(frozen=True)
class BuildInput:
    """What is built: a configuration, and how to find the system in it. It lies at `tree` once `unpack` was called."""

    tree: Path
    kind: "ConfigKind"
    attribute: str | None
    args: tuple[str, ...] = ()
    unpack: Callable[[], None] = field(default=_is_there, compare=False)


class BuildFailed(WorkFailed):
    """The build or evaluation failed. `log` is the end of what Nix said."""

    def __init__(self, message: str, log: str, *hints: str) -> None:
        super().__init__(message, *hints)
        self.log = log


@dataclass(frozen=True)
class Derivation:
    """What evaluating a system gives: how to build it (`drv`, in the Nix store), and what Nix says its path will be."""

    drv: str
    out: str


def locking(tree: Path) -> str:
    """Nix's option that keeps it to the tree's lock file.

    Without one there are no inputs to lock (admin/pack.py sees to that).
    """
    return "--no-update-lock-file" if (tree / "flake.lock").exists() else "--no-write-lock-file"


def toplevel(source: BuildInput) -> str:
    """Where in a flake the system is."""
    return f'path:{source.tree}#nixosConfigurations."{source.attribute}".config.system.build.toplevel'


def of_channel(source: BuildInput) -> tuple[str, ...]:
    """How a channel host's system is found."""
    return ("<nixpkgs/nixos>", "-I", f"nixos-config={source.tree / 'configuration.nix'}")


def build(source: BuildInput, root: Path, on_line: Callable[[str], None] | None = None) -> SystemPath:
    """Build a system and keep it by a GC root at `root`. `on_line` gets what Nix says. Raises BuildFailed."""
    source.unpack()
    if source.kind == "flake":
        argv = [*_nix_build(on_line), "--out-link", str(root), toplevel(source), locking(source.tree)]
    else:
        argv = ["nix-build", "--out-link", str(root), *of_channel(source), "-A", "system"]
    return _built([*argv, *source.args], root, on_line)


def build_derivation(
    derivation: Derivation, source: BuildInput, root: Path, on_line: Callable[[str], None] | None = None
) -> SystemPath:
    """As `build`, of a system that has been evaluated already. Raises BuildFailed."""
    if not Path(derivation.drv).exists():  # nothing keeps it: the garbage collector may have had it meanwhile
        return build(source, root, on_line)
    if source.kind == "flake":  # its arguments are for `nix build`
        outputs = "^*" if _release() >= _NAMES_OUTPUTS else ""
        argv = [*_nix_build(on_line), "--out-link", str(root), derivation.drv + outputs]
    else:
        argv = ["nix-build", "--out-link", str(root), derivation.drv]
    return _built([*argv, *source.args], root, on_line)


def _nix_build(on_line: Callable[[str], None] | None) -> list[str]:
    return ["nix", *FEATURES, "build", *(["--print-build-logs"] if on_line is not None else [])]


def _built(argv: Sequence[str], root: Path, on_line: Callable[[str], None] | None) -> SystemPath:
    done = run_keeping_tail(argv, tail=LIMITS.log_tail, on_line=on_line)
    if done.code != 0:
        raise failure("the build failed", done)
    return system_path(str(root.readlink()), done.words())


class NotToBeHad(Refused):
    """A system that no substituter gave, for a host that evaluates nothing. It may be had later."""


def fetch(system: SystemPath, root: Path) -> None:
    """Have a system in the store by substitution only, and keep it by a GC root at `root`. Raises NotToBeHad."""
    if not system.endswith(".drv"):  # that would be built
        argv = ["nix-store", "--realise", str(system), "--add-root", str(root), "--indirect"]
        done = run_keeping_tail(argv, tail=LIMITS.log_tail)
        if done.code == 0 and (Path(system) / "nixos-version").exists():
            return
        why = failure("", done).message.removeprefix(": ") if done.code != 0 else "it is no NixOS system"
    else:
        why = "it is no system"
    raise NotToBeHad(
        f"this host evaluates nothing, and can't have the system {system}: {why}",
        "put it into the hosts' binary cache, and let them trust its key",
    )


def compare(before: SystemPath, after: SystemPath) -> str:
    """How two systems of this machine's Nix store differ, package by package, by nvd where there is one.

    Raises WorkFailed. Empty where no package's version and no large size differs.
    """
    if shutil.which("nvd") is not None:
        argv = ["nvd", "--color", "never", "diff", before, after]
    else:
        argv = ["nix", *FEATURES, "store", "diff-closures", before, after]
    done = run(argv)
    if done.code != 0:
        raise WorkFailed(f"can't compare {before} with {after}: {done.words()}", f"try it: {argv[0]} --help")
    return done.out[-LIMITS.comparison :].decode("utf-8", "replace")


def failure(what: str, done: Done) -> BuildFailed:
    """What failed, with the last error that Nix said."""
    log = done.err[-LIMITS.log_tail :].decode("utf-8", "replace")
    errors = [line.strip() for line in log.splitlines() if "error:" in line]
    said = "".join(char for char in (errors[-1] if errors else done.words(200)) if char.isprintable())[:300]
    hints = ALONE_AS_ROOT if "'build-users-group' does not exist" in said else ()
    return BuildFailed(f"{what}: {said}", log, *hints)


def system_path(path: str, log: str = "") -> SystemPath:
    """What Nix gave, if it is a system's path. Raises BuildFailed."""
    try:
        return SystemPath.parse(path)
    except BadName as error:
        raise BuildFailed(error.message, log, "the attribute must be a NixOS system") from None


def require_nix() -> None:
    """Raise EnvironmentFailed where one of Nix's programs isn't installed; starts nothing."""
    for name in ("nix", "nix-build", "nix-instantiate", "nix-store"):
        require(name)


def version() -> str:
    """What `nix --version` says, once the Nix store can be used. Raises EnvironmentFailed without Nix.

    Opening the store once before several builds matters: in a new one, two at a time stumble over each other's folders.
    """
    opened = run(["nix-instantiate", "--eval", "--expr", "1"], timeout=60)
    if opened.code != 0:
        raise EnvironmentFailed(f"Nix doesn't work here: {opened.words()}", "try it: nix-instantiate --eval --expr 1")
    return run(["nix", "--version"], timeout=60).out.decode("utf-8", "replace").strip()


def update_flake(folder: Path, inputs: Sequence[str], *, timeout: float | None = None) -> None:
    """Move these inputs (none named: all) of the flake in `folder` on, in its flake.lock. Raises WorkFailed.

    A name that the flake doesn't have is only warned of by Nix. Nix has `timeout` seconds, or EnvironmentFailed.
    """
    done = run(update_command(f"path:{folder}", inputs), timeout=timeout)
    if done.code != 0:
        raise failure("the update failed", done)


def update_command(flake: str, inputs: Sequence[str]) -> list[str]:
    """The command that does it with this machine's version of Nix."""
    if _release() >= _NAMES_INPUTS:
        argv = ["flake", "update", "--flake", flake, *inputs]
    elif inputs:
        argv = ["flake", "lock", flake, *(word for name in inputs for word in ("--update-input", name))]
    else:
        argv = ["flake", "update", flake]
    return ["nix", *FEATURES, *argv]


def _release() -> tuple[int, int]:
    """Nix's version; (0, 0) for one that says it in another way."""
    return _release_of(shutil.which("nix") or "nix")


@functools.cache
def _release_of(program: str) -> tuple[int, int]:
    said = run([program, "--version"], timeout=60).out.decode("utf-8", "replace").split()
    found = re.match(r"([0-9]+)\.([0-9]+)", said[-1]) if said else None
    return (int(found[1]), int(found[2])) if found is not None else (0, 0)


def missing_builders() -> str | None:
    """The group of build users that Nix wants before it builds for this user, where there is none of that name."""
    if os.geteuid() != 0:
        return None
    done = run(["nix", *FEATURES, "show-config", "--json"], timeout=60)
    group = str(json.loads(done.out)["build-users-group"]["value"]) if done.code == 0 else ""
    if not group:
        return None
    try:
        grp.getgrnam(group)
    except KeyError:
        return group
    return None


def channel_path() -> str | None:
    """Where `<nixpkgs>` lies now, following links; None without one."""
    done = run(["nix-instantiate", "--find-file", "nixpkgs"], timeout=60)
    return os.path.realpath(done.out.decode().strip()) if done.code == 0 else None


def set_profile(profile: Path, system: str) -> None:
    """Make `system` the profile's newest generation, and check that it is. Raises WorkFailed."""
    done = run(["nix-env", "--profile", str(profile), "--set", system])
    if done.code != 0:
        raise WorkFailed(
            f"can't set the system profile: {done.words()}",
            f"see whose it is, and how full the disk: ls -l {quote(str(profile))}; df -h {quote(str(profile.parent))}",
        )
    if read_system(profile) != system:
        raise WorkFailed(
            f"the system profile {profile} doesn't point to the system it was set to",
            f"see what it points to: ls -l {quote(str(profile))}",
        )


def read_system(link: Path) -> str | None:
    """The store path that a profile or /run/current-system leads to; None where there is no such link."""
    try:
        return str(link.resolve(strict=True))
    except OSError:
        return None


def keep(root: Path, system: str) -> None:
    """Make `root` a GC root of a path that is in the store already. Raises EnvironmentFailed."""
    done = run(["nix-store", "--realise", system, "--add-root", str(root), "--indirect"])
    if done.code != 0:
        raise EnvironmentFailed(
            f"can't keep {system} from garbage collection: {done.words()}", "see whether the disk is full: df -h /nix"
        )


def profile_systems(profile: Path, extra: Sequence[str] = ()) -> frozenset[str]:
    """The systems of all generations that the profile still has."""
    links = profile.parent.glob(f"{profile.name}-*-link") if profile.parent.is_dir() else ()
    found = {path for link in links if (path := read_system(link)) is not None}
    return frozenset(found | set(extra))
