"""Promise 5: a secret and the system that uses it change together and roll back together; and the report says so."""

import json
import os
import shutil
import subprocess
import time

import pytest

from bento.demo.systems import SWITCH_HOOK, Behaviour, System
from rig import make_ssh_key
from rig.world import PROGRAMS, Machine, World


@pytest.fixture
def web(world: World) -> Machine:
    """A host that runs its first release, with a secret."""
    machine = world.add("web")
    world.bento("secret", "add", machine.name, "-", "--name", "token", "--restart", "app.service", stdin=b"old")
    world.bento("deploy")
    machine.run()
    return machine


def change(world: World, machine: Machine, behaviour: Behaviour) -> None:
    machine.write(System("new", behaviour))
    world.bento("secret", "add", machine.name, "-", "--name", "token", "--replace", stdin=b"new")
    world.bento("deploy")


def in_force(machine: Machine) -> tuple[str | None, str | None, str | None, bytes | None]:
    root = machine.root
    return root.running(), root.profile(), root.boot_default(), machine.secret("token")


@pytest.mark.parametrize(
    "behaviour", [Behaviour.FAIL_BEFORE, Behaviour.FAIL_AFTER, Behaviour.NO_LINK, Behaviour.FAIL_BOOT]
)
def test_a_switch_that_fails_leaves_system_boot_default_and_secrets_as_they_were(
    world: World, web: Machine, behaviour: Behaviour
) -> None:
    before = in_force(web)
    change(world, web, behaviour)
    web.run(code=5)
    assert in_force(web) == before
    report = world.report(web)
    assert report["outcome"] == "rolled-back"
    assert report["running"] == before[0] == report["old_system"]
    assert report["new_system"] == world.status(web)["published"]["system"]
    assert [(one["name"], one["state"]) for one in report["secrets"]] == [("token", "kept")]
    assert world.status(web)["state"] == "rolled back"
    assert world.status(web)["secrets"] == {"installed": 0, "expected": 1}


def test_a_release_that_failed_waits_for_a_change_and_after_three_tries_for_a_person_or_another_release(
    world: World, web: Machine
) -> None:
    before = in_force(web)
    change(world, web, Behaviour.FAIL_BEFORE)
    for number in range(3):
        web.run(code=5)
        switches = web.root.switches()
        if number < 2:
            assert "nothing has changed since" in web.run(code=1)
            assert web.root.switches() == switches
            world.write_agent(web, confirm=4 + number)  # other circumstances: settings that a person changed
    world.write_agent(web, confirm=9)
    assert "failed 3 times" in web.run(code=1)
    assert web.root.switches() == switches
    assert in_force(web) == before
    assert "will be tried again" in web.agent("retry").stdout.decode()
    web.run(code=5)
    assert len(web.root.switches()) > len(switches)
    web.write(System("mended"))
    world.bento("deploy")
    web.run()
    assert world.status(web)["state"] == "up to date"
    assert web.secret("token") == b"new"


def test_a_secret_that_does_not_open_changes_nothing_and_is_named(world: World, web: Machine) -> None:
    before = in_force(web)
    other = web.folder / "other"
    make_ssh_key(other)
    change(world, web, Behaviour.OK)
    # the host lost its identity: it can still log in with the key it had, but that opens nothing of today's
    text = web.config.read_text()
    rescue = text.replace(f'identities = ["{web.folder}/key"]', f'identities = ["{other}"]')
    web.config.write_text(rescue)
    world.sshd.add_host(web.name, [other.with_name("other.pub").read_text().strip()], folders=False)
    said = web.run(code=1)
    assert "can't open the secret token" in said
    assert in_force(web) == before


def test_a_build_that_fails_on_the_host_changes_nothing_and_its_log_reaches_the_admin(
    world: World, web: Machine
) -> None:
    before = in_force(web)
    change(world, web, Behaviour.OK)
    # this host can't build for the platform that the configuration asks for
    done = web.agent("run", env={"NIX_CONFIG": web.root.env["NIX_CONFIG"] + "system = riscv64-linux\n"})
    assert done.returncode == 1
    assert in_force(web) == before
    report = world.report(web)
    assert report["outcome"] == "failed"
    assert "build failed" in report["reason"]
    assert report["log_tail"]
    web.run()
    assert world.status(web)["state"] == "up to date"


def test_without_the_server_after_the_switch_everything_goes_back_and_it_is_called_unconfirmed(
    world: World, web: Machine
) -> None:
    world.write_agent(web, confirm=1)
    before = in_force(web)
    change(world, web, Behaviour.OK)
    # activation itself takes the server away: the recorder of restarts runs in the middle of the switch
    stop = web.folder / "systemctl"
    stop.write_text(f'#!/bin/sh\necho "$*" >>{web.folder}/systemctl.log\nkill -9 {world.sshd.pid}\n')
    web.run(code=1)
    world.sshd.stop()
    assert in_force(web) == before
    stop.write_text(f'#!/bin/sh\necho "$*" >>{web.folder}/systemctl.log\n')
    world.write_agent(web)
    world.sshd.start()
    web.run()
    assert outcomes(world, web) == ["succeeded", "unconfirmed", "succeeded"]
    assert web.secret("token") == b"new"


