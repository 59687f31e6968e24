"""Promise 1, for this cycle: no plaintext on any disk, in any Nix store, argv, log or report. With controls."""

import base64
import gzip
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from rig import argv_hits, hits, traced
from rig.world import PROGRAMS, Machine, World


@pytest.fixture(scope="session")
def marker() -> bytes:
    """Never seen before, so that a hit is a leak."""
    return b"plain-" + secrets.token_hex(24).encode()


def searched(world: World, machines: list[Machine]) -> list[Path]:
    """Every place on a disk where a run could have left something; a tmpfs can't be seen from there."""
    places = [world.fleet, world.sshd.publish, world.sshd.folder, world.admin.folder]
    for machine in machines:
        places += [machine.folder, machine.root.folder]
    return places


def play(world: World, marker: bytes, traces: Path) -> list[Machine]:
    """Add, replace, deploy and install secrets on a flake and a channel host, every command under strace."""
    machines = [world.add("web"), world.add("old", kind="channel")]
    traces.mkdir()

    def bento(*args: str, stdin: bytes = b"") -> None:
        argv = traced(traces / f"bento-{len(list(traces.iterdir()))}", [str(PROGRAMS / "bento"), *args])
        done = world.admin.run(argv, stdin=stdin, cwd=world.fleet, timeout=200)
        logs.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr

    def agent(machine: Machine) -> None:
        argv = [str(PROGRAMS / "bento-agent"), "--config", str(machine.config), "run"]
        done = machine.root.run(traced(traces / f"agent-{len(list(traces.iterdir()))}", argv), timeout=200)
        logs.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr

    logs: list[bytes] = []
    for round_, replace in enumerate(((), ("--replace",))):
        for machine in machines:
            content = marker + b"-%d" % round_
            bento(
                "secret", "add", machine.name, "-", "--name", "key", "--restart", "a.service", *replace, stdin=content
            )
        bento("deploy")
        for machine in machines:
            agent(machine)
            assert machine.secret("key") == marker + b"-%d" % round_
        bento("status")
    (world.folder / "logs").write_bytes(b"".join(logs))
    return machines


