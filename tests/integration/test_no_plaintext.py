"""Promise 1, for this cycle: no plaintext on any disk, in any Nix store, argv, log or report. With controls."""

import base64
import gzip
import os
import secrets
import subprocess
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
        done = world.admin.run(argv, stdin=stdin, cwd=world.fleet, timeout=120)
        logs.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr

    def agent(machine: Machine) -> None:
        argv = [str(PROGRAMS / "bento-agent"), "--config", str(machine.config), "run"]
        done = machine.root.run(traced(traces / f"agent-{len(list(traces.iterdir()))}", argv), timeout=120)
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
