"""The stored manifest of the live secrets is gone: the host mends that, and takes and undoes releases all the same."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bento.agent import activate, take
from bento.agent.activate import Log, begin, roll_back
from bento.agent.host import Host
from bento.agent.install import stored_manifest
from bento.agent.recover import recover, reinstall
from bento.core.journal import Journal, Point
from bento.demo.systems import System
from bento.names import Serial
from rig.lone import LoneHost
from rig.world import Machine, World


def lose(manifest: Path) -> None:
    manifest.unlink()


def damage(manifest: Path) -> None:
    manifest.write_bytes(b"x" * 100)


def lose_all(folder: Path, how: Callable[[Path], None] = lose) -> list[str]:
    names = [path.name for path in folder.iterdir()]
    for name in names:
        how(folder / name)
    return names


@pytest.fixture
def web(world: World) -> Machine:
    """A host with a secret that a unit is restarted for."""
    machine = world.add("web")
    world.bento("secret", "add", machine.name, "-", "--name", "token", "--restart", "a.service", stdin=b"1")
    world.bento("deploy")
    machine.run()
    return machine


@pytest.mark.parametrize("how", [lose, damage])
def test_a_poll_stores_what_is_lost_of_the_installed_release_anew(
    world: World, web: Machine, how: Callable[[Path], None]
) -> None:
    (name,) = lose_all(web.state / "manifests", how)
    kept = {path.name: path.read_bytes() for path in (web.state / "objects").iterdir()}
    lose_all(web.state / "objects")
    assert f"release {name} is stored anew" in web.run()
    assert (web.state / "manifests" / name).read_bytes() == world.manifest(web).read_bytes()
    assert {path.name: path.read_bytes() for path in (web.state / "objects").iterdir()} == kept
    assert "stored anew" not in web.run()


@pytest.mark.parametrize("system", ["another", "the same"])
def test_the_next_release_is_installed_whole_and_restarts_its_units(world: World, web: Machine, system: str) -> None:
    lose_all(web.state / "manifests")
    before = web.root.running()
    if system == "another":
        web.write(System("second"))
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"2")
    world.bento("deploy")
    web.run()
    assert web.secret("token") == b"2"
    assert (web.root.running() != before) == (system == "another")
    assert any("a.service" in line for line in web.restarts())
    assert world.status(web)["state"] == "up to date"


def switched(lone: LoneHost, host: Host, releases: tuple[int, int] = (1, 2)) -> Journal:
    """Switched to the second release, which isn't confirmed yet, with the first one's manifest lost before."""
    old, new = releases
    (host.state.manifests / str(old)).unlink()
    take.open_generation(host, stored_manifest(host, Serial(new)))
    journal = begin(host, Point(lone.system("new"), Serial(new)))
    activate.switch(host, journal, Log(host.say))
    assert lone.content() == f"content {new}".encode()
    return journal


@pytest.mark.parametrize("by", ["the run", "the next run"])
def test_a_switch_that_is_undone_brings_back_the_secrets_as_they_were_opened(lone: LoneHost, by: str) -> None:
    place = lone.folder / "etc/token"
    place.parent.mkdir()
    host = lone.fresh({1: {"path": str(place), "restart": ("old.service",)}, 2: {"restart": ("new.service",)}})
    journal = switched(lone, host)
    if by == "the run":
        roll_back(host, journal, Log(host.say))
    else:
        recover(host, host.state.journal())
    assert (host.running(), lone.content()) == (lone.system("old"), b"content 1")
    assert place.read_bytes() == b"content 1"
    assert host.state.journal().phase == "idle"
    assert [line for line in lone.asked() if "new.service" in line][1:], "restarted with the old secret too"
    # what the old system's own activation asks for
    assert reinstall(host, lone.system("old")) == (1, ())
    # nor does it hang on to the link for good
    switched_again = begin(host, Point(lone.system("new"), Serial(2)))
    activate.switch(host, switched_again, Log(host.say))
    activate.commit(host, switched_again, Log(host.say))
    activate.link(host, Serial(2), Serial(2))
    assert not place.is_symlink()


def test_after_a_power_cut_the_old_system_is_back_without_another_releases_secrets(lone: LoneHost) -> None:
    host = lone.fresh()
    switched(lone, host)
    for path in lone.runtime.root.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (lone.folder / "current-system").unlink()
    (lone.folder / "current-system").symlink_to(lone.system("old"))
    assert recover(host, host.state.journal()).outcome == "rolled-back"
    assert (host.running(), host.runtime.live(), host.state.journal().phase) == (lone.system("old"), None, "idle")
    # and nothing keeps it from the release that it was about to take
    take.open_generation(host, stored_manifest(host, Serial(2)))
    journal = begin(host, Point(lone.system("new"), Serial(2)))
    activate.switch(host, journal, Log(host.say))
    activate.commit(host, journal, Log(host.say))
    assert (lone.content(), lone.default()) == (b"content 2", lone.system("new"))


@pytest.mark.parametrize("how", [lose, damage])
def test_what_can_be_forgotten_is_though_a_manifest_is_lost(lone: LoneHost, how: Callable[[Path], None]) -> None:
    host = lone.fresh()
    how(host.state.manifests / "1")
    (host.state.objects / "stray").write_text("x")
    take.prune(host)
    assert not (host.state.objects / "stray").exists()


def test_a_manifest_that_the_disk_does_not_give_just_now_keeps_its_objects(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lone.fresh()
    before = sorted(host.state.objects.iterdir())
    real = os.open

    def opened(path: str, *args: Any, **kwargs: Any) -> int:
        if path == str(host.state.manifests / "1"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)
    take.tidy_up(host)
    assert any("can't remove what isn't needed any more" in line for line in lone.said)
    assert sorted(host.state.objects.iterdir()) == before


def test_secrets_for_users_come_back_too_and_are_activated(lone: LoneHost) -> None:
    host = lone.fresh({1: {"users": True, "mode": "0400"}, 2: {"users": True, "mode": "0400"}})
    (host.state.manifests / "1").unlink()
    take.open_generation(host, stored_manifest(host, Serial(2)))
    journal = begin(host, Point(lone.system("old"), Serial(2)))  # the same system: only a password changes
    activate.switch(host, journal, Log(host.say))
    assert host.for_users.live() == 2
    roll_back(host, journal, Log(host.say))
    assert (host.for_users.live(), host.runtime.live()) == (1, 1)
    assert lone.actions() == ["test old", "test old"]
