"""`bento build` and what deploy does instead of it, with real Nix; this machine is a private /nix and /run."""

import json
import subprocess
from pathlib import Path

import pytest

from bento.demo.systems import Behaviour, System, write_channel
from rig.world import PROGRAMS, World, said


def test_a_switch_makes_this_machine_run_and_boot_the_system_as_nixos_rebuild_does(world: World) -> None:
    desk = world.add("desk", system=System("on the admin's own machine"))
    built = world.bento("build", "switch", "--on", desk.name, "--yes", desk.name).split()[1]
    assert world.admin.running() == built == world.admin.profile() == world.admin.boot_default()
    assert world.admin.switches() == [("switch", built)]


def test_a_test_makes_this_machine_run_the_system_and_boot_what_it_booted_before(world: World) -> None:
    desk = world.add("desk")
    first = world.bento("build", "switch", "--on", desk.name, "--yes", desk.name).split()[1]
    desk.write(System("tried"))
    tried = world.bento("build", "test", "--on", desk.name, "--yes", desk.name).split()[1]
    assert tried != first
    assert world.admin.running() == tried
    assert world.admin.profile() == world.admin.boot_default() == first


@pytest.mark.parametrize(("typed", "code"), [("{name}", 0), ("yes", 2), ("", 2)])
def test_on_a_terminal_the_host_s_name_is_what_must_be_typed(world: World, typed: str, code: int) -> None:
    desk = world.add("desk")
    command = f"{PROGRAMS}/bento --dir {world.fleet} build switch --on {desk.name}"
    done = world.admin.run(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        stdin=typed.format(name=desk.name).encode() + b"\n",
    )
    assert done.returncode == code, said(done)
    assert (world.admin.running() is not None) == (code == 0)
    assert b"type its name" in done.stdout


def test_without_a_terminal_and_without_the_name_nothing_is_built_or_switched(world: World) -> None:
    desk = world.add("desk")
    command = [PROGRAMS / "bento", "--dir", world.fleet, "build", "switch", "--on", desk.name]
    for words in ((), ("--yes", "web")):
        done = world.admin.run(["setsid", "--wait", *command, *words])
        assert done.returncode == 2, said(done)
        assert b"this machine stays as it is" in done.stderr
    other = world.add("other")
    done = world.try_bento("build", "switch", "--yes", other.name)
    assert done.returncode == 2, said(done)
    assert b"exactly one host" in done.stderr
    assert world.admin.switches() == []
    assert not list(world.admin.path("/nix").glob("store/*-nixos-system-*"))


def test_the_switch_runs_in_a_unit_of_its_own_where_there_is_a_systemd(world: World, tmp_path: Path) -> None:
    desk = world.add("desk")
    programs = tmp_path / "programs"
    programs.mkdir()
    recorder = programs / "systemd-run"
    recorder.write_text(
        f'#!/bin/sh\necho "$*" >>{programs}/log\nwhile [ "${{1#/nix}}" = "$1" ]; do shift; done\nexec "$@"\n'
    )
    recorder.chmod(0o755)
    world.admin.path("/run/systemd/system").mkdir(parents=True)
    done = world.try_bento(
        *("build", "switch", "--on", desk.name, "--yes", desk.name),
        env={"PATH": f"{programs}:{world.admin.env['PATH']}"},
    )
    assert done.returncode == 0, said(done)
    asked = (programs / "log").read_text()
    assert "--unit=nixos-rebuild-switch-to-configuration" in asked
    assert "NIXOS_INSTALL_BOOTLOADER=0" in asked
    assert asked.strip().endswith(f"{world.admin.running()}/bin/switch-to-configuration switch")


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        (Behaviour.FAIL_BEFORE, 1, "this machine runs no system"),
        (Behaviour.FAIL_AFTER, 1, "ended with exit 2"),
        (Behaviour.NO_LINK, 1, "this machine runs no system"),
        (Behaviour.UNITS_FAILED, 0, "some units failed"),
        (Behaviour.REBOOT, 0, "at the next boot"),
    ],
)
def test_how_a_switch_of_this_machine_ended_is_told_by_what_runs(
    world: World, behaviour: Behaviour, code: int, words: str
) -> None:
    desk = world.add("desk", system=System(behaviour=behaviour))
    done = world.try_bento("build", "test", "--on", desk.name, "--yes", desk.name)
    assert done.returncode == code, said(done)
    assert words in done.stderr.decode()


def test_verbose_shows_what_nix_says_as_lines_of_the_host_and_a_build_without_it_is_quiet(world: World) -> None:
    web = world.add("web", system=System(build_fails=True))
    quiet = world.try_bento("build")
    assert f"{web.name}: nixos" not in quiet.stderr.decode()
    for loud in (world.try_bento("build", "-v"), world.try_bento("build", env={"VERBOSE": "1"})):
        lines = loud.stderr.decode().splitlines()
        assert any(line.startswith(f"{web.name}: ") and "is meant not to build" in line for line in lines), said(loud)
    off = world.try_bento("build", env={"VERBOSE": "0"})
    assert off.stderr == quiet.stderr


def test_what_is_published_stays_in_this_machine_s_nix_store_whatever_is_built_next(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    published = world.status(web)["published"]["system"]
    web.write(System("built, not published"))
    newer = world.bento("build").split()[1]
    assert newer != published
    world.admin.run(["nix-collect-garbage"], check=True)
    for system in (newer, published):
        assert world.admin.path(system).is_dir()


def test_a_dry_build_fleet_publishes_the_path_that_its_hosts_arrive_at_and_builds_nothing_here(world: World) -> None:
    web, old = world.add("web"), world.add("old", kind="channel")
    settings = world.fleet / "bento.toml"
    settings.write_text(settings.read_text().replace('mode = "build"', 'mode = "dry-build"'))
    assert json.loads(world.bento("deploy", "--json"))["built"] == 0
    assert not [path for path in world.admin.path("/nix/store").glob("*-nixos-system-*") if path.is_dir()]
    published = world.status(web)["published"]["system"]
    assert "builds another system" not in web.run()
    assert web.root.running() == published
    old.run()
    assert [world.status(one)["state"] for one in (web, old)] == ["up to date", "up to date"]


def test_rebuild_makes_a_channel_host_take_what_its_nixpkgs_has_become_and_only_once(
    world: World, tmp_path: Path
) -> None:
    old, web = world.add("old", kind="channel"), world.add("web")
    world.bento("deploy")
    old.run()
    web.run()
    before = old.root.running()
    write_channel(tmp_path / "newer")
    moved = tmp_path / "newer/nixos/default.nix"
    moved.write_text(moved.read_text().replace('version = "stand-in"', 'version = "newer"'))
    there = {"NIX_PATH": f"nixpkgs={tmp_path}/newer"}

    def run() -> subprocess.CompletedProcess[bytes]:
        done = old.agent("run", env=there)
        assert done.returncode == 0, said(done)
        return done

    world.bento("deploy")
    run()
    assert old.root.running() == before

    told = json.loads(world.bento("deploy", "--rebuild", "--json"))
    assert told["built"] == 2
    assert told["published"][old.name]["changed"] == ["settings"]
    assert told["published"][web.name]["changed"] is None
    run()
    assert old.root.running() != before
    assert world.status(old)["state"] == "up to date"

    assert json.loads(world.bento("deploy", "--json"))["published"][old.name]["changed"] is None
    world.bento("secret", "add", old.name, "-", "--name", "token", stdin=b"1")
    world.bento("deploy")
    assert "no build" in said(run())
