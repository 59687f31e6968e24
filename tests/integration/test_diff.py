"""`bento diff` and `bento deploy --dry-run`: what they say is what happens, and they write nothing."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.samples import manifest

from bento.admin.diff import _packages
from bento.demo.systems import System
from rig.desk import tree
from rig.world import Machine, World, said


def settings(world: World, old: str, new: str) -> None:
    file = world.fleet / "bento.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def add_token(world: World, web: Machine) -> None:
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"1")


def hold_at_the_first(world: World, web: Machine) -> None:
    """As `bento rollback` writes it, but before it publishes; and what the first deploy packed isn't here any more."""
    first = world.status(web)["published"]["serial"]
    web.write(System("second"))
    world.bento("deploy")
    settings(world, f"[hosts.{web.name}]\n", f"[hosts.{web.name}]\nhold = {first}\n")


def only_evaluate(world: World, web: Machine) -> None:
    settings(world, 'mode = "build"', 'mode = "dry-build"')
    web.write(System("changed"))


EDITS: dict[str, Callable[[World, Machine], object]] = {
    "nothing": lambda _world, _web: None,
    "configuration": lambda _world, web: web.write(System("changed")),
    "secrets": add_token,
    "settings": lambda world, _web: settings(world, 'action = "switch"', 'action = "boot"'),
    "objects": lambda world, web: next((world.manifest(web).parent / "objects").iterdir()).unlink(),
    "first release": lambda world, web: world.manifest(web).unlink(),
    "a machine too small to build": only_evaluate,
    "an earlier release": hold_at_the_first,
    "a forged release": lambda world, web: world.manifest(web).write_text("{}\n"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_plan_is_what_deploy_then_does_and_writes_nothing(world: World, edit: str) -> None:
    web = world.add("web")
    world.bento("deploy")
    EDITS[edit](world, web)
    home = Path(world.admin.env["HOME"])
    before = [tree(folder) for folder in (world.fleet, world.sshd.publish, home / ".local/state")]

    told = world.try_bento("deploy", "--dry-run", "--json")
    assert world.try_bento("deploy", "--dry-run").returncode == told.returncode

    assert [tree(folder) for folder in (world.fleet, world.sshd.publish, home / ".local/state")] == before
    deployed = world.try_bento("deploy", "--json")
    assert deployed.returncode == told.returncode
    plan, done = json.loads(told.stdout), json.loads(deployed.stdout)
    assert plan["failed"] == done["failed"]
    assert {name: one["changes"] for name, one in plan["hosts"].items()} == {
        name: one["changed"] for name, one in done["published"].items()
    }
    assert sum(one["build"] for one in plan["hosts"].values()) == done["built"]


def test_a_plan_names_what_would_fail_and_goes_on(world: World) -> None:
    web, other = world.add("web"), world.add("other")
    add_token(world, web)
    (world.fleet / "secrets" / web.name / "token.age").write_bytes(b"damaged")
    done = world.try_bento("deploy", "--dry-run")
    assert done.returncode == 3, said(done)
    assert f"{other.name}: build, publish (first release)" in done.stdout.decode()
    assert f"error: {web.name}: " in done.stderr.decode()


def deployed(world: World) -> Machine:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    return web


def test_a_host_that_has_what_is_published_would_not_change(world: World) -> None:
    web = deployed(world)
    assert world.bento("diff") == f"{web.name}: nothing changes\n"
    assert world.bento("diff", "--next") == f"{web.name}: nothing changes\n"


def test_a_channel_host_changes_with_its_files_not_with_a_path(world: World) -> None:
    old = world.add("old", kind="channel")
    world.bento("deploy")
    old.run()
    assert world.bento("diff") == f"{old.name}: nothing changes\n"
    old.write(System("changed"))
    assert "a channel host builds with its own nixpkgs" in world.bento("diff", "--next")


def test_packages_secrets_and_settings_are_compared_with_what_the_host_runs(world: World) -> None:
    web = deployed(world)
    old = web.root.running()
    web.write(System("larger", extra="x" * 60_000))
    add_token(world, web)
    settings(world, 'action = "switch"', 'action = "boot"')

    before = world.bento("diff", "--next")
    assert "isn't built yet" in before
    world.bento("deploy")
    shown = world.bento("diff")

    new = world.status(web)["published"]["system"]
    oracle = world.admin.text(["nix", "store", "diff-closures", str(old), new])
    assert "KiB" in oracle
    assert re.sub(r"\x1b\[[0-9;]*m", "", oracle) in shown
    for text in (before, shown):
        assert "  secret token: new\n" in text
        assert "  setting action: switch -> boot\n" in text
    facts = json.loads(world.bento("diff", "--json"))["hosts"][web.name]
    assert (facts["running"], facts["system"]) == (old, new)


def test_nvd_compares_where_it_is_installed(world: World, tmp_path: Path) -> None:
    web = deployed(world)
    old = web.root.running()
    web.write(System("changed"))
    world.bento("deploy")
    programs = tmp_path / "programs"
    programs.mkdir()
    # Not nvd itself: it only tells how it was called, and tries to steer the terminal.
    (programs / "nvd").write_text('#!/bin/sh\nprintf "\\033[31masked for %s\\n" "$*"\n')
    (programs / "nvd").chmod(0o755)
    done = world.try_bento("diff", env={"PATH": f"{programs}:{world.admin.env['PATH']}"})
    new = world.status(web)["published"]["system"]
    assert f"asked for --color never diff {old} {new}" in done.stdout.decode()
    assert b"\x1b" not in done.stdout


def test_an_nvd_that_fails_costs_the_packages_and_nothing_else(world: World, tmp_path: Path) -> None:
    web = deployed(world)
    web.write(System("changed"))
    add_token(world, web)
    world.bento("deploy")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nvd").write_text("#!/bin/sh\necho no such version >&2; exit 1\n")
    (programs / "nvd").chmod(0o755)
    done = world.try_bento("diff", env={"PATH": f"{programs}:{world.admin.env['PATH']}"})
    assert done.returncode == 0, said(done)
    assert "packages are not compared: can't compare " in done.stdout.decode()
    assert ": no such version\n" in done.stdout.decode()
    assert "  secret token: new\n" in done.stdout.decode()


def test_a_system_that_is_not_here_is_said_not_guessed(world: World) -> None:
    web = world.add("web")
    settings(world, 'mode = "build"', 'mode = "dry-build"')
    world.bento("deploy")
    web.run()
    web.write(System("changed"))
    world.bento("deploy")
    assert "packages are not compared: what it runs isn't in this machine's Nix store" in world.bento("diff")


def test_a_host_that_never_reported_and_one_that_was_never_published_are_told_apart(world: World) -> None:
    new = world.add("new")
    world.bento("deploy")
    never = world.add("never")
    done = world.try_bento("diff")
    assert done.returncode == 3, said(done)
    assert f"{new.name}: - -> " in done.stdout.decode()
    assert "it has not reported that it installed anything yet" in done.stdout.decode()
    assert f"error: {never.name}: nothing is published" in done.stderr.decode()


@pytest.mark.parametrize("running", ["--option", "/etc/shadow", "/nix/store/../../etc", "https://x"])
def test_what_a_host_says_it_runs_never_becomes_an_argument_unless_it_is_a_store_path(running: str) -> None:
    assert _packages(running, manifest()) == (None, "what it runs is no system of a Nix store")
