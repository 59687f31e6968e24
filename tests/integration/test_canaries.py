"""`bento deploy --canary`: the rest of the fleet gets only what its canaries have installed."""

import json
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from bento.adapters.folder import PublishFolder
from bento.demo.systems import Behaviour, System
from rig.world import PROGRAMS, Machine, World, said


@pytest.fixture
def fleet(world: World) -> tuple[Machine, Machine]:
    """A canary and another host, both up to date; the next configuration waits to be deployed."""
    canary, other = world.add("canary", tags=("canary",)), world.add("other")
    world.bento("deploy")
    for machine in (canary, other):
        machine.run()
        machine.write(System("next"))
    return canary, other


def begin(world: World, *args: str) -> subprocess.Popen[bytes]:
    argv = [PROGRAMS / "bento", "deploy", "--canary", "@canary", *args]
    return world.admin.popen(argv, cwd=world.fleet)


def end(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=200)
    return process.returncode, out.decode(), err.decode()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def waits(deploy: subprocess.Popen[bytes]) -> None:
    """Come back when it has published for its canary and says that it waits."""
    assert deploy.stderr is not None
    line = b""
    while b"waiting for its report" not in line:
        line = deploy.stderr.readline()
        assert line, "it has ended"


def serial(world: World, machine: Machine) -> int:
    value: int = json.loads(world.manifest(machine).read_bytes().split(b"\n")[0])["serial"]
    return value


def message(machine: Machine) -> str:
    return machine.root.path(f"{machine.root.running()}/etc/message").read_text().strip()


def test_the_rest_follows_once_the_canary_reports_and_gets_what_was_built_then(
    world: World, fleet: tuple[Machine, Machine]
) -> None:
    canary, other = fleet
    before = {machine.word: serial(world, machine) for machine in fleet}
    deploy = begin(world, "--wait", "90s", "--json")
    until(lambda: serial(world, canary) > before["canary"])
    assert serial(world, other) == before["other"]
    other.write(System("edited while the deploy waits"))
    assert "under way already" in said(world.try_bento("build"))  # nobody builds here meanwhile
    with PublishFolder(world.sshd.publish).locked():  # but others may publish
        pass
    canary.run()
    code, out, err = end(deploy)
    assert code == 0, err
    facts = json.loads(out)
    assert facts["canaries"][canary.name]["verdict"] == "good"
    assert facts["not_published"] == []
    assert set(facts["published"]) == {canary.name, other.name}
    other.run()
    assert message(other) == "next"


def test_a_canary_that_rolls_back_stops_it_and_the_rest_stays(world: World, fleet: tuple[Machine, Machine]) -> None:
    canary, other = fleet
    canary.write(System("broken", Behaviour.FAIL_AFTER))
    before = world.manifest(other).read_bytes()
    first = serial(world, canary)
    deploy = begin(world, "--wait", "90s")
    until(lambda: serial(world, canary) > first)
    canary.run(code=5)
    code, _, err = end(deploy)
    assert code == 3, err
    assert f"nothing was published for {other.name}" in err
    assert f"{canary.name}: rolled back: " in err
    assert f"bento rollback {canary.name}" in err
    assert world.manifest(other).read_bytes() == before
    world.bento("rollback", canary.name)  # the hint works
    canary.run()
    assert message(canary) == "hello"


def test_a_canary_that_is_offline_stops_it_when_the_time_is_up(world: World, fleet: tuple[Machine, Machine]) -> None:
    canary, other = fleet
    before = world.manifest(other).read_bytes()
    done = world.try_bento("deploy", "--canary", "@canary", "--wait", "1s")
    assert done.returncode == 3, said(done)
    assert f"{canary.name}: no report yet" in done.stderr.decode()
    assert world.manifest(other).read_bytes() == before
    world.bento("deploy", "--on", other.name)  # the hint works
    assert world.manifest(other).read_bytes() != before


def test_a_canary_that_does_not_build_leaves_everybody_as_they_were(
    world: World, fleet: tuple[Machine, Machine]
) -> None:
    canary, other = fleet
    canary.write(System(build_fails=True))
    before = [world.manifest(machine).read_bytes() for machine in fleet]
    done = world.try_bento("deploy", "--canary", "@canary")
    assert done.returncode == 1, said(done)
    assert f"nothing was published for {other.name}" in done.stderr.decode()
    assert [world.manifest(machine).read_bytes() for machine in fleet] == before


def test_canaries_with_nothing_new_let_the_rest_go_on_and_are_said_to_prove_nothing(
    world: World, fleet: tuple[Machine, Machine]
) -> None:
    canary, other = fleet
    canary.write(System())
    done = world.try_bento("deploy", "--canary", canary.name, "--wait", "1s")
    assert done.returncode == 0, said(done)
    assert "they prove nothing" in done.stderr.decode()
    other.run()
    assert message(other) == "next"


def test_another_release_published_while_it_waits_stops_it(world: World, fleet: tuple[Machine, Machine]) -> None:
    canary, other = fleet
    before = world.manifest(other).read_bytes()
    first = serial(world, canary)
    deploy = begin(world, "--wait", "90s")
    waits(deploy)
    assert serial(world, canary) > first
    world.manifest(canary).unlink()  # as another admin's deploy would, this one must not count as the canary's word
    code, _, err = end(deploy)
    assert code == 3, err
    assert "something else was published" in err
    assert world.manifest(other).read_bytes() == before


def test_ctrl_c_in_the_wait_says_who_got_what_and_how_to_go_on_or_back(
    world: World, fleet: tuple[Machine, Machine]
) -> None:
    canary, other = fleet
    before = world.manifest(other).read_bytes()
    first = serial(world, canary)
    deploy = begin(world, "--wait", "90s")
    waits(deploy)
    assert serial(world, canary) > first
    deploy.send_signal(signal.SIGINT)
    code, out, err = end(deploy)
    assert code == 130, err
    assert out.startswith("built 2, published 1, unchanged 0, failed 0")
    published = f"published for {canary.name} (release {serial(world, canary)})"
    assert f"{published}; nothing was published for {other.name}\n" in err
    assert world.manifest(other).read_bytes() == before
    again = f"deploy --canary {canary.name} --on {canary.name},{other.name}"
    for hint in (f"status --on {canary.name}", again, f"deploy --on {other.name}", f"rollback {canary.name}"):
        assert f": bento {hint}\n" in err
    canary.run()
    world.bento(*again.split())
    assert world.manifest(other).read_bytes() != before
    world.bento("rollback", canary.name)
