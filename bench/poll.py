"""What a poll that finds nothing new costs the host and the server, beside OpenSSH's own sftp on the same files."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Result, Sample, medians, paired_ratio, peak, take_turns
from served import ServedWorld

AGENT = Path(sys.executable).with_name("bento-agent")
WALL, SERVER = 3.0, 1.1
MEMORY = 60.0  # MB
_BATCH = """\
get release/manifest {got}
put {heartbeat} reports/.heartbeat.tmp
chmod 644 reports/.heartbeat.tmp
rename reports/.heartbeat.tmp reports/heartbeat
"""


@dataclass(frozen=True)
class _Ran:
    wall: float
    cpu: float  # of the process and those it waited for
    memory: float


class PollWorld:
    """One host that has its release, and both ways to poll. In a mount namespace of its own: the agent mounts."""

    def __init__(self, folder: Path) -> None:
        self.served = ServedWorld(folder, 1)
        self.served.bento()
        self.name = self.served.names[0]
        self._namespace = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo; exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        if self._namespace.stdout is None or not self._namespace.stdout.readline():
            raise RuntimeError("unshare doesn't work here")
        try:
            self._prepare(folder)
        except BaseException:
            self.__exit__()
            raise

    def _prepare(self, folder: Path) -> None:
        self._settle(folder)
        known, batch = folder / "known_hosts", folder / "batch"
        sshd = self.served.sshd
        known.write_text(f"[{sshd.address}]:{sshd.port} {sshd.host_key_line}\n")
        batch.write_text(_BATCH.format(got=folder / "got", heartbeat=folder / "heartbeat"))
        kex, cipher = _algorithms()
        self._sftp: list[str | Path] = [
            "sftp",
            "-q",
            "-b",
            batch,
            "-P",
            str(sshd.port),
            "-i",
            self.served.key(self.name),
        ]
        for option in (
            f"UserKnownHostsFile={known}", f"KexAlgorithms={kex}", f"Ciphers={cipher}", "IdentitiesOnly=yes",
            "IdentityAgent=none", "Compression=no",
        ):  # fmt: skip
            self._sftp += ["-o", option]
        self._sftp.append(f"{self.name}@{sshd.address}")
        self.agent()
        (folder / "heartbeat").write_bytes((self.served.published / self.name / "reports/heartbeat").read_bytes())

    def __enter__(self) -> "PollWorld":
        return self

    def __exit__(self, *_: object) -> None:
        self._namespace.kill()
        self._namespace.wait()
        self.served.__exit__()

    def _settle(self, folder: Path) -> None:
        """The host's state, as after an update."""
        from bento.agent.state import State
        from bento.core.journal import Journal, Point
        from bento.core.trust_rules import Floor
        from bento.models.signed import split
        from bento.names import Serial

        raw = self.served.manifest(self.name)
        serial = Serial(self.served.serial(self.name))
        state = State(folder / "host")
        state.prepare()
        state.keep_manifest(serial, raw)
        state.write_floor(Floor(serial, split(raw, "the manifest").line_digest, "finished"))
        state.write_journal(Journal(committed=Point(None, serial)))
        (folder / "runtime").mkdir()
        self._config = folder / "agent.toml"
        self._config.write_text(
            f'host = "{self.name}"\nidentities = ["{self.served.key(self.name)}"]\n'
            f'trust = "{self.served.fleet}/utils/trust.toml"\n'
            f'[paths]\nstate = "{folder}/host"\nruntime = "{folder}/runtime"\ncurrent_system = "{folder}/system"\n'
        )
        self._run([AGENT, "--config", self._config, "install-secrets"])

    def _run(self, argv: Sequence[str | Path]) -> _Ran:
        inside = ["nsenter", f"--mount=/proc/{self._namespace.pid}/ns/mnt"]
        started = time.perf_counter()
        process = subprocess.Popen([*inside, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(map(str, argv))} ended with {process.returncode}")
        return _Ran(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    def agent(self) -> _Ran:
        """`bento-agent run`, as the timer starts it."""
        return self._run([AGENT, "--config", self._config, "run"])

    def sftp(self) -> _Ran:
        """The same by `sftp -b`: read the manifest, write the heartbeat."""
        return self._run(self._sftp)

    def at_server(self, poll: Callable[[], _Ran], times: int) -> Sample:
        """Processor seconds of sshd for one of `times` polls."""
        before = self._idle()
        for _ in range(times):
            poll()
        return Sample((self._idle() - before) / times)

    def _idle(self) -> float:
        while self.served.sessions():
            time.sleep(0.01)
        return self.served.cpu()


def _algorithms() -> tuple[str, str]:
    """The key exchange and the cipher that Bento agrees on with an OpenSSH server: its first that OpenSSH has."""
    import socket

    import paramiko

    one, other = socket.socketpair()
    with one, other:
        options = paramiko.Transport(one).get_security_options()
    found = []
    for kind, wanted in (("kex", options.kex), ("cipher", options.ciphers)):
        has = subprocess.run(["ssh", "-Q", kind], capture_output=True, text=True, check=True).stdout.split()
        found.append(next(name for name in wanted if name in has))
    return found[0], found[1]


def poll(folder: Path, _much: int, rounds: int) -> Result:
    """On the host: the whole process."""
    walls: dict[str, list[Sample]]
    with PollWorld(folder) as world:
        cpu: dict[str, list[Sample]] = {"bento": [], "sftp": []}

        def side(name: str, work: Callable[[], _Ran]) -> Sample:
            ran = work()
            cpu[name].append(Sample(ran.cpu))
            return Sample(ran.wall, ran.memory)

        walls = take_turns(
            rounds, {"bento": lambda: side("bento", world.agent), "sftp": lambda: side("sftp", world.sftp)}
        )
    taken = {name: samples[1:] for name, samples in cpu.items()}
    used = {f"{name} processor": value for name, value in medians(taken).items()}
    ratio = paired_ratio(taken["bento"], taken["sftp"])
    return Result(
        "poll", f"poll as a whole process, nothing new, a heartbeat left (processor time: {ratio:.1f} times)",
        "sftp -b with the same reads, writes and algorithms", paired_ratio(walls["bento"], walls["sftp"]),
        {**medians(walls), **used}, peak(walls["bento"]), most=WALL, memory_below=MEMORY,
    )  # fmt: skip


def sshd(folder: Path, polls: int, rounds: int) -> Result:
    """On the server: processor time of sshd and its sessions."""
    with PollWorld(folder) as world:
        samples = take_turns(
            rounds,
            {
                "bento": lambda: world.at_server(world.agent, polls),
                "sftp": lambda: world.at_server(world.sftp, polls),
            },
        )
        memory = peak([Sample(0, world.agent().memory)])
    seconds = medians(samples)
    rates = ", ".join(f"{side} {1 / max(value, 1e-3):.0f}" for side, value in seconds.items())
    return Result(
        "sshd", f"what a poll costs sshd in processor time ({polls} polls a sample; polls a second and core: {rates})",
        "sftp -b with the same reads, writes and algorithms", paired_ratio(samples["bento"], samples["sftp"]), seconds,
        memory, most=SERVER, memory_below=MEMORY,
    )  # fmt: skip
