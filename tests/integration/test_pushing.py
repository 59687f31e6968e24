"""`bento push` and `bento trigger` over a real ssh: the host keeps its rules, and the admin's return confirms."""

import json
from collections.abc import Iterator

import pytest

from bento.demo.systems import Behaviour, System
from rig.remote import RemoteHost
from rig.world import PROGRAMS, Machine, World, said


@pytest.fixture
def web(world: World) -> Machine:
    """A host that runs its first release, with a secret."""
    machine = world.add("web")
    world.bento("secret", "add", machine.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    machine.run()
    return machine


@pytest.fixture
def remote(world: World, web: Machine) -> Iterator[RemoteHost]:
    """The same host, reached by ssh; bento.toml says where and how."""
    with RemoteHost(web) as reached:
        settings = world.fleet / "bento.toml"
        text = settings.read_text()
        table = f"[hosts.{web.name}]\n"
        assert table in text
        settings.write_text(text.replace(table, f'{table}address = "root@127.0.0.1"\nagent = ["{reached.agent}"]\n'))
        yield reached


def call(world: World, remote: RemoteHost, *args: str, code: int = 0, **env: str) -> str:
    done = world.try_bento(*args, env={"NIX_SSHOPTS": remote.options, **env})
    assert done.returncode == code, f"exit {done.returncode}: {said(done)}\n{remote.log.read_text()[-2000:]}"
    return said(done)


def message(machine: Machine) -> str:
    return machine.root.path(f"{machine.root.running()}/etc/message").read_text().strip()


def change(world: World, web: Machine, system: System) -> None:
    web.write(system)
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"second")


def serial(world: World, machine: Machine) -> int:
    value: int = json.loads(world.manifest(machine).read_bytes().split(b"\n")[0])["serial"]
    return value


def test_a_push_reaches_a_host_without_its_server_and_needs_no_build_there(
    world: World, web: Machine, remote: RemoteHost
) -> None:
    change(world, web, System("pushed"))
    # the host could not build it: it has no builder for this kind of machine
    remote.write_agent(before="NIX=1")
    text = remote.agent.read_text().replace("NIX_CONFIG='", "NIX_CONFIG='system = riscv64-linux\n")
    assert "riscv64" in text
    remote.agent.write_text(text)
    world.sshd.stop()
    shown = call(world, remote, "push", web.name)
    assert "succeeded" in shown
    assert (message(web), web.secret("token")) == ("pushed", b"second")
    assert web.root.boot_default() == web.root.running()
    # what was pushed is what is published: the next poll has nothing to do, and the report arrives
    world.sshd.start()
    assert "nothing new" in web.run()
    assert world.status(web)["state"] == "up to date"


def test_an_unchanged_push_publishes_nothing_and_the_host_has_nothing_to_do(
    world: World, web: Machine, remote: RemoteHost
) -> None:
    before = world.manifest(web).read_bytes()
    switches = web.root.switches()
    shown = call(world, remote, "push", web.name)
    assert "nothing new" in shown
    assert world.manifest(web).read_bytes() == before
    assert web.root.switches() == switches


def test_a_push_for_the_next_boot_changes_nothing_that_runs(world: World, web: Machine, remote: RemoteHost) -> None:
    change(world, web, System("at next boot"))
    running = web.root.running()
    shown = call(world, remote, "push", web.name, "--action", "boot")
    assert "reboot-needed" in shown
    assert "the next deploy asks for that" in shown
    assert web.root.running() == running
    assert web.root.boot_default() != running


def test_a_system_that_breaks_the_host_is_rolled_back_and_the_exit_code_says_so(
    world: World, web: Machine, remote: RemoteHost
) -> None:
    change(world, web, System("broken", Behaviour.FAIL_AFTER))
    before = web.root.running()
    shown = call(world, remote, "push", web.name, code=5)
    assert "rolled-back" in shown
    assert (web.root.running(), web.secret("token")) == (before, b"first")


def test_a_connection_that_the_switch_breaks_is_made_again_and_confirms(
    world: World, web: Machine, remote: RemoteHost
) -> None:
    remote.write_agent(before=f'if [ "$1" = receive ]; then echo $PPID >{remote.folder}/session; fi')
    hook = web.root.path("/nix/var/boot/hook")
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(
        f'{PROGRAMS}/bento-agent --config {web.config} install-secrets --system "$1"\n'
        f"kill -9 $(cat {remote.folder}/session)\n"
    )
    change(world, web, System("cuts the connection", Behaviour.HOOK))
    shown = call(world, remote, "push", web.name)
    assert "the connection broke; coming back" in shown
    assert f"release {serial(world, web)} is installed" in shown
    assert (message(web), web.secret("token")) == ("cuts the connection", b"second")
    assert web.facts()["committed"] == serial(world, web)


