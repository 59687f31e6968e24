"""`bento-agent receive` believes nothing because it was pushed: the rules are those of a poll."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bento.demo.systems import System
from bento.models.push import OPENING, head
from rig import make_ssh_key
from rig.world import PROGRAMS, Machine, World, said


def part(name: str, data: bytes) -> bytes:
    return head(name, len(data)) + data


def stream(release: Path) -> bytes:
    """A release folder as `bento push` would send it."""
    raw = (release / "manifest").read_bytes()
    manifest = json.loads(raw.split(b"\n")[0])
    wanted = [one["digest"] for one in manifest["secrets"]] + [manifest["config"]["digest"]]
    return OPENING + part("manifest", raw) + b"".join(part(d, (release / "objects" / d).read_bytes()) for d in wanted)


@pytest.fixture
def web(world: World) -> Machine:
    """A host that runs its first release; the second is published, and the server is away."""
    machine = world.add("web")
    world.bento("secret", "add", machine.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    machine.run()
    shutil.copytree(world.manifest(machine).parent, world.folder / "first")
    machine.write(System("second"))
    world.bento("secret", "add", machine.name, "-", "--name", "token", "--replace", stdin=b"second")
    world.bento("deploy")
    world.sshd.stop()
    return machine


def begin(web: Machine, data: bytes) -> subprocess.Popen[bytes]:
    argv = [PROGRAMS / "bento-agent", "--config", web.config, "receive"]
    process = web.root.popen(argv, stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.close()
    except BrokenPipeError:
        pass
    return process


def end(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    assert process.stdout is not None
    out = process.stdout.read().decode()
    return process.wait(120), out


def signed(key: Path, line: bytes) -> bytes:
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "bento-release", "-f", str(key)]
    return line + subprocess.run(argv, input=line, capture_output=True, check=True).stdout


def test_no_bad_stream_changes_anything_and_a_good_one_is_taken_after_them_all(world: World, web: Machine) -> None:
    release = world.manifest(web).parent
    good = stream(release)
    raw = (release / "manifest").read_bytes()
    line = raw.split(b"\n")[0] + b"\n"
    secret = json.loads(line)["secrets"][0]
    sealed = (release / "objects" / secret["digest"]).read_bytes()
    mallory = make_ssh_key(world.folder / "mallory").path
    before = (web.root.running(), web.secret("token"), web.root.switches())

    def with_manifest(other: bytes) -> bytes:
        return good.replace(part("manifest", raw), part("manifest", other))

    bad: dict[str, tuple[bytes, int, str]] = {
        "unsigned": (with_manifest(line), 6, "no signature"),
        "edited": (with_manifest(raw.replace(b'"acme"', b'"evil"')), 6, "not signed"),
        "signed by nobody of ours": (with_manifest(signed(mallory, line)), 6, "not signed"),
        "nothing": (b"", 1, "broke off"),
        "garbage": (b"\x00\xff" * 5000, 6, "not one that bento push writes"),
        "cut in the manifest": (good[: len(OPENING) + 300], 1, "broke off"),
        "another object": (good.replace(sealed, b"x" * len(sealed)), 6, "not the one that was signed"),
        "cut in an object": (good[:-10], 1, "broke off"),
        "without its objects": (OPENING + part("manifest", raw), 1, "isn't whole"),
    }
    for what, (data, code, words) in bad.items():
        ended, out = end(begin(web, data))
        assert (ended, words in out) == (code, True), f"{what}: exit {ended}: {out}"
        assert "Traceback" not in out
        assert (web.root.running(), web.secret("token"), web.root.switches()) == before, what

    process = begin(web, good)
    wanted = json.loads(line)["serial"]
    confirm(web, process, wanted)
    ended, out = end(process)
    assert ended == 0, out
    assert web.secret("token") == b"second"

    # And no older one after it: the floor holds here as at the server.
    running = web.root.running()
    ended, out = end(begin(web, stream(world.folder / "first")))
    assert (ended, "is older than" in out) == (6, True), out
    assert web.root.running() == running


def confirm(web: Machine, process: subprocess.Popen[bytes], serial: int, *args: str) -> None:
    """Come back once the host asks for it."""
    assert process.stdout is not None
    for line in process.stdout:
        if line == b"confirm %d\n" % serial:
            break
    done = web.agent("confirm", *args, str(serial))
    assert done.returncode == 0, said(done)


def test_a_switch_that_nobody_confirms_is_undone_and_a_confirmation_of_another_release_counts_for_nothing(
    world: World, web: Machine
) -> None:
    world.write_agent(web, confirm=2)
    before = (web.root.running(), web.root.boot_default(), web.secret("token"))
    release = world.manifest(web).parent
    serial = json.loads((release / "manifest").read_bytes().split(b"\n")[0])["serial"]
    process = begin(web, stream(release))
    while process.poll() is None:
        other = web.agent("confirm", str(serial + 1))
        assert other.returncode in (75, 5), said(other)
    ended, out = end(process)
    assert ended == 1, out
    assert "the admin did not come back" in out
    assert (web.root.running(), web.root.boot_default(), web.secret("token")) == before
    late = web.agent("confirm", str(serial))
    assert late.returncode == 5
    assert "isn't installed" in said(late)
    # The server, when it is back, may find it good: what a push couldn't confirm a poll still can.
    world.write_agent(web)
    world.sshd.start()
    web.run()
    assert web.secret("token") == b"second"


def test_confirm_with_wait_ends_when_the_run_has_and_says_how(world: World, web: Machine) -> None:
    release = world.manifest(web).parent
    serial = json.loads((release / "manifest").read_bytes().split(b"\n")[0])["serial"]
    process = begin(web, stream(release))
    confirm(web, process, serial, "--wait")
    assert web.facts()["committed"] == serial
    assert end(process)[0] == 0
