"""Nix's evaluations: of one host alone, of several hosts of a flake in one process, or by nix-eval-jobs.

Whatever evaluates several hosts gives those that it could, and blames nobody: what it doesn't give is evaluated alone,
and that one error is the host's. So a broken host harms only itself.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bento.adapters.nix import FEATURES, BuildInput, Derivation, failure, locking, of_channel, toplevel
from bento.adapters.process import Done, run_keeping_tail
from bento.models.limits import LIMITS

EVAL_JOBS = "nix-eval-jobs"
_ONE = "system: { drv = system.drvPath; out = system.outPath; }"
# Each is said as soon as it is known, so that one which can't be evaluated takes none of those before it along. (A set
# with an `outPath` would become that path in toJSON.)
_SEVERAL = """
all: builtins.foldl' (done: name: let system = all.${name}.config.system.build.toplevel; in
  builtins.trace (builtins.toJSON { bento = name; drv = system.drvPath; out = system.outPath; }) done) true"""
# An attrset of derivations, which is what nix-eval-jobs takes.
_SELECTED = """
all: builtins.listToAttrs (map (name: { inherit name; value = all.${name}.config.system.build.toplevel; }) """
_SAID = "trace: "
_QUOTED = re.compile(r'"([^"]*)"')


@dataclass(frozen=True)
class Flake:
    """Hosts of one flake, by their attributes, with Nix's arguments."""

    tree: Path
    attributes: tuple[str, ...]
    args: tuple[str, ...] = ()
    unpack: Callable[[], None] = field(default=lambda: None, compare=False)


def alone(source: BuildInput, on_line: Callable[[str], None] | None = None) -> tuple[Derivation, int]:
    """Evaluate one host. Also the most memory in bytes that it took. Raises BuildFailed, WorkFailed."""
    source.unpack()
    if source.kind == "flake":
        argv = ["nix", *FEATURES, "eval", "--json", toplevel(source), locking(source.tree), "--apply", _ONE]
    else:
        argv = ["nix-instantiate", "--eval", "--json", "--read-write-mode", *of_channel(source)]
        argv += ["-A", "system.drvPath", "-A", "system.outPath"]
    done = _run([*argv, *source.args], on_line)
    if done.code != 0:
        raise failure("the evaluation failed", done)
    found = _QUOTED.findall(done.out.decode("utf-8", "replace"))
    if source.kind == "flake":
        found = found[1::2]  # {"drv":"…","out":"…"}
    if len(found) != len(("drv", "out")):
        raise failure("the evaluation gave no system", done)
    return Derivation(*found), done.peak


def together(flake: Flake, on_line: Callable[[str, str], None] | None = None) -> Mapping[str, Derivation]:
    """Evaluate hosts in one process, in their order. Gives those before the first that fails, by attribute.

    `on_line` gets what Nix says, after the attribute that it says it of. Raises EnvironmentFailed without Nix.
    """
    found: dict[str, Derivation] = {}
    flake.unpack()

    def hear(line: str) -> None:
        said = _parsed(line.removeprefix(_SAID)) if line.startswith(_SAID) else {}
        if isinstance(said.get("bento"), str):
            found[said["bento"]] = Derivation(str(said.get("drv")), str(said.get("out")))
        elif on_line is not None:
            on_line(next((name for name in flake.attributes if name not in found), flake.attributes[-1]), line)

    expression = f"{_SEVERAL} {_names(flake.attributes)}"
    where = [f"path:{flake.tree}#nixosConfigurations", locking(flake.tree)]
    _run(["nix", *FEATURES, "eval", "--json", *where, "--apply", expression, *flake.args], hear)
    return {name: found[name] for name in flake.attributes if name in found}


def has_eval_jobs() -> bool:
    """Whether nix-eval-jobs is installed."""
    return shutil.which(EVAL_JOBS) is not None


def by_eval_jobs(flake: Flake, workers: int, memory: int | None) -> Mapping[str, Derivation]:
    """Evaluate hosts by nix-eval-jobs, in so many workers of so many bytes each. Gives those that it could.

    It needs --select, which 2.31 has; an older one gives none. Raises EnvironmentFailed if it isn't there.
    """
    flake.unpack()
    size = [] if memory is None else ["--max-memory-size", str(max(1, memory // 2**20))]
    select = f"{_SELECTED} {_names(flake.attributes)})"
    argv = [EVAL_JOBS, *FEATURES, "--workers", str(workers), *size, "--select", select]
    done = _run([*argv, *flake.args, "--flake", f"path:{flake.tree}#nixosConfigurations"], None)
    found: dict[str, Derivation] = {}
    for line in done.out.decode("utf-8", "replace").splitlines():
        said = _parsed(line)
        match said:
            case {"attrPath": [str(name)], "drvPath": str(drv), "outputs": {"out": str(out)}}:
                found[name] = Derivation(drv, out)
    return {name: found[name] for name in flake.attributes if name in found}


def _names(attributes: Sequence[str]) -> str:
    # What an attribute may be (models/fields.py) needs no escaping in a Nix string.
    return "[ " + " ".join(json.dumps(name) for name in attributes) + " ]"


def _parsed(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _run(argv: Sequence[str], on_line: Callable[[str], None] | None) -> Done:
    return run_keeping_tail(argv, tail=LIMITS.log_tail, on_line=on_line, apart=True)