def test_a_secret_is_nowhere_but_on_the_hosts_tmpfs(world: World, marker: bytes, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    machines = play(world, marker, traces)
    assert not hits(marker, *searched(world, machines), world.folder / "logs")
    assert not argv_hits(marker, sorted(traces.iterdir()))
    # it is readable where it should be, and that place is a tmpfs that can't be swapped out
    for machine in machines:
        live = machine.root.path("/run/bento")
        assert hits(marker, live)
        mounts = machine.root.text(["cat", "/proc/self/mountinfo"]).splitlines()
        mine = [line for line in mounts if line.split()[4] == "/run/bento"]
        assert len(mine) == 1
        assert " tmpfs " in mine[0] or " ramfs " in mine[0]


@pytest.mark.parametrize("form", ["raw", "base64", "hex", "gzip"])
def test_the_same_search_finds_it_where_it_was_planted(world: World, marker: bytes, form: str) -> None:
    web = world.add("web")
    forms = {
        "raw": b"x" + marker + b"y",
        "base64": base64.b64encode(b"ab" + marker + b"c"),
        "hex": marker.hex().encode(),
        "gzip": gzip.compress(b"one" + marker),
    }
    places = searched(world, [web])
    assert not hits(marker, *places)
    web.state.mkdir()
    inner = [world.fleet / "hosts", world.admin.on_disk("/nix"), web.root.on_disk("/nix"), web.state]
    for place in (*places, *inner):
        leak = place / "leak"
        leak.write_bytes(forms[form])
        assert leak in hits(marker, *places), f"not seen in {place}"
        leak.unlink()
    assert not hits(marker, *places)


def test_the_same_trace_finds_it_in_an_argument(marker: bytes, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    subprocess.run(traced(trace, ["sh", "-c", f"/bin/echo {marker.decode()}"]), capture_output=True, check=True)
    assert argv_hits(marker, [trace])


def test_a_secret_added_from_a_file_leaves_no_copy_of_it(world: World, marker: bytes, tmp_path: Path) -> None:
    web = world.add("web")
    source = Path("/dev/shm") / f"bento-test-{os.getpid()}"
    source.write_bytes(marker)
    try:
        world.bento("secret", "add", web.name, str(source), "--name", "key")
    finally:
        source.unlink()
    assert not hits(marker, *searched(world, [web]))


def test_what_a_service_prints_during_the_switch_stays_out_of_the_report(world: World, marker: bytes) -> None:
    """switch-to-configuration quotes failed units, and they may quote a secret."""
    web = world.add("web")
    flake = web.source / "flake.nix"
    text = flake.read_text()
    assert "    status=0\n" in text
    flake.write_text(text.replace("    status=0\n", "    status=0\n    cat /run/bento/secrets/key\n", 1))
    world.bento("secret", "add", web.name, "-", "--name", "key", stdin=marker)
    world.bento("deploy")
    assert marker.decode() in web.run()  # the control: it was printed, and stayed on the host's own terminal
    assert "switch-to-configuration test: exit 0" in world.report(web)["log_tail"]
    assert not hits(marker, *searched(world, [web]))


# A run that is broken leaves no more than one that isn't.

ALL = os.environ.get("BENTO_FAULTS") == "all"
ARMED = ["sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh"]  # whoever starts it wants images of what crashes


def breaking(trace: Path, fault: str) -> list[str]:
    """strace as `traced`, with a fault at one call of each process."""
    argv = traced(trace, [])
    calls = argv.index("trace=execve,execveat")
    argv[calls] += f",{fault.partition(':')[0]}"
    return [*argv[:-1], "-e", f"inject={fault}", "--"]


def faults(calls: int) -> list[tuple[str, int | None]]:
    """What to inject, and how the agent then ends; None if it needn't. Kills, crashes and refusals all over a run."""
    spread = [1 + number * calls // (12 if ALL else 3) for number in range(12 if ALL else 3)]
    found: list[tuple[str, int | None]] = []
    for place, number in enumerate(spread):
        found.append((f"fsync:signal={'SEGV' if place % 2 else 'KILL'}:when={number}", -11 if place % 2 else -9))
    for place, number in enumerate(spread[1::2]):
        found.append((f"fsync:error={('ENOSPC', 'EIO', 'EROFS')[place % 3]}:when={number}", None))
    return found


@pytest.mark.timeout(600 if ALL else 240)
def test_runs_that_are_killed_crash_or_find_a_disk_that_refuses_leave_no_plaintext_either(
    world: World, marker: bytes, tmp_path: Path
) -> None:
    web = world.add("web")
    agent = [str(PROGRAMS / "bento-agent"), "--config", str(web.config), "run"]
    traces = tmp_path / "traces"
    traces.mkdir()

    def publish(number: int) -> None:
        options = ("--restart", "a.service", *(("--replace",) if number else ()))
        world.bento("secret", "add", web.name, "-", "--name", "key", *options, stdin=marker + b"-%d" % number)
        world.bento("deploy")

    publish(0)
    web.run()
    publish(1)
    counted = tmp_path / "counted"
    done = web.root.run(["strace", "-e", "trace=fsync", "-o", counted, "--", *agent], timeout=200)
    assert done.returncode == 0, done.stderr
    calls = counted.read_text().count("fsync(")
    logs = done.stdout + done.stderr
    broken = 0
    for number, (fault, wanted) in enumerate(faults(calls), 2):
        publish(number)
        trace = traces / str(number)
        done = web.root.run([*ARMED, *breaking(trace, fault), *agent], cwd=web.folder, timeout=200)
        logs += done.stdout + done.stderr
        broken += done.returncode == wanted or (wanted is None and "(INJECTED)" in trace.read_text())
        assert b"Traceback" not in done.stderr
        assert not list(web.folder.glob("core*")), fault  # such an image is large: the search below takes minutes
        assert not hits(marker, *searched(world, [web])), fault
    assert broken >= len(faults(calls)) * 0.7, broken
    (world.folder / "logs").write_bytes(logs)
    assert not hits(marker, world.folder / "logs")
    assert not argv_hits(marker, sorted(traces.iterdir()))
    # in the end the host has the last release, or says why it was left, and takes it when it is told to
    web.agent("retry")
    web.agent("run")
    web.run()
    assert web.secret("key") == marker + b"-%d" % number
    assert not hits(marker, *searched(world, [web]))


def test_the_same_search_finds_it_in_the_image_of_another_program_that_crashed(world: World, marker: bytes) -> None:
    web = world.add("web")
    crash = "import os, sys; held = sys.stdin.buffer.read(); os.kill(os.getpid(), 11)"
    done = web.root.run([*ARMED, sys.executable, "-c", crash], cwd=web.folder, stdin=marker)
    assert done.returncode == -11
    (image,) = hits(marker, *searched(world, [web]))
    assert image.name.startswith("core")
