"""The units of docs/on-the-host.md, as they stand there, under a real systemd: `make systemd-tests`."""

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from rig import hits, nspawn
from rig.nspawn import Nspawn
from rig.world import PROGRAMS, Machine, World

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs/on-the-host.md"

# The app of the page. It tells who it is, a digest of what it was given, what it can read by itself; and stays.
APP = """\
#!/bin/sh
direct=$(cat /run/bento/secrets/token 2>/dev/null || echo refused)
echo "uid=$(id -u) token=$(sha256sum <"$2" | cut -c1-64) mode=$(stat -c %a "$2") direct=$direct"
exec sleep 1000
"""


def units() -> dict[str, str]:
    """Each unit of the page, by its name."""
    return dict(
        re.findall(r"^`([a-z-]+\.service)`:\n\n```ini\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    )


def secret(world: World, machine: Machine, name: str, content: bytes, *options: str) -> None:
    world.bento("secret", "add", machine.name, "-", "--name", name, *options, stdin=content)


@pytest.fixture
def debian(as_root: None) -> None:
    if lacking := nspawn.missing():
        pytest.skip(f"needs {', '.join(lacking)}: make systemd-tests installs them")
    if not nspawn.is_cached() and "BENTO_SYSTEMD_TESTS" not in os.environ:
        pytest.skip("needs a Debian to boot, which takes minutes to make: make systemd-tests")
    python = Path(sys.executable).resolve()
    if not (nspawn.base() / python.relative_to("/")).exists():
        pytest.skip(f"the Debian to boot has no {python}, with which this project is installed")


@pytest.fixture
def web(debian: None, world: World) -> Machine:
    """A host with a release: a service's secret, a user's, and one for before there are users."""
    machine = world.add("web")
    secret(world, machine, "token", b"first", "--restart", "app.service")
    secret(world, machine, "owned", b"x", "--owner", machine.name, "--mode", "0440")
    secret(world, machine, "root-hash", b"$y$hash")
    toml = world.fleet / "secrets/secrets.toml"
    toml.write_text(toml.read_text().replace('name = "root-hash"\n', 'name = "root-hash"\nusers = true\n'))
    world.bento("deploy")
    machine.run()
    return machine


@pytest.fixture
def booted(web: Machine, tmp_path: Path) -> Iterator[Nspawn]:
    """The same host as a whole machine: its state and key, and the page's units. It boots without a network."""
    with Nspawn(tmp_path / "booted", [PROJECT, Path(sys.prefix)], [(web.state, "/var/lib/bento")]) as machine:
        etc = machine.root / "etc"
        (etc / "ssh").mkdir(exist_ok=True)
        shutil.copy(web.folder / "key", etc / "ssh/ssh_host_ed25519_key")
        (etc / "bento").mkdir()
        shutil.copy(web.folder / "trust.toml", etc / "bento/trust.toml")
        (etc / "bento/agent.toml").write_text(f'host = "{web.name}"\n')
        (etc / "sysusers.d").mkdir(exist_ok=True)
        (etc / f"sysusers.d/{web.name}.conf").write_text(f"u {web.name} - -\n")
        (machine.root / "usr/local/bin/bento-agent").symlink_to(PROGRAMS / "bento-agent")
        app = machine.root / "usr/local/bin/app"
        app.write_text(APP)
        app.chmod(0o755)
        for name, text in units().items():
            (etc / "systemd/system" / name).write_text(text)
            wanted_by = re.search(r"^WantedBy=(\S+)$", text, flags=re.MULTILINE)
            assert wanted_by is not None
            wants = etc / f"systemd/system/{wanted_by[1]}.wants"
            wants.mkdir(exist_ok=True)
            (wants / name).symlink_to(f"/etc/systemd/system/{name}")
        machine.start()
        yield machine


def seen(machine: Nspawn) -> dict[str, str]:
    """What the app told when it started last."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        pid = machine.text(["systemctl", "show", "--value", "--property=MainPID", "app.service"])
        lines = machine.text(["journalctl", "--boot", "--output=cat", f"_PID={pid}"]).splitlines()
        for line in lines:
            if line.startswith("uid="):
                return dict(word.split("=", 1) for word in line.split())
        time.sleep(0.05)
    raise AssertionError(machine.run(["systemctl", "status", "app.service"]).stdout.decode())


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def when(machine: Nspawn, unit: str, event: str) -> int:
    return int(machine.text(["systemctl", "show", "--value", f"--property=ExecMain{event}TimestampMonotonic", unit]))


def check(machine: Nspawn, user: str, token: str) -> None:
    # systemd breaks a cycle by leaving out one of its units, now this one, now that one
    assert "ordering cycle" not in machine.text(["journalctl", "--boot", "--output=cat"])
    assert machine.text(["systemctl", "list-units", "--failed", "--no-legend"]) == ""
    app = seen(machine)
    assert (app["token"], app["mode"], app["direct"]) == (digest(token), "400", "refused")
    assert 61184 <= int(app["uid"]) <= 65519, "systemd's range for dynamic users"
    place = "/run/bento/secrets"
    assert machine.text(["stat", "-L", "-c", "%U:%G %a", f"{place}/owned"]) == f"{user}:root 440"
    assert machine.text(["stat", "-L", "-c", "%U:%G %a", f"{place}-for-users/root-hash"]) == "root:root 400"
    assert machine.run(["test", "-e", f"{place}/root-hash"]).returncode != 0


def test_the_pages_units_bring_secrets_before_users_and_services_and_a_dynamic_user_gets_his(
    world: World, web: Machine, booted: Nspawn
) -> None:
    assert set(units()) == {
        "app.service",
        *(f"bento-{name}.service" for name in ("secrets", "secrets-for-users", "recover")),
    }
    check(booted, web.name, "first")
    users, secrets, sysusers = "bento-secrets-for-users.service", "bento-secrets.service", "systemd-sysusers.service"
    assert when(booted, users, "Exit") <= when(booted, sysusers, "Start")
    assert when(booted, sysusers, "Exit") <= when(booted, secrets, "Start")
    assert when(booted, secrets, "Exit") <= when(booted, "app.service", "Start")
    assert when(booted, secrets, "Exit") <= when(booted, "bento-recover.service", "Start")
    options = booted.text(["findmnt", "-no", "FSTYPE,OPTIONS", "/run/bento"])
    assert options.startswith(("tmpfs", "ramfs"))

    # a new content reaches the app with its restart, and not before
    second = token_hex(16)
    secret(world, web, "token", second.encode(), "--replace")
    world.bento("deploy")
    web.run()
    booted.text(["bento-agent", "install-secrets"])
    assert seen(booted)["token"] == digest("first")
    booted.text(["systemctl", "try-restart", "app.service"])
    check(booted, web.name, second)

    booted.reboot()
    check(booted, web.name, second)
    booted.cut_power()
    booted.start()
    check(booted, web.name, second)
    # none of it is on the machine's disk, where a planted one is found
    disk = booted.root.with_name("upper")
    assert hits(second.encode(), disk, web.state) == []
    (booted.root / "var/planted").write_text(second)
    assert hits(second.encode(), disk, web.state) == [disk / "var/planted"]


def test_a_secret_that_does_not_open_keeps_the_app_from_starting_and_nobody_from_logging_in(
    web: Machine, booted: Nspawn
) -> None:
    manifest = max((web.state / "manifests").iterdir()).read_text()
    digest = manifest.split('"name":"token"')[0].rsplit('"digest":"', 1)[1][:64]
    (web.state / "objects" / digest).write_bytes(b"damaged")
    booted.reboot()
    failed = booted.text(["systemctl", "list-units", "--failed", "--no-legend", "--plain"])
    assert [line.split()[0] for line in failed.splitlines()] == ["app.service", "bento-secrets.service"]
    assert booted.text(["cat", "/run/bento/secrets-for-users/root-hash"]) == "$y$hash"
    assert booted.run(["test", "-e", "/run/bento/secrets"]).returncode != 0
