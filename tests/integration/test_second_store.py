"""Remote builders and substituters are Nix's own, and reach it through Bento: here with a second real Nix store."""

from pathlib import Path

import pytest

from rig import MakeRoot, PrivateRoot
from rig.joint import HOSTS, Joint, make_joint
from rig.nix import ALONE
from rig.remote import RemoteHost
from rig.world import Machine

A = "a"


@pytest.fixture
def other(make_root: MakeRoot) -> PrivateRoot:
    """The machine with the second store."""
    return make_root("other")


@pytest.fixture
def joint(make_root: MakeRoot, tmp_path: Path) -> Joint:
    return make_joint(make_root("admin"), tmp_path)


def has(machine: PrivateRoot, system: str) -> bool:
    return machine.path(system).is_dir()


def test_what_a_trusted_substituter_has_is_copied_from_there_and_what_it_lacks_is_built_here(
    joint: Joint, other: PrivateRoot, tmp_path: Path
) -> None:
    key, cache = tmp_path / "cache-key", f"file://{tmp_path}/cache"
    other.run(["nix-store", "--generate-binary-cache-key", "acme-1", key, f"{key}.pub"], check=True)
    where = f'path:{joint.fleet}/hosts/all#nixosConfigurations."a".config.system.build.toplevel'
    other.run(["nix", "copy", "--to", f"{cache}?secret-key={key}", where], check=True)
    public = Path(f"{key}.pub").read_text().strip()
    options = ["--option", "substitute", "true", "--option", "substituters", cache]

    joint.settings([*options, "--option", "trusted-public-keys", "else-1:" + public.partition(":")[2]])
    unknown = joint.bento("build", "-v", "--on", A)
    assert b"a: building '/nix/store/" in unknown.stderr

    joint.admin.run(["sh", "-c", f"rm {joint.admin.folder}/home/.local/state/bento/*/roots/*"], check=True)
    joint.admin.run(["nix-store", "--gc"], check=True)
    joint.settings([*options, "--option", "trusted-public-keys", public])
    done = joint.bento("build", "-v", "--on", "a,b")
    systems = dict(line.split() for line in done.stdout.decode().splitlines())
    told = done.stderr.decode()
    assert f"a: copying path '{systems[A]}' from '{cache}'" in told
    assert "a: building '/nix/store/" not in told
    assert "b: building '/nix/store/" in told
    joint.admin.run(["nix-store", "--gc"], check=True)
    assert all(has(joint.admin, system) for system in systems.values())


def test_a_remote_builder_builds_what_was_evaluated_here_and_gives_it_back(
    joint: Joint, other: PrivateRoot, tmp_path: Path
) -> None:
    (tmp_path / "builder").mkdir()
    machine = Machine("builder", "builder", other, tmp_path / "builder", tmp_path / "none", "flake")
    joint.admin.env["NIX_CONFIG"] = joint.admin.env["NIX_CONFIG"].replace(ALONE, "")
    with RemoteHost(machine) as builder:
        system = other.text(["nix", "eval", "--raw", "--impure", "--expr", "builtins.currentSystem"])
        joint.settings(["--builders", f"ssh://root@127.0.0.1 {system}", "--max-jobs", "0"])
        done = joint.bento("build", "-v", env={"NIX_SSHOPTS": builder.options})
    told = done.stderr.decode()
    systems = dict(line.split() for line in done.stdout.decode().splitlines())
    assert tuple(systems) == HOSTS
    assert "on 'ssh://root@127.0.0.1'" in told
    assert joint.asked() == ["a", "bcde"]
    for built in systems.values():
        assert has(other, built)
        assert has(joint.admin, built)
