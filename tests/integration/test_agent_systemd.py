"""The agent under a real systemd: a switch outlives its agent, a timer undoes what nobody finishes, the power goes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rig import HostUser, Sshd, hits, inside, nspawn
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
    made.deadline = 12
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
    path = f"--setenv=PATH={lone.folder}/nix:/usr/bin:/bin"
    argv = ["systemd-run", "--unit=run", "--quiet", "--collect", path, sys.executable, "-c", _RUN]
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
    has = machine.text(["systemctl", "show", "--value", "--property=Environment", "bento-dead-man.service"])
    assert f"PATH={lone.folder}/nix:" in has
    assert state(machine, UNIT) == ("active" if hang else "inactive")
    if not hang:
        until(lambda: state(machine, "run.service") == "inactive", 11)

    until(lambda: lone.host().state.journal().phase == "idle")

    assert (lone.host().running(), lone.content()) == (lone.system("old"), b"content 1")
    assert len(lone.host().state.spooled()) == 1
    assert b"rolled-back" in lone.host().state.spooled()[0].read_bytes()
    until(lambda: state(machine, "bento-dead-man.service") == "inactive")
    assert [state(machine, unit) for unit in ("bento-dead-man.timer", UNIT, "run.service")] == ["inactive"] * 3


def test_a_way_back_that_hangs_is_ended_said_and_gone_again(machine: Nspawn, lone: LoneHost) -> None:
    lone.fault("old", "test", "sleep 1000")
    start(machine, lone)
    until(lambda: lone.host().state.spooled() != [])
    (report,) = lone.host().state.spooled()
    assert b'"failed"' in report.read_bytes()
    assert b"rolling back failed" in report.read_bytes()
    assert lone.host().state.journal().going_back
    assert (lone.default(), lone.host().running()) == (lone.system("old"), lone.system("new"))
    until(lambda: [state(machine, unit) for unit in (UNIT, "bento-dead-man.service")] == ["inactive"] * 2)

    lone.mend("old", "test")
    path = f"--setenv=PATH={lone.folder}/nix:/usr/bin:/bin"
    machine.run(["systemd-run", "--wait", "--quiet", "--collect", path, *lone.command, "recover"])
    assert (lone.host().state.journal().phase, lone.host().running()) == ("idle", lone.system("old"))
    assert lone.content() == b"content 1"


# A machine whose power goes. Its secrets lie on a tmpfs that it mounts itself, and loses.

# A whole run but for the server: it recovers, then takes the second release, which the admin confirms.
_TAKE = """
import sys
from dataclasses import replace
from pathlib import Path
from bento.agent import run, take
from bento.agent.host import Confirmation, open_host
from bento.agent.install import stored_manifest
from bento.agent.turn import locked
from bento.core import trust_rules
from bento.models.agent_settings import read_agent_settings
config, system, program = sys.argv[1:]
said = lambda line: print(line, flush=True)
host = open_host(read_agent_settings(Path(config)), lambda: 1_700_000_000, said, (program, "--config", config))
take._system = lambda *_: (system, True)
with locked(host):
    host.ensure_runtime()
    run._recover(host)
    verdict = trust_rules.again(host.state.floor())
    host.state.write_floor(verdict.floor)
    asking = replace(host, confirmation=Confirmation(lambda _: True, "nobody came"))
    said(take.take_release(asking, stored_manifest(host, 2), verdict.floor))
"""
# What a boot does on NixOS: activate the boot default; then, of docs/on-the-host.md, what opens secrets for services.
_UNITS = {
    "activate.service": """\
[Unit]
DefaultDependencies=no
After=local-fs.target
Before=bento-secrets.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'ln -sfn $$(cat FOLDER/default) FOLDER/current-system'
[Install]
WantedBy=sysinit.target
""",
    "bento-secrets.service": """\
[Unit]
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=AGENT install-secrets
[Install]
WantedBy=sysinit.target
""",
    "app.service": """\
[Service]
LoadCredential=token:FOLDER/run/secrets/token
ExecStart=/bin/sh -c 'cp "$$CREDENTIALS_DIRECTORY/token" /run/app; exec sleep 1000'
[Install]
WantedBy=multi-user.target
""",
    "bento-agent.service": """\
