"""What Nix says of a flake or a module without building it, in the words that 2.8 to 2.34 have in common."""

import json
from collections.abc import Mapping
from pathlib import Path

from bento.adapters.process import Done, require, run
from bento.errors import WorkFailed
from bento.names import printable

FEATURES = ("--extra-experimental-features", "nix-command flakes")

# Nix itself takes every name among the arguments of `outputs` for an input, besides those of `inputs`.
_INPUTS = """
{ file }: let flake = import file; in
builtins.attrNames (flake.inputs or { } // builtins.functionArgs (flake.outputs or (_: { })))
"""


# A module's accounts and the keys that let in, its own and those of modules written into its `imports`. What else the
# module says is never evaluated.
_ACCOUNTS = """
{ file }: with builtins; let
  lib = builtins // { mkDefault = x: x; mkForce = x: x; mkIf = c: x: if c then x else { }; };
  arguments = { inherit lib; pkgs = { }; config = { }; };
  given = f: if functionArgs f == { } then arguments else intersectAttrs (functionArgs f) arguments;
  called = m: if isFunction m then m (given m) else m;
  accounts = m: let module = called m; in
    [ ((module.config or module).users.users or { }) ]
    ++ concatMap (one: if isAttrs one || isFunction one then accounts one else [ ]) (module.imports or [ ]);
in map (mapAttrs (_: user: user.openssh.authorizedKeys.keys or [ ])) (accounts (import file))
"""


def inputs_of(file: Path) -> frozenset[str] | None:
    """The names of the inputs of a flake.nix; None where Nix can't tell, as with an error in it.

    Nothing is fetched, nor written to a Nix store. Raises EnvironmentFailed without Nix.
    """
    done = _read(_INPUTS, file)
    # `inputs.self` has settings of the flake itself.
    return frozenset(json.loads(done.out)) - {"self"} if done.code == 0 else None


def accounts_of(file: Path) -> Mapping[str, tuple[str, ...]]:
    """The accounts that a NixOS module makes, and the public keys that log in to each.

    Raises WorkFailed where Nix can't tell, EnvironmentFailed without Nix.
    """
    done = _read(_ACCOUNTS, file)
    if done.code != 0:
        raise WorkFailed(
            f"Nix can't read {file}: {_error_of(done)}", "name the keys by hand: bento host add NAME --key-file FILE"
        )
    found: dict[str, tuple[str, ...]] = {}
    for accounts in json.loads(done.out):
        for name, keys in accounts.items():
            found[name] = (*found.get(name, ()), *(str(key).strip() for key in keys))
    return found


def _read(expression: str, file: Path) -> Done:
    require("nix")
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://"]
    options = ("--option", "restrict-eval", "false", "--option", "pure-eval", "false")
    return run([*argv, *options, "--expr", expression, "--argstr", "file", str(file)], timeout=60)


def _error_of(done: Done) -> str:
    errors = [line for line in done.err.decode("utf-8", "replace").splitlines() if "error:" in line]
    return printable(errors[-1].strip(), 300) if errors else done.words()


def configurations(tree: Path) -> tuple[str, ...]:
    """The names of nixosConfigurations in an unpacked flake, sorted. Raises WorkFailed with what Nix said."""
    require("nix")
    locked = (tree / "flake.lock").exists()
    flag = "--no-update-lock-file" if locked else "--no-write-lock-file"
    argv = ["nix", *FEATURES, "eval", "--json", "--apply", "builtins.attrNames", flag]
    done = run([*argv, f"path:{tree}#nixosConfigurations"])
    if done.code != 0:
        raise WorkFailed(f"can't tell its nixosConfigurations: {_error_of(done)}", "see what it has: nix flake show")
    return tuple(sorted(str(name) for name in json.loads(done.out)))
