"""Deploy every host of a fleet, or look at their state, Nix left out: prints the seconds it took, imports aside."""

import hashlib
import importlib
import os
import sys
import time
from pathlib import Path

from bento.adapters import evaluation, folder, nix, stamps
from bento.admin import workspace
from bento.admin.deploy import deploy
from bento.admin.inventory import load_fleet, load_trust
from bento.admin.status import status
from bento.names import HostName, SystemPath

_LONG = 3600 * 10**9  # nanoseconds
_BASE32 = str.maketrans("etou", "ghjk")  # letters that Nix's hashes don't have


def _derivation(tree: Path, attribute: str | None) -> nix.Derivation:
    name = hashlib.sha256(f"{tree}{attribute}".encode()).hexdigest()[:32].translate(_BASE32)
    return nix.Derivation(f"/nix/store/{name}-system.drv", f"/nix/store/{name}-system")


def _alone(source: nix.BuildInput, _on_line: object = None) -> tuple[nix.Derivation, int]:
    return _derivation(source.tree, source.attribute), 1


def _together(flake: evaluation.Flake, _on_line: object = None) -> dict[str, nix.Derivation]:
    return {name: _derivation(flake.tree, name) for name in flake.attributes}


def _build(derivation: nix.Derivation, _source: nix.BuildInput, root: Path, _on_line: object = None) -> SystemPath:
    system = SystemPath(derivation.out)
    root.unlink(missing_ok=True)
    root.symlink_to(system)
    return system


def _has(self: workspace.Workspace, host: HostName, system: SystemPath) -> bool:
    """As Workspace.has, for systems that are in no Nix store."""
    try:
        return os.readlink(f"{self.root}/roots/{host}") == system  # noqa: PTH115 — as it does
    except OSError:
        return False


class _Groups(dict[str, int]):
    """As if every host had an account in this machine's own file."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> int:
        return os.getgid()


def main(root: Path, work: str = "deploy") -> None:
    """Deploy, or ask for the status. Raises RuntimeError where a host fails, or isn't up to date."""
    setattr(evaluation, "alone", _alone)  # noqa: B010 — mypy takes an assignment for a mistake
    setattr(evaluation, "together", _together)  # noqa: B010
    setattr(nix, "build_derivation", _build)  # noqa: B010
    setattr(nix, "require_nix", lambda: None)  # noqa: B010
    setattr(nix, "version", lambda: "nix 2.8")  # noqa: B010
    setattr(nix, "channel_path", lambda: None)  # noqa: B010
    if os.environ.get("ACCOUNTS"):
        setattr(folder, "local_groups", _Groups)  # noqa: B010
    setattr(workspace.Workspace, "has", _has)  # noqa: B010
    setattr(stamps, "_TICK", -_LONG)  # noqa: B010 — as if all files had long been there
    if "sftp://" in (root / "bento.toml").read_text():
        importlib.import_module("bento.adapters.sftp_target")  # paramiko, too: only where it is used
        importlib.import_module("bento.adapters.sftp_keys")
    started = time.perf_counter()
    fleet, trust = load_fleet(root), load_trust(root)
    names = tuple(fleet.hosts)
    if work == "status":
        if any(one.state.state != "up to date" or one.notes for one in status(fleet, trust, names)):
            raise RuntimeError("not all hosts are up to date")
        sys.stdout.write(f"{time.perf_counter() - started}\n")
        return
    done = deploy(fleet, trust, names, lambda: int(time.time()), lambda *_: None)
    if done.failed or done.missed:
        raise RuntimeError(f"{len(done.failed)} hosts failed")
    sys.stdout.write(f"{time.perf_counter() - started}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
