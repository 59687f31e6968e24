"""A host at the end of a bad link: slow, far away, or pulled out in mid-transfer. Server and host have real ones."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from subprocess import Popen

import pytest

from bento.demo.systems import System
from rig import Sshd
from rig.cable import SERVER, Cable
from rig.relay import Relay
from rig.world import PROGRAMS, Machine, World

pytestmark = [pytest.mark.programs("ip", "tc"), pytest.mark.timeout(240)]

SIZE = 600_000  # bytes of a configuration, which takes six seconds over the slow link: enough to catch it on its way
LEAST = 4096  # more than a sealed secret has
PATIENCE = 4  # seconds of silence until the host takes the server for gone


@pytest.fixture
def cable(as_root: None) -> Iterator[Cable]:
    with Cable() as made:
        yield made


@pytest.fixture
def sshd(cable: Cable, tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd", tmp_path / "publish", SERVER, cable.server) as server:
        yield server


def add(world: World, cable: Cable, port: int) -> Machine:
    """A host whose way to the server is the cable, and a release for it."""
    machine = world.add("web")
    machine.root.net = cable.host
    trust = machine.folder / "trust.toml"
    text = trust.read_text().replace(f"port = {world.sshd.port}\n", f"port = {port}\n")
    trust.write_text(re.sub(r"^timeout = .*\n", "", text, flags=re.MULTILINE) + f"timeout = {PATIENCE}\n")
    world.bento("secret", "add", machine.name, "-", "--name", "token", stdin=b"old")
    world.bento("deploy")
    return machine


def in_force(machine: Machine) -> tuple[str | None, str | None, str | None, bytes | None]:
    root = machine.root
    return root.running(), root.profile(), root.boot_default(), machine.secret("token")


def in_mid_transfer(machine: Machine) -> Popen[bytes]:
    """A run that has some of the configuration, and not all."""
    run = machine.root.popen([PROGRAMS / "bento-agent", "--config", machine.config, "run"])
    deadline = time.monotonic() + 120
    while not any(LEAST < _size(path) < SIZE for path in parts(machine)):
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline, "no part of it ever came"
        time.sleep(0.01)
    return run


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # it was whole, just now
        return path.stat().st_size
    return 0


def parts(machine: Machine) -> list[Path]:
    return list((machine.state / "objects").glob(".fetch-*"))


def test_a_link_that_goes_for_good_in_mid_transfer_ends_the_run_and_one_that_comes_back_is_waited_for(
    world: World, cable: Cable
) -> None:
    web = add(world, cable, world.sshd.port)
    web.run()
    web.write(System("second"))
    (web.source / "much").write_bytes(os.urandom(SIZE))
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"new")
    world.bento("deploy")
    cable.rate("800kbit")
    before = in_force(web)
    run = in_mid_transfer(web)
    cable.cut()
    said = run.communicate(timeout=200)[1].decode()
    assert run.returncode == 1, said
    assert "the server" in said
    # nothing is taken, and no object is here that isn't whole
    assert (in_force(web), parts(web)) == (before, [])
    objects = list((web.state / "objects").iterdir())
    assert [path.name for path in objects] == [sha256(path.read_bytes()).hexdigest() for path in objects]
    facts = web.facts()
    assert (facts["state"], facts["tries"], facts["reports_waiting"]) == ("updating", 0, 0)
    # as long as it is away, each run ends, and nothing changes
    assert "can't reach the server" in web.run(code=1)
    assert in_force(web) == before

    cable.mend()
    run = in_mid_transfer(web)
    cable.cut()
    cable.rate("100mbit")
    time.sleep(PATIENCE / 10)
    cable.mend()
    said = run.communicate(timeout=200)[1].decode()
    assert run.returncode == 0, said
    published = world.status(web)["published"]["system"]
    assert in_force(web) == (published, published, published, b"new")
    assert world.status(web)["state"] == "up to date"


def test_a_host_far_away_takes_its_release_though_each_answer_takes_a_while(world: World, cable: Cable) -> None:
    with cable.at_the_server():
        relay = Relay(world.sshd.port, delay=0.05, address=SERVER)
    web = add(world, cable, relay.port)
    with relay:
        web.run()
    assert relay.sent > 0
    assert world.status(web)["state"] == "up to date"
    assert web.secret("token") == b"old"
