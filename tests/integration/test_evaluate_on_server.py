"""A host too small to evaluate: it fetches the signed system from a binary cache, and never evaluates."""

import subprocess
from pathlib import Path

import pytest

from bento.demo.systems import System
from rig.nix import nix_env
from rig.world import Machine, World, said

# Of Nix's programs only these are the host's own; the others tell that they were called, and fail.
_ABSENT = ("nix", "nix-build", "nix-instantiate")


@pytest.fixture(params=["flake", "channel"])
def web(request: pytest.FixtureRequest, world: World) -> Machine:
    web = world.add("web", kind=request.param, system=System("first"))
    toml = world.fleet / "bento.toml"
    text = toml.read_text()
    assert 'evaluate = "host"' in text
    toml.write_text(text.replace('evaluate = "host"', 'evaluate = "server"'))
    programs = web.folder / "programs"
    programs.mkdir()
    for name in _ABSENT:
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{web.folder}/called\nexit 1\n')
        (programs / name).chmod(0o755)
    return web


def cache(world: World, *, signed: bool = True) -> Path:
    """Everything in the admin's store as a binary cache."""
    folder = world.folder / "cache"
    key = world.folder / "cache-key"
    if not key.exists():
        argv = ["nix-store", "--generate-binary-cache-key", "acme-1", str(key), f"{key}.pub"]
        world.admin.run(argv, check=True)
    roots = world.admin.run(["sh", "-c", "ls -d /nix/store/*-nixos-system-*"], check=True).stdout.decode().split()
    sign = f"?secret-key={key}" if signed else ""
    world.admin.run(["nix", "copy", "--to", f"file://{folder}{sign}", *roots], check=True)
    return folder


def poll(world: World, web: Machine, code: int) -> str:
    """A run of the agent on a host that trusts the cache's key."""
    key = world.folder / "cache-key.pub"
    trusted = key.read_text().strip() if key.exists() else ""
    base = (
        nix_env(web.folder / "home")["NIX_CONFIG"].replace("substitute = false\n", "").replace("substituters =\n", "")
    )
    config = f"{base}substituters = file://{world.folder}/cache\ntrusted-public-keys = {trusted}\n"
    env = {"NIX_CONFIG": config, "PATH": f"{web.folder}/programs:{web.root.env['PATH']}"}
    done = web.agent("run", env=env)
    assert done.returncode == code, said(done)
    assert not (web.folder / "called").exists(), (web.folder / "called").read_text()
    return said(done)


def test_it_runs_what_the_admin_built_and_evaluates_nothing(world: World, web: Machine) -> None:
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"x")
    world.bento("deploy")
    cache(world)
    poll(world, web, 0)
    first = web.root.running()
    assert first == world.report(web)["new_system"]
    assert web.root.run(["cat", f"{first}/etc/message"]).stdout == b"first\n"
    assert web.secret("token") == b"x"
    assert "nothing new" in poll(world, web, 0)

    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"y")
    world.bento("deploy")
    assert "without a rebuild" in poll(world, web, 0)
    web.write(System("second"))
    world.bento("deploy")
    cache(world)
    poll(world, web, 0)
    assert web.root.run(["cat", f"{web.root.running()}/etc/message"]).stdout == b"second\n"
    assert world.status(web)["state"] == "up to date"


def test_a_system_that_can_not_be_had_is_refused_and_taken_once_it_is_there(world: World, web: Machine) -> None:
    world.bento("deploy")
    (world.folder / "cache").mkdir()
    (world.folder / "cache/nix-cache-info").write_text("StoreDir: /nix/store\n")
    assert "this host evaluates nothing, and can't have the system /nix/store/" in poll(world, web, 6)
    assert world.report(web)["outcome"] == "refused"
    assert web.root.running() is None
    cache(world)
    poll(world, web, 0)
    assert web.root.running() is not None


def test_a_system_without_the_caches_signature_is_refused(world: World, web: Machine) -> None:
    world.bento("deploy")
    cache(world, signed=False)
    poll(world, web, 6)
    assert web.root.running() is None
    subprocess.run(["rm", "-r", str(world.folder / "cache")], check=True)
    cache(world)
    # what Nix remembers of the cache is the host's own
    subprocess.run(["rm", "-rf", str(web.root.folder / "home/.cache")], check=True)
    poll(world, web, 0)
