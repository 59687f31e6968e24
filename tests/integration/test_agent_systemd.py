"""The agent under a real systemd: a switch outlives its agent, and a timer undoes what nobody finishes."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rig import HostUser, Sshd, nspawn
from rig.lone import LoneHost
from rig.nspawn import Nspawn

PROJECT = Path(__file__).parents[2]
UNIT = "nixos-rebuild-switch-to-configuration.service"

# What a run does up to its switch, which may hang. Then it dies without a word.
_RUN = """
import os, signal, sys
from pathlib import Path
from bento.agent.activate import Log, begin, switch
from bento.agent.host import open_host
from bento.agent.install import open_generation, stored_manifest
from bento.core.journal import Point
from bento.models.agent_settings import read_agent_settings
config, system, program = sys.argv[1:]
host = open_host(read_agent_settings(Path(config)), lambda: 1_700_000_000, print, (program, "--config", config))
open_generation(host, stored_manifest(host, 2))
journal = begin(host, Point(system, 2))
switch(host, journal, Log(print))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def debian(as_root: None) -> None:
    if lacking := nspawn.missing():
        pytest.skip(f"needs {', '.join(lacking)}: make systemd-tests installs them")
    if not nspawn.is_cached() and "BENTO_SYSTEMD_TESTS" not in os.environ:
        pytest.skip("needs a Debian to boot, which takes minutes to make: make systemd-tests")
    python = Path(sys.executable).resolve()
    if not (nspawn.base() / python.relative_to("/")).exists():
        pytest.skip(f"the Debian to boot has no {python}, with which this project is installed")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside of /tmp, which a booted machine has for itself."""
    made = Path(tempfile.mkdtemp(prefix="bento-test-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def lone(
    debian: None, folder: Path, sshd: Sshd, host_user: HostUser, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoneHost]:
    made = LoneHost(folder, host_user("lone"), sshd)
    made.systemd = ""
    made.deadline = 4
    with made.mounted(monkeypatch):
        yield made


@pytest.fixture
def machine(lone: LoneHost, tmp_path: Path) -> Iterator[Nspawn]:
    """The lone host, booted: its own folder is shared, and it has no network."""
    binds = [PROJECT, Path(sys.prefix), Path(shutil.which("ssh-keygen") or "")]
    lone.fresh()
    with Nspawn(tmp_path / "booted", binds, [(lone.folder, str(lone.folder))]) as booted:
        booted.start()
        yield booted


def start(machine: Nspawn, lone: LoneHost) -> None:
    """A run that begins to switch, in a unit of its own."""
    argv = ["systemd-run", "--unit=run", "--quiet", "--collect", sys.executable, "-c", _RUN]
    machine.text([*argv, lone.command[2], lone.system("new"), lone.command[0]])


def until(seen: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def state(machine: Nspawn, unit: str) -> str:
    return machine.text(["systemctl", "show", "--value", "--property=ActiveState", unit])


def test_a_switch_ends_as_it_is_and_goes_on_when_its_agent_is_killed(machine: Nspawn, lone: LoneHost) -> None:
    call = (
        "import sys; from bento.adapters.systemd import Systemd; from bento.adapters.process import run\n"
        "sys.exit(run(Systemd(['systemctl']).apart(['sh', '-c', sys.argv[1]])).code)"
    )
    for wanted in (0, 1, 2, 4, 100) * 3:
        assert machine.run([sys.executable, "-c", call, f"exit {wanted}"]).returncode == wanted
    assert machine.run([sys.executable, "-c", call, "kill -9 $$$$"]).returncode == 255
    done = lone.folder / "done"
    argv = ["systemd-run", "--unit=caller", "--quiet", "--collect", sys.executable, "-c", call]
    machine.text([*argv, f"echo said; sleep 2; echo said; touch {done}"])
    until(lambda: state(machine, UNIT) == "active")
    ask = "from bento.adapters.systemd import Systemd; print(Systemd(['systemctl']).switching())"
    assert machine.text([sys.executable, "-c", ask]) == "True"
    # somebody else's switch does not start meanwhile
    assert machine.run([sys.executable, "-c", call, "exit 0"]).returncode != 0
    machine.text(["systemctl", "kill", "--signal=KILL", "caller.service"])
    until(lambda: state(machine, "caller.service") == "inactive")
    assert not done.exists()
    until(done.exists)
    assert machine.text([sys.executable, "-c", ask]) == "False"


def test_units_that_fail_are_seen_by_name(machine: Nspawn) -> None:
    ask = "from bento.adapters.systemd import Systemd; print(sorted(Systemd(['systemctl']).failed()))"
    assert machine.text([sys.executable, "-c", ask]) == "[]"
    machine.run(["systemd-run", "--unit=ill", "--quiet", "--wait", "false"])
    assert machine.text([sys.executable, "-c", ask]) == "['ill.service']"


@pytest.mark.parametrize("hang", [False, True], ids=["dies", "hangs"])
def test_a_run_that_dies_or_hangs_is_undone_by_the_timer(machine: Nspawn, lone: LoneHost, *, hang: bool) -> None:
    if hang:
        lone.fault("new", "test", "sleep 1000", when="after")
    start(machine, lone)
    until(lambda: lone.host().running() == lone.system("new"))
    assert state(machine, "bento-dead-man.timer") == "active"
    assert state(machine, UNIT) == ("active" if hang else "inactive")
    if not hang:
        until(lambda: state(machine, "run.service") == "inactive", 3)

    until(lambda: lone.host().state.journal().phase == "idle")

    assert (lone.host().running(), lone.content()) == (lone.system("old"), b"content 1")
    assert len(lone.host().state.spooled()) == 1
    assert b"rolled-back" in lone.host().state.spooled()[0].read_bytes()
    until(lambda: state(machine, "bento-dead-man.service") == "inactive")
    assert [state(machine, unit) for unit in ("bento-dead-man.timer", UNIT, "run.service")] == ["inactive"] * 3
