"""Disks that are full, folders that take nothing, servers that lie now and then: the host goes on, and says so once."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bento.demo.systems import System
from rig import Sshd
from rig.world import Machine, World


@pytest.fixture
def sshd(as_root: None, tmp_path: Path) -> Iterator[Sshd]:
    """A server whose disk is small."""
    publish = tmp_path / "publish"
    publish.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs", str(publish)], check=True)
    try:
        with Sshd(tmp_path / "sshd", publish) as server:
            yield server
    finally:
        subprocess.run(["umount", str(publish)], check=True)


def outcomes(world: World, machine: Machine) -> list[str]:
    reports = sorted((world.sshd.publish / machine.name / "reports").glob("*.report"))
    return [json.loads(path.read_bytes().split(b"\n")[0])["outcome"] for path in reports]


def test_a_host_whose_own_disk_is_full_says_so_once_and_takes_the_release_when_it_has_room(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    objects = web.state / "objects"
    web.root.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(objects)], check=True)
    web.write(System("second"))
    world.bento("deploy")
    for _ in range(2):
        said = web.run(code=1)
        assert "can't store" in said
        assert "No space left" in said
        assert "server" not in said.partition("can't store")[2]
    assert outcomes(world, web) == ["succeeded", "failed"]
    report = world.report(web)
    assert "No space left" in report["reason"]
    assert report["serial"] == world.status(web)["published"]["serial"]
    assert world.status(web)["state"] == "failing"
    assert web.facts()["tries"] == 0
    web.root.run(["umount", str(objects)], check=True)
    web.run()
    assert world.status(web)["state"] == "up to date"


def test_while_the_servers_disk_is_full_the_host_takes_releases_and_keeps_its_reports(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    filler = world.sshd.publish / "filler"
    with filler.open("wb", buffering=0) as file:
        file.truncate(1 << 30)
        with pytest.raises(OSError, match="No space left"):
            os.posix_fallocate(file.fileno(), 0, 1 << 30)
        room = os.statvfs(filler)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize)
    assert "the report waits to be sent" in web.run()
    assert web.secret("token") == b"first"
    assert web.facts()["reports_waiting"] == 1
    web.run()  # a poll that can't leave its report or heartbeat is a poll all the same
    assert web.facts()["reports_waiting"] == 1
    assert outcomes(world, web) == []
    filler.unlink()
    web.run()
    assert outcomes(world, web) == ["succeeded"]
    assert world.status(web)["state"] == "up to date"
    assert web.facts()["reports_waiting"] == 0
    assert [path.name for path in (world.sshd.publish / web.name / "reports").glob(".*")] == []


def test_a_reports_folder_that_takes_nothing_keeps_no_host_from_its_releases(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    reports = world.sshd.publish / web.name / "reports"
    reports.chmod(0o555)
    assert "doesn't allow it" in web.run()
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"second")
    world.bento("deploy")  # which doesn't mend the folder's mode
    web.run()
    assert web.secret("token") == b"second"
    assert "nothing new" in web.run()
    assert web.facts()["reports_waiting"] == 2
    reports.chmod(0o2770)
    web.run()
    assert outcomes(world, web) == ["succeeded", "succeeded"]


def test_a_refusal_is_forgotten_only_once_a_release_was_fetched_whole(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    web.write(System("second"))
    world.bento("deploy")
    manifest = world.manifest(web)
    good = manifest.read_bytes()
    config = manifest.parent / "objects" / json.loads(good.split(b"\n")[0])["config"]["digest"]
    whole = config.read_bytes()
    for _ in range(2):
        config.write_bytes(b"x" * len(whole))
        web.run(code=6)
        # an honest manifest again, but not its object: nothing that this host could take
        config.unlink()
        assert "isn't whole on the server" in web.run(code=1)
    assert outcomes(world, web) == ["succeeded", "refused"]
    config.write_bytes(whole)
    web.run()
    # it was over: the same again would be news
    config.write_bytes(b"x" * len(whole))
    manifest.write_bytes(good.replace(b"}", b"} ", 1))
    web.run(code=6)
    manifest.write_bytes(good)
    web.run()
    manifest.write_bytes(good.replace(b"}", b"} ", 1))
    web.run(code=6)
    assert outcomes(world, web) == ["succeeded", "refused", "succeeded", "refused", "refused"]
