"""The units that nix/agent.nix writes where systemd makes users, under a real systemd: `make systemd-tests`.

They are the golden files of tests/nixos, which compares them with what the module writes.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import nspawn
from rig.nspawn import Nspawn
from rig.world import PROGRAMS, Machine, World

PROJECT = Path(__file__).parents[2]
UNITS = PROJECT / "tests/nixos/golden/units"
WANTED = {
    "bento-secrets-for-users.service": "sysinit.target.wants",
    "bento-secrets.service": "sysinit.target.wants",
    "bento-secrets-for-users-switch.service": "sysinit-reactivation.target.requires",
    "bento-secrets-switch.service": "sysinit-reactivation.target.requires",
    "bento-agent.timer": "timers.target.wants",
    "bento-agent.service": None,
    "bento-recover.service": "timers.target.wants",
    "bento-trigger.socket": "sockets.target.wants",
    "bento-trigger@.service": None,
}
REACTIVATION = "[Unit]\nDescription=Reactivate sysinit units\n"  # as NixOS has it
# What NixOS adds to what makes users: it runs at each boot and, where it changed, at a switch.
SYSUSERS = {
    "systemd-sysusers.service.d": "[Unit]\nBefore=sysinit-reactivation.target\nConditionNeedsUpdate=\n",
    "sysinit-reactivation.target.d": "[Unit]\nRequires=systemd-sysusers.service\n",
}
# Somebody connects, sends something, and waits until he is hung up on.
CALLER = """
import socket
caller = socket.create_connection(("127.0.0.1", 7374), 60)
caller.settimeout(60)
try:
    caller.sendall(b"GET / HTTP/1.1")
    while data := caller.recv(4096):
        print(data.decode(), end="")
except OSError:
    pass  # hung up on with something unread
