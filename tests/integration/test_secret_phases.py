"""A host's secrets when something cuts in: a kill while users get their passwords, and two that change them at once."""

import fcntl
import subprocess
from pathlib import Path

import pytest

from bento.demo.systems import Behaviour, System
from rig.releases import add, exists, for_users, hook, take
from rig.world import PROGRAMS, Machine, World, said

PLACE = "/run/bento/secrets-for-users/hash"
GIVEN = "/run/given"  # what the last activation gave users
# The hook's parent is the switch, and the switch's the agent. All three die, as in a power cut.
KILL = "switch=$PPID; agent=$(ps -o ppid= -p $switch); if [ -e /run/cut ]; then kill -9 $agent $switch $$; fi"
STEPS = ("install --for-users", f"cat {PLACE} >{GIVEN}", "install")


@pytest.fixture
def web(world: World) -> Machine:
    return world.add("web")


def given(machine: Machine) -> bytes:
    return machine.root.run(["cat", GIVEN]).stdout


@pytest.mark.parametrize("cut_by", ["kill", "power"])
@pytest.mark.parametrize("step", range(len(STEPS) + 1))
def test_a_cut_while_users_get_new_passwords_leaves_the_passwords_of_one_release(
    world: World, web: Machine, step: int, cut_by: str
) -> None:
    web.write(System(behaviour=Behaviour.HOOK))
    hook(web, "set -e", *STEPS[:step], KILL, *STEPS[step:])
    for_users(world, web, "hash", b"$y$old")
    add(world, web, "token", b"old")
    take(world, web)
    assert given(web) == b"$y$old"
    system = web.root.running()
    add(world, web, "hash", b"$y$new", "--replace")
    add(world, web, "token", b"new", "--replace")
    world.bento("deploy")
    web.root.run(["touch", "/run/cut"], check=True)
    assert web.agent("run").returncode == -9
    assert web.facts()["phase"] == "switching"
    web.root.run(["rm", "-f", "/run/cut"], check=True)
    world.sshd.stop()
    if cut_by == "power":
        web.root.reboot()
        # What its activation does at boot.
        assert system is not None
        web.root.run(["sh", "/nix/var/boot/hook", system], check=True)
    assert web.agent("run").returncode == 1  # it recovers first; then the server is away
    assert (given(web), web.root.run(["cat", PLACE]).stdout, web.secret("token")) == (b"$y$old", b"$y$old", b"old")
    assert web.facts()["phase"] == "idle"
    world.sshd.start()
    web.run()
    assert (given(web), web.root.run(["cat", PLACE]).stdout, web.secret("token")) == (b"$y$new", b"$y$new", b"new")
    assert web.root.running() == system


def install(machine: Machine) -> "subprocess.Popen[bytes]":
    return machine.root.popen([PROGRAMS / "bento-agent", "--config", machine.config, "install-secrets"])


def test_installing_at_boot_waits_for_another_change_and_then_succeeds(world: World, web: Machine) -> None:
    add(world, web, "token", b"x")
    take(world, web)
    web.root.reboot()
    with (web.state / "runtime.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = install(web)
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == b"waiting for another change of this host's secrets\n"
        assert not exists(web, "/run/bento")
    out, err = waiting.communicate(timeout=200)
    assert waiting.returncode == 0, out + err
    assert web.secret("token") == b"x"


def test_a_run_under_way_does_not_hold_up_installing(world: World, web: Machine) -> None:
    """Its lock is another one: the activation that a run started would wait for its own run."""
    add(world, web, "token", b"x")
    take(world, web)
    web.root.reboot()
    with (web.state / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = web.agent("install-secrets")
    assert done.returncode == 0, said(done)
    assert web.secret("token") == b"x"


def test_several_at_once_after_a_boot_all_succeed_on_one_mount(world: World, web: Machine) -> None:
    for number in range(20):
        add(world, web, f"token-{number}", b"x" * 1000)
    take(world, web)
    for _ in range(3):
        web.root.reboot()
        running = [install(web) for _ in range(4)]
        for one in running:
            out, err = one.communicate(timeout=200)
            assert one.returncode == 0, out + err
        mounts = web.root.text(["cat", "/proc/self/mountinfo"]).splitlines()
        assert len([line for line in mounts if line.split()[4] == "/run/bento"]) == 1
        assert web.secret("token-19") == b"x" * 1000


def test_a_hint_names_the_settings_that_were_given(world: World, web: Machine, tmp_path: Path) -> None:
    web.root.run(["mkdir", "/run/bento"], check=True)
    web.root.run(["mount", "-t", "tmpfs", "-o", "mode=751", "bento", "/run/bento"], check=True)
    done = web.root.run([PROGRAMS / "bento-agent", "--config", web.config, "run"])
    assert done.returncode == 2
    hint = f"umount /run/bento && bento-agent --config {web.config} run"
    assert f"hint: let the agent mount it: {hint}" in said(done)
