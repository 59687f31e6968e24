"""`bento trigger` through a host's socket, whose program is called as systemd does it: real sockets, a real agent."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from bento.demo.systems import System
from rig.world import PROGRAMS, Machine, World, said

# What stands in for systemctl: a unit's start runs the agent, and `show` tells how that went.
_SYSTEMCTL = """\
#!/bin/sh
cd {folder}
case "$*" in
"start bento-agent.service")
    if [ -e unit-gone ]; then exit 5; fi
    {agent} run >journal 2>&1
    echo $? >ended
    date +%s%N >started
    [ "$(cat ended)" = 0 ] ;;
*ActiveState*) echo inactive ;;
*Timestamp*) cat started 2>/dev/null || echo 0 ;;
*ExecMainCode*) echo 1 ;;
*ExecMainStatus*) cat ended ;;
*) echo "what is $*" >&2; exit 1 ;;
esac
"""


class Listener:
    """systemd's part: Accept=yes, MaxConnections=1, and a program that gets the connection as its stdout."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.started: list[subprocess.Popen[bytes]] = []
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                if self.started and self.started[-1].poll() is None:
                    connection.close()  # dropped
                else:
                    self._held.append(connection)  # until the program ends
                    argv = [PROGRAMS / "bento-agent", "--config", self._machine.config, "answer"]
                    self.started.append(self._machine.root.popen(argv, stdout=connection.fileno(), stderr=None))

    def again(self) -> None:
        """End the program's pause, so that the next connection is not dropped."""
        self.started[-1].kill()
        self.started[-1].wait()

    def close(self) -> None:
        for each in (self._socket, *self._held):
            each.close()
        for one in self.started:
            one.kill()
            one.wait()


@pytest.fixture
def web(world: World) -> Machine:
    machine = world.add("web")
    machine.write(System("first"))
    world.bento("deploy")
    machine.run()
    env = " ".join(f"{key}='{value}'" for key, value in machine.root.env.items())
    agent = f"env {env} {PROGRAMS}/bento-agent --config {machine.config}"
    (machine.folder / "systemctl").write_text(_SYSTEMCTL.format(folder=machine.folder, agent=agent))
    return machine


@pytest.fixture
def listener(world: World, web: Machine) -> Iterator[Listener]:
    with ExitStack() as stack:
        made = Listener(web)
        stack.callback(made.close)
        settings = world.fleet / "bento.toml"
        table = f"[hosts.{web.name}]\n"
        settings.write_text(settings.read_text().replace(table, f'{table}trigger = "tcp://127.0.0.1:{made.port}"\n'))
        yield made


def test_the_socket_polls_and_tells_the_outcome_and_nothing_else(
    world: World, web: Machine, listener: Listener
) -> None:
    web.write(System("by socket"))
    world.bento("deploy")
    done = world.try_bento("trigger", web.name)
    place = f"tcp://127.0.0.1:{listener.port}"
    assert done.returncode == 0, said(done)
    assert done.stdout.decode() == f"{web.name}: done, or nothing new (says {place}, unsigned); see: bento status\n"
    assert done.stderr.decode() == f"{web.name}: polling\n"

    # the next within ten seconds is dropped, and costs no poll
    polls = (web.folder / "started").read_text()
    done = world.try_bento("trigger", web.name)
    assert done.returncode == 1, said(done)
    assert "polls for somebody else, or did less than ten seconds ago" in said(done)
    assert (web.folder / "started").read_text() == polls
    assert len(listener.started) == 1
    assert world.status(web)["state"] == "up to date"

    # the server is another: refused, of which a stranger learns the exit code, not the reason
    listener.again()
    world.sshd.restart(new_host_key=True)
    done = world.try_bento("trigger", web.name)
    assert done.returncode == 6, said(done)
    assert "refused (says" in done.stdout.decode()
    assert "host key" in (web.folder / "journal").read_text()
    assert "host key" not in said(done)

    listener.again()
    (web.folder / "unit-gone").touch()
    done = world.try_bento("trigger", web.name)
    assert done.returncode == 1
    assert "not started" in said(done)

    # a caller who sends a lot, reads nothing and leaves has made the host poll, and no more
    listener.again()
    (web.folder / "unit-gone").unlink()
    (web.folder / "started").unlink()
    with socket.create_connection(("127.0.0.1", listener.port)) as caller, suppress(OSError):
        caller.settimeout(5)
        caller.sendall(os.urandom(1 << 20))
    deadline = time.monotonic() + 120
    while not (web.folder / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (web.folder / "ended").read_text() == "6\n"
    assert listener.started[-1].poll() is None, "it keeps the slot"