def test_a_host_that_the_admin_does_not_come_back_to_goes_back_by_itself(
    world: World, web: Machine, remote: RemoteHost
) -> None:
    remote.write_agent(before='if [ "$1" = confirm ]; then exit 75; fi')  # as if ssh could not be reached any more
    world.write_agent(web, confirm=2)
    change(world, web, System("locks the admin out"))
    before = web.root.running()
    shown = call(world, remote, "push", web.name, code=1)
    assert "the admin did not come back" in shown
    assert (web.root.running(), web.secret("token")) == (before, b"first")
    assert web.root.boot_default() == before


def test_the_old_variables_say_where_and_how(world: World, web: Machine, remote: RemoteHost) -> None:
    settings = world.fleet / "bento.toml"
    settings.write_text(settings.read_text().replace('address = "root@127.0.0.1"\n', ""))
    shown = call(world, remote, "trigger", web.name, code=2)
    assert "no address is known" in shown
    assert "nothing new" in call(world, remote, "trigger", web.name, TARGET_IP="127.0.0.1")
    change(world, web, System("by the old variables"))
    call(world, remote, "push", web.name, TARGET_IP="127.0.0.1")
    assert message(web) == "by the old variables"


def test_a_trigger_runs_the_agent_shows_what_it_says_and_ends_as_it_did(
    world: World, web: Machine, remote: RemoteHost
) -> None:
    assert "nothing new" in call(world, remote, "trigger", web.name)
    change(world, web, System("by trigger"))
    world.bento("deploy")
    shown = call(world, remote, "trigger", web.name)
    assert "building" in shown
    assert message(web) == "by trigger"
    line, _, rest = world.manifest(web).read_bytes().partition(b"\n")
    world.manifest(web).write_bytes(line.replace(b'"created":', b'"created": ') + b"\n" + rest)
    assert "not signed" in call(world, remote, "trigger", web.name, code=6)
    world.sshd.stop()
    assert "can't reach the server" in call(world, remote, "trigger", web.name, code=1)


def test_what_a_host_says_cannot_steer_the_admin_s_terminal(world: World, web: Machine, remote: RemoteHost) -> None:
    evil = r"printf '\033]0;owned\007\033[2J\r\n'; printf '\033[31mred\n' >&2; head -c 100000 /dev/zero; echo"
    remote.write_agent(before=evil)
    done = world.try_bento("trigger", web.name, env={"NIX_SSHOPTS": remote.options})
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    assert all(char.isprintable() or char == "\n" for char in text), repr(text[:500])
    assert "nothing new" in text


def test_a_host_that_ssh_does_not_reach_is_said_with_what_to_try(
    world: World, web: Machine, remote: RemoteHost
) -> None:
    change(world, web, System("later"))
    options = remote.options.replace(f"-p {remote.port}", "-p 1")
    for command in ("trigger", "push"):
        done = world.try_bento(command, web.name, env={"NIX_SSHOPTS": options})
        assert done.returncode == 1, said(done)
        assert "hint: try it by hand: ssh root@127.0.0.1 true" in done.stderr.decode()
    assert "missing-agent wasn't found" in call_without_agent(world, remote)
    world.bento("status")  # push published it all the same: the host takes it at its next poll
    web.run()
    assert message(web) == "later"


def test_a_host_that_was_never_reached_is_not_waited_for_though_there_is_nothing_to_copy(
    world: World, remote: RemoteHost
) -> None:
    """A channel host's system is in no manifest, so the first that ssh is needed for is the release itself."""
    machine = world.add("db", "channel")
    done = world.try_bento(
        *("push", machine.name, "--address", "127.0.0.1"),
        env={"NIX_SSHOPTS": remote.options.replace(f"-p {remote.port}", "-p 1")},
    )
    assert done.returncode == 1, said(done)
    assert "coming back" not in said(done)
    assert said(done).count("Connection refused") == 1
    assert b"hint: it is published all the same" in done.stderr


def call_without_agent(world: World, remote: RemoteHost) -> str:
    settings = world.fleet / "bento.toml"
    settings.write_text(settings.read_text().replace(str(remote.agent), "missing-agent"))
    return call(world, remote, "trigger", remote.machine.name, code=1)