def test_a_real_server_that_goes_in_the_build_or_the_rollback_gets_the_report_once_it_is_back(
    world: World, web: Machine
) -> None:
    before = in_force(web)
    change(world, web, Behaviour.FAIL_BOOT)
    # the units are restarted forwards, and then on the way back
    again, recorder = web.folder / "again", web.folder / "systemctl"
    real, kill = recorder.read_text(), f"kill -9 {world.sshd.pid}"
    recorder.write_text(f"#!/bin/sh\n[ ! -e {again} ] || {kill}\ntouch {again}\n")
    web.run(code=5)
    world.sshd.stop()
    recorder.write_text(real)
    assert (in_force(web), outcomes(world, web)) == (before, ["succeeded"])
    world.sshd.start()
    assert "nothing has changed since" in web.run(code=1)
    assert outcomes(world, web) == ["succeeded", "rolled-back"]

    world.write_agent(web, confirm=1)
    change(world, web, Behaviour.OK)
    folder = web.folder / "programs"
    folder.mkdir()
    (folder / "nix").write_text(f'#!/bin/sh\nkill -9 {world.sshd.pid}\nexec {shutil.which("nix")} "$@"\n')
    (folder / "nix").chmod(0o755)
    assert web.agent("run", env={"PATH": f"{folder}:{os.environ['PATH']}"}).returncode == 1
    world.sshd.stop()
    assert (in_force(web), len(outcomes(world, web))) == (before, 2)
    world.write_agent(web)
    world.sshd.start()
    web.run()
    assert outcomes(world, web)[2:] == ["unconfirmed", "succeeded"]
    assert web.secret("token") == b"new"


def test_a_new_owner_that_never_comes_fails_the_run_and_rolls_back_naming_the_secret(
    world: World, web: Machine
) -> None:
    before = in_force(web)
    world.bento("secret", "add", web.name, "-", "--name", "other", "--owner", "nobody-here", stdin=b"x")
    world.bento("deploy")
    assert "other" in web.run(code=5)
    assert in_force(web) == before
    assert web.secret("other") is None


def pause(machine: Machine) -> str:
    """Shell that says that it was come to, and stops there for good, while the file `pause` is there."""
    return f"[ ! -e {machine.folder}/pause ] || {{ touch {machine.folder}/stopped; exec sleep 1000; }}\n"


def paused(machine: Machine, program: str) -> dict[str, str]:
    """An environment whose `program` stops for good while the file `pause` is there: where a kill can strike."""
    real = shutil.which(program)
    folder = machine.folder / "slow"
    folder.mkdir()
    (machine.folder / "pause").touch()
    script = folder / program
    script.write_text(f'#!/bin/sh\n{pause(machine)}exec {real} "$@"\n')
    script.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def kill_when(machine: Machine, phase: str, env: dict[str, str]) -> None:
    """Start a run, wait until it has stopped where it is to, in `phase` by its journal, and kill it."""
    agent = machine.root.popen(
        [PROGRAMS / "bento-agent", "--config", machine.config, "run"], env=env, stdout=subprocess.DEVNULL, stderr=None
    )
    deadline = time.monotonic() + 120
    while not (machine.folder / "stopped").exists():
        assert agent.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, f"the run never came to {phase}"
        time.sleep(0.02)
    assert json.loads((machine.state / "journal.json").read_text())["phase"] == phase
    agent.kill()
    agent.wait()
    (machine.folder / "pause").unlink()


def test_a_run_killed_in_the_switch_is_undone_by_the_next_which_then_takes_the_release(
    world: World, web: Machine
) -> None:
    change(world, web, Behaviour.HOOK)
    hook = web.root.path(SWITCH_HOOK)
    hook.write_text(f'{pause(web)}exec {PROGRAMS}/bento-agent --config {web.config} install-secrets --system "$1"\n')
    (web.folder / "pause").touch()
    kill_when(web, "switching", {})
    said = web.run()
    assert "cut off while switching: it must go back" in said
    published = world.status(web)["published"]["system"]
    assert in_force(web) == (published, published, published, b"new")
    assert outcomes(world, web) == ["succeeded", "rolled-back", "succeeded"]


def test_a_run_killed_in_the_commit_is_finished_by_the_next(world: World, web: Machine) -> None:
    change(world, web, Behaviour.OK)
    kill_when(web, "committing", paused(web, "nix-env"))
    assert "cut off while committing: it must go forward" in web.run()
    published = world.status(web)["published"]["system"]
    assert in_force(web) == (published, published, published, b"new")
    assert outcomes(world, web) == ["succeeded", "succeeded"]


def test_a_power_cut_in_the_commit_boots_the_old_system_with_its_own_secrets(world: World, web: Machine) -> None:
    before = in_force(web)
    change(world, web, Behaviour.OK)
    kill_when(web, "committing", paused(web, "nix-env"))
    web.root.reboot()
    assert web.agent("install-secrets").returncode == 0
    assert in_force(web) == before
    web.run()
    assert world.status(web)["state"] == "up to date"
    assert web.secret("token") == b"new"


def outcomes(world: World, machine: Machine) -> list[str]:
    reports = sorted((world.sshd.publish / machine.name / "reports").glob("*.report"))
    return [json.loads(path.read_bytes().split(b"\n")[0])["outcome"] for path in reports]
