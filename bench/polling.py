"""What a poll that finds nothing new costs a host and the server, beside OpenSSH's `sftp -b` doing the same."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # real machines, as the tests have them

from measure import Result, Sample, medians, paired_ratio, peak, take_turns

from bento.demo.systems import write_channel
from rig import PrivateRoot, Sshd, system_user
from rig.world import PROGRAMS, Machine, World

WALL, MEMORY, SERVER = 3.0, 60.0, 1.1
# What the agent and OpenSSH's server agree on; `sftp` would choose others.
_SAME = {
    "KexAlgorithms": "curve25519-sha256@libssh.org",
    "Ciphers": "aes128-ctr",
    "MACs": "hmac-sha2-256",
    "HostKeyAlgorithms": "ssh-ed25519",
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "ControlPath": "none",
}
# The agent's requests: the manifest read; a heartbeat written beside its place, given its mode, and renamed.
_BATCH = """\
get release/manifest {got}
put {heartbeat} reports/.heartbeat.tmp
chmod 644 reports/.heartbeat.tmp
rename reports/.heartbeat.tmp reports/heartbeat
"""


def measure(folder: Path, polls: int, rounds: int) -> list[Result]:
    """`polls` of each side in a round. Wall and memory of the host's program, CPU of both programs, CPU of sshd."""
    with _host(folder) as (web, sshd):
        server = {"agent": list[Sample](), "sftp": list[Sample]()}
        own = {"agent": list[Sample](), "sftp": list[Sample]()}
        (folder / "known").write_text(f"[{sshd.address}]:{sshd.port} {sshd.host_key_line}\n")
        heartbeat = sshd.publish / web.name / "reports/heartbeat"
        (folder / "heartbeat").write_bytes(heartbeat.read_bytes())
        (folder / "batch").write_text(_BATCH.format(got=folder / "got", heartbeat=folder / "heartbeat"))
        options = [f"-o{name}={value}" for name, value in _SAME.items()]
        sides: dict[str, Sequence[str | Path]] = {
            "agent": [PROGRAMS / "bento-agent", "--config", web.config, "run"],
            "sftp": [
                *("sftp", "-q", "-F", "none", *options, f"-oUserKnownHostsFile={folder}/known"),
                *(f"-oIdentityFile={web.folder}/key", f"-P{sshd.port}", "-b", folder / "batch"),
                f"{web.name}@{sshd.address}",
            ],
        }

        def poll(side: str) -> Sample:
            before, began = _server_seconds(sshd), _own_seconds()
            started = time.perf_counter()
            for _ in range(polls):
                done = web.root.popen(sides[side], stdout=subprocess.DEVNULL, stderr=None)
                if done.wait(60):
                    raise RuntimeError(f"{side} ended with {done.returncode}")
            taken = (time.perf_counter() - started) / polls
            own[side].append(Sample((_own_seconds() - began) / polls))
            _settle(sshd)
            server[side].append(Sample((_server_seconds(sshd) - before) / polls))
            return Sample(taken, _memory(web, sides[side]) if side == "agent" else 0.0)

        wall = take_turns(rounds, {side: lambda side=side: poll(side) for side in sides})  # type: ignore[misc]
    work, beside = "a poll with nothing new, heartbeat included", "`sftp -b` with the same requests and algorithms"
    counted = {side: samples[1:] for side, samples in server.items()}
    used = {side: samples[1:] for side, samples in own.items()}
    one = Result(
        "poll", f"{work}: time on the host", beside, paired_ratio(wall["agent"], wall["sftp"]), medians(wall),
        peak(wall["agent"]), most=WALL, memory_below=MEMORY,
    )  # fmt: skip
    return [
        one,
        replace(
            one, name="poll-cpu", work=f"{work}: CPU on the host", most=None,
            ratio=paired_ratio(used["agent"], used["sftp"]), seconds=medians(used),
        ),
        replace(
            one, name="poll-sshd", work=f"{work}: sshd's CPU for it", most=SERVER,
            ratio=paired_ratio(counted["agent"], counted["sftp"]), seconds=medians(counted),
        ),
    ]  # fmt: skip


@contextmanager
def _host(folder: Path) -> Iterator[tuple[Machine, Sshd]]:
    """A host that has the newest release, and its server."""
    name = f"bbench{os.getpid() % 100_000}"
    with ExitStack() as stack:
        user = stack.enter_context(system_user(name))
        channel = folder / "channel"
        channel.mkdir()
        write_channel(channel)
        sshd = stack.enter_context(Sshd(folder / "sshd", folder / "publish"))

        def root(word: str) -> PrivateRoot:
            return stack.enter_context(PrivateRoot(folder / f"machine-{word}", channel))

        world = World(folder, root("admin"), sshd, root, lambda _word: user)
        world.init()
        web = world.add("web", kind="channel")
        world.bento("deploy")
        web.run()
        web.run()
        yield web, sshd


def _own_seconds() -> float:
    """CPU of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _server_seconds(sshd: Sshd) -> float:
    """CPU of sshd and of all its sessions that have ended."""
    fields = Path(f"/proc/{sshd.listener}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _settle(sshd: Sshd) -> None:
    """Wait until its sessions have ended: what they used counts only then."""
    pid = sshd.listener
    while Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        time.sleep(0.005)


def _memory(web: Machine, argv: Sequence[str | Path]) -> float:
    """MB, the highest resident set of one run."""
    code = "import json,os,resource,subprocess,sys;subprocess.run(sys.argv[1:],check=True);"
    code += "print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))"
    done = web.root.run([sys.executable, "-c", code, *argv])
    kilobytes: int = json.loads(done.stdout.splitlines()[-1])
    return kilobytes / 1024
