"""What Nix says of a flake without building it, in the words that 2.8 to 2.34 have in common."""

import json
from pathlib import Path

from bento.adapters.process import require, run
from bento.errors import WorkFailed
from bento.names import printable

FEATURES = ("--extra-experimental-features", "nix-command flakes")

# Nix itself takes every name among the arguments of `outputs` for an input, besides those of `inputs`.
_INPUTS = """
{ file }: let flake = import file; in
builtins.attrNames (flake.inputs or { } // builtins.functionArgs (flake.outputs or (_: { })))
"""


def inputs_of(file: Path) -> frozenset[str] | None:
    """The names of the inputs of a flake.nix; None where Nix can't tell, as with an error in it.

    Nothing is fetched, nor written to a Nix store. Raises EnvironmentFailed without Nix.
    """
    require("nix")
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://"]
    options = ("--option", "restrict-eval", "false", "--option", "pure-eval", "false")
    done = run([*argv, *options, "--expr", _INPUTS, "--argstr", "file", str(file)], timeout=60)
    if done.code != 0:
        return None
    # `inputs.self` has settings of the flake itself.
    return frozenset(json.loads(done.out)) - {"self"}


def configurations(tree: Path) -> tuple[str, ...]:
    """The names of nixosConfigurations in an unpacked flake, sorted. Raises WorkFailed with what Nix said."""
    require("nix")
    locked = (tree / "flake.lock").exists()
    flag = "--no-update-lock-file" if locked else "--no-write-lock-file"
    argv = ["nix", *FEATURES, "eval", "--json", "--apply", "builtins.attrNames", flag]
    done = run([*argv, f"path:{tree}#nixosConfigurations"])
    if done.code != 0:
        errors = [line for line in done.err.decode("utf-8", "replace").splitlines() if "error:" in line]
        said = printable(errors[-1].strip(), 300) if errors else done.words()
        raise WorkFailed(f"can't tell its nixosConfigurations: {said}", "see what it has: nix flake show")
    return tuple(sorted(str(name) for name in json.loads(done.out)))