"""
USER = "[Unit]\nDescription=Somebody's\n[Service]\nExecStart=/bin/sleep 1000\n"


@pytest.fixture
def web(as_root: None, world: World) -> Machine:
    if lacking := nspawn.missing():
        pytest.skip(f"needs {', '.join(lacking)}: make systemd-tests installs them")
    if not nspawn.is_cached() and "BENTO_SYSTEMD_TESTS" not in os.environ:
        pytest.skip("needs a Debian to boot, which takes minutes to make: make systemd-tests")
    machine = world.add("web")
    add(world, machine, "token", b"first", "--owner", machine.name)
    add(world, machine, "hash", b"$y$hash")
    toml = world.fleet / "secrets/secrets.toml"
    toml.write_text(toml.read_text().replace('name = "hash"\n', 'name = "hash"\nusers = true\n'))
    world.bento("deploy")
    machine.run()
    return machine


def add(world: World, machine: Machine, name: str, content: bytes, *options: str) -> None:
    world.bento("secret", "add", machine.name, "-", "--name", name, *options, stdin=content)


@pytest.fixture
def booted(web: Machine, tmp_path: Path) -> Iterator[Nspawn]:
    with Nspawn(tmp_path / "booted", [PROJECT, Path(sys.prefix)], [(web.state, "/var/lib/bento")]) as machine:
        etc = machine.root / "etc"
        for folder in ("ssh", "bento", "sysusers.d"):
            (etc / folder).mkdir(exist_ok=True)
        shutil.copy(web.folder / "key", etc / "ssh/ssh_host_ed25519_key")
        shutil.copy(web.folder / "trust.toml", etc / "bento/trust.toml")
        (etc / "bento/agent.toml").write_text(f'host = "{web.name}"\n')
        (etc / f"sysusers.d/{web.name}.conf").write_text(f"u {web.name} - -\n")
        (machine.root / "usr/local/bin/bento-agent").symlink_to(PROGRAMS / "bento-agent")
        system = etc / "systemd/system"
        (system / "sysinit-reactivation.target").write_text(REACTIVATION)
        for folder, text in SYSUSERS.items():
            (system / folder).mkdir()
            (system / folder / "nixos.conf").write_text(text)
        (system / "somebody.service").write_text(USER)
        assert {path.name for path in UNITS.iterdir()} == set(WANTED)
        for name, wanted in WANTED.items():
            shutil.copy(UNITS / name, system / name)
            if wanted is not None:
                (system / wanted).mkdir(exist_ok=True)
                (system / wanted / name).symlink_to(f"/etc/systemd/system/{name}")
        machine.start()
        yield machine


def when(machine: Nspawn, unit: str, event: str = "Start") -> int:
    return int(machine.text(["systemctl", "show", "--value", f"--property=ExecMain{event}TimestampMonotonic", unit]))


def test_secrets_come_before_and_after_users_at_boot_and_anew_at_each_switch_and_at_nothing_else(
    world: World, web: Machine, booted: Nspawn
) -> None:
    assert "ordering cycle" not in booted.text(["journalctl", "--boot", "--output=cat"])
    place = "/run/bento/secrets"
    assert booted.text(["cat", f"{place}/token"]) == "first"
    assert booted.text(["stat", "-L", "-c", "%U %a", f"{place}/token"]) == f"{web.name} 400"
    assert booted.text(["cat", f"{place}-for-users/hash"]) == "$y$hash"
    users, boot = "bento-secrets-for-users.service", "bento-secrets.service"
    early, switch = "bento-secrets-for-users-switch.service", "bento-secrets-switch.service"
    assert when(booted, users, "Exit") <= when(booted, "systemd-sysusers.service")
    assert when(booted, "systemd-sysusers.service", "Exit") <= when(booted, boot)
    assert (when(booted, early), when(booted, switch)) == (0, 0)

    # A switch stops what makes users, where its unit changed, and restarts the target: NixOS's switch-to-configuration.
    add(world, web, "token", b"second", "--replace")
    add(world, web, "hash", b"$y$other", "--replace")
    world.bento("deploy")
    web.run()
    seen = {0}
    for _ in range(2):
        booted.text(["systemctl", "stop", "systemd-sysusers.service"])
        booted.text(["systemctl", "restart", "sysinit-reactivation.target"])
        assert booted.text(["cat", f"{place}/token"]) == "second"
        assert booted.text(["cat", f"{place}-for-users/hash"]) == "$y$other"
        assert when(booted, early, "Exit") <= when(booted, "systemd-sysusers.service")
        assert when(booted, "systemd-sysusers.service", "Exit") <= when(booted, switch)
        seen.add(when(booted, switch))
    assert len(seen) == 3, "it must run at each switch"

    # and nothing else does, though every service wants sysinit.target
    every = (users, boot, early, switch)
    before = [when(booted, unit) for unit in every]
    booted.text(["systemctl", "start", "somebody.service"])
    assert [when(booted, unit) for unit in every] == before
    failed = booted.text(["systemctl", "list-units", "--failed", "--no-legend", "--plain", "bento-secrets*"])
    assert failed == ""
    assert booted.text(["systemctl", "is-active", "bento-agent.timer"]) == "active"

    # what the boot recovers from is nothing here, and the next run finds it done
    assert booted.text(["systemctl", "is-active", "bento-recover.service"]) == "active"
    said = booted.text(["journalctl", "--boot", "--output=cat", "--unit=bento-recover.service"])
    assert "there is nothing to recover from" in said

    # the agent itself, in its sandbox: it gets as far as a machine without a network can
    assert booted.run(["systemctl", "start", "bento-agent.service"]).returncode != 0
    assert "can't reach the server" in booted.text(["journalctl", "--output=cat", "--unit=bento-agent.service"])
    assert booted.text(["systemctl", "show", "--value", "--property=ExecMainStatus", "bento-agent.service"]) == "1"

    # whoever connects to the socket has it poll, learns how that ended, and is the only one for ten seconds
    polled = when(booted, "bento-agent.service")
    said = booted.text([sys.executable, "-c", CALLER])
    assert said.splitlines() == ["bento-trigger 1", "polling", "ended 1: failed, or its server is away"]
    assert when(booted, "bento-agent.service") > polled
    polled = when(booted, "bento-agent.service")
    for _ in range(30):
        assert booted.text([sys.executable, "-c", CALLER]) == ""
    assert when(booted, "bento-agent.service") == polled
    assert booted.text(["systemctl", "is-active", "bento-trigger.socket"]) == "active"