[Service]
Type=oneshot
Environment=PATH=FOLDER/nix:/usr/local/bin:/usr/bin:/bin
ExecStart=PYTHON FOLDER/take.py FOLDER/agent.toml FOLDER/systems/new PROGRAM
""",
}


def unit(lone: LoneHost, name: str) -> str:
    words = {"FOLDER": str(lone.folder), "AGENT": " ".join(lone.command), "PYTHON": sys.executable}
    text = _UNITS[name].replace("PROGRAM", lone.command[0])
    for word, value in words.items():
        text = text.replace(word, value)
    return text


@pytest.fixture
def whole(
    debian: None, folder: Path, sshd: Sshd, host_user: HostUser, tmp_path: Path
) -> Iterator[tuple[Nspawn, LoneHost]]:
    """The lone host as a machine that boots by itself, with the units above and a journal on its disk."""
    made = LoneHost(folder, host_user("lone"), sshd)
    made.systemd = ""
    made.runtime.ensure(1 << 20)
    try:
        made.fresh()
    finally:
        subprocess.run(["umount", str(made.runtime.root)], check=True)
    (folder / "take.py").write_text(_TAKE)
    (folder / "nix").mkdir()  # that stand-in alone: systemd is the real one
    shutil.copy(folder / "bin/nix-env", folder / "nix")
    binds = [PROJECT, Path(sys.prefix), Path(shutil.which("ssh-keygen") or "")]
    with Nspawn(tmp_path / "booted", binds, [(folder, str(folder))]) as machine:
        (machine.root / "var/log/journal").mkdir(exist_ok=True)
        units = machine.root / "etc/systemd/system"
        for name in _UNITS:
            (units / name).write_text(unit(made, name))
        for target, names in (("sysinit", ["activate", "bento-secrets"]), ("multi-user", ["app"])):
            wants = units / f"{target}.target.wants"
            wants.mkdir(exist_ok=True)
            for name in names:
                (wants / f"{name}.service").symlink_to(f"/etc/systemd/system/{name}.service")
        machine.start()
        yield machine, made


def in_force(machine: Nspawn, lone: LoneHost) -> tuple[str, str, str, str]:
    """Running system, boot default, and the secret: as it is live, and as a service got it when it started."""
    host = lone.host()
    live = machine.text(["cat", f"{lone.runtime.secrets}/token"])
    return Path(host.running() or "").name, Path(lone.default()).name, live, machine.text(["cat", "/run/app"])


def outcomes(lone: LoneHost) -> list[str]:
    return [json.loads(path.read_bytes().split(b"\n")[0])["outcome"] for path in lone.host().state.spooled()]


def test_the_power_goes_in_each_state_of_the_journal_and_services_start_with_the_secrets_of_what_boots(
    whole: tuple[Nspawn, LoneHost],
) -> None:
    machine, lone = whole
    old, new = ("old", "old", "content 1", "content 1"), ("new", "new", "content 2", "content 2")
    assert in_force(machine, lone) == old
    for phase, moment, boots, then in (
        ("switching", "after-new-test", old, "rolled-back"),
        ("committing", "before-new-boot", old, "rolled-back"),
        ("committing", "after-new-boot", new, "succeeded"),
    ):
        before = outcomes(lone)
        fault = lone.folder / f"fault-{moment}"
        there = lone.folder / "there"
        fault.write_text(f"touch {there}; exec sleep 1000\n")
        machine.text(["systemctl", "start", "--no-block", "bento-agent.service"])
        until(there.exists)
        assert lone.host().state.journal().phase == phase
        assert machine.text(["cat", f"{lone.runtime.secrets}/token"]) == "content 2"
        machine.cut_power()
        fault.unlink()
        there.unlink()
        machine.start()
        assert in_force(machine, lone) == boots, moment
        assert lone.host().state.journal().phase == phase
        machine.run(["systemctl", "start", "app.service"], check=True)
        recover = "from bento.core import spool; spool.PAUSES = (); from bento.cli.agent import main; main()"
        path = f"PATH={lone.folder}/nix:/usr/bin:/bin"
        apart = ["systemd-run", "--wait", "--quiet", "--collect", f"--setenv={path}"]
        machine.run([*apart, sys.executable, "-c", recover, *lone.command[1:], "recover"])
        assert in_force(machine, lone) == boots, moment
        assert lone.host().state.journal().phase == "idle"
        assert outcomes(lone) == [*before, then]
        if then == "rolled-back":
            floor = lone.host().state.floor()
            assert floor is not None
            assert floor.tries == 1
            lone.host().state.write_floor(replace(floor, progress="accepted", tries=0))
    machine.reboot()
    assert in_force(machine, lone) == new

    # what opened and flipped all that wrote no plaintext, neither to the disk nor to the journal, where some is found
    disk, marker = machine.root.with_name("upper"), b"content 2"
    machine.run(["journalctl", "--sync"])
    said = machine.run(["journalctl", "--output=export", "--all"], check=True).stdout
    assert said.count(b"the last run was cut off while") == 3
    elsewhere = [path for path in lone.folder.iterdir() if path != lone.runtime.root]
    assert not inside(marker, said)
    assert hits(marker, disk, *elsewhere) == []
    machine.text(["systemd-run", "--wait", "--quiet", "cat", f"{lone.runtime.secrets}/token"])
    machine.run(["journalctl", "--sync"])
    assert inside(marker, machine.run(["journalctl", "--output=export", "--all"], check=True).stdout)
    assert any(path.suffix == ".journal" for path in hits(marker, disk))


@pytest.mark.parametrize("how", ["left alone", "restarted"])
def test_a_switch_that_changes_the_agents_own_unit_ends_with_the_release_and_the_new_unit(
    whole: tuple[Nspawn, LoneHost], how: str
) -> None:
    machine, lone = whole
    changed = machine.root / "changed.service"
    changed.write_text(unit(lone, "bento-agent.service") + "# the new one\n")
    does = "cp /changed.service /etc/systemd/system/bento-agent.service; systemctl daemon-reload"
    if how == "restarted":  # as switch-to-configuration does without X-RestartIfChanged=false
        does = f"cmp -s /changed.service /etc/systemd/system/bento-agent.service || {{ {does}; "
        does += "systemctl stop bento-agent.service; systemctl start --no-block bento-agent.service; }"
    lone.fault("new", "test", does, when="after")
    machine.run(["systemctl", "start", "bento-agent.service"])
    wanted = ("new", "new", "content 2")
    if how == "restarted":
        # one that came in its place may have found the switch under way, and left it alone; its timer brings the next
        until(lambda: state(machine, UNIT) == "inactive")
        while machine.run(["systemctl", "start", "bento-agent.service"]) and outcomes(lone)[-1:] != ["succeeded"]:
            time.sleep(0.1)
    assert in_force(machine, lone)[:3] == wanted, machine.text(["journalctl", "--unit=bento-agent.service"])
    assert lone.host().state.journal().phase == "idle"
    assert "# the new one" in machine.text(["systemctl", "cat", "bento-agent.service"])
    assert outcomes(lone) == (["succeeded"] if how == "left alone" else ["rolled-back", "succeeded"])
    assert state(machine, "bento-dead-man.timer") == "inactive"
