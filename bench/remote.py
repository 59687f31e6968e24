"""Publishing by SFTP over a link with a round trip of 20 ms, beside ten round trips and the same bytes. Needs root."""

import socket
import threading
import time
from pathlib import Path

from measure import Result, Sample, medians, paired_ratio, peak, run, take_turns
from served import ServedWorld

from rig.keys import make_ssh_key
from rig.relay import Relay

ROUND_TRIP = 0.02  # seconds
TRIPS = 10
CHANGED = 100  # one host in so many
AT_MOST = 3.0
MEMORY = 200.0  # MB
PUBLISHER = "publisher"


class RemoteWorld(ServedWorld):
    """A fleet that is published by SFTP through a relay that delays."""

    def __init__(self, folder: Path, hosts: int) -> None:
        super().__init__(folder, hosts, (PUBLISHER,))
        key = make_ssh_key(folder / "publisher", comment="publisher")
        self.sshd.add_publisher(PUBLISHER, [key.line])
        for name in self.names:
            self.sshd.give_host(name, PUBLISHER)
        self.relay = Relay(self.sshd.port, delay=ROUND_TRIP / 2)
        settings = self.fleet / "bento.toml"
        hosts_part = settings.read_text().partition("[signing]")[2]
        settings.write_text(
            f'[publish]\nto = "sftp://{PUBLISHER}@127.0.0.1:{self.relay.port}/run/publish"\n'
            f'identity = "{key.path}"\nhost_keys = ["{self.sshd.host_key_line}"]\n[signing]{hosts_part}'
        )
        self.bytes = (0, 0)
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.relay.port} {self.sshd.host_key_line}\n")
        options = ("IdentitiesOnly=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={folder / 'known_hosts'}")
        self._sftp: list[str | Path] = ["sftp", "-F", "none", "-q", "-P", str(self.relay.port), "-i", key.path]
        self._sftp += [word for option in options for word in ("-o", option)]

    def __exit__(self, *_: object) -> None:
        self.relay.cut()
        super().__exit__()

    def deploy(self, every: int = CHANGED) -> Sample:
        """Change one host in `every`, then deploy all."""
        for name in self.names[::every]:
            (self.fleet / "hosts" / name / "module-0.nix").write_text(f"# {name} {time.time_ns()}\n")
        before = self.relay.sent, self.relay.received
        done = self.bento()
        self.bytes = self.relay.sent - before[0], self.relay.received - before[1]
        return done

    def puts(self) -> Sample:
        """A small file into each host's folder by OpenSSH's sftp, which waits for each."""
        batch, small = self.folder / "batch", self.folder / "small"
        small.write_bytes(bytes(1024))
        batch.write_text("".join(f"put {small} /run/publish/{name}/release/objects/bare\n" for name in self.names))
        return run([*self._sftp, "-b", batch, f"{PUBLISHER}@127.0.0.1"], self.folder)

    def login(self) -> Sample:
        """OpenSSH's sftp logs in over such a link, and out again."""
        return run([*self._sftp, "-b", "/dev/null", f"{PUBLISHER}@127.0.0.1"], self.folder)

    def bare(self) -> Sample:
        """Ten round trips, then as many bytes in both directions as the last deploy moved, over such a link."""
        up, down = self.bytes
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            threading.Thread(target=_answer, args=(listener, up, down), daemon=True).start()
            with Relay(port, delay=ROUND_TRIP / 2) as relay, socket.create_connection(("127.0.0.1", relay.port)) as one:
                started = time.perf_counter()
                for _ in range(TRIPS):
                    one.sendall(b"x")
                    _take(one, 1)
                sending = threading.Thread(target=one.sendall, args=(bytes(up),))
                sending.start()
                _take(one, down)
                sending.join()
                return Sample(time.perf_counter() - started)


def _answer(listener: socket.socket, up: int, down: int) -> None:
    other, _ = listener.accept()
    with other:
        for _ in range(TRIPS):
            other.sendall(_take(other, 1))
        sending = threading.Thread(target=other.sendall, args=(bytes(down),))
        sending.start()
        _take(other, up)
        sending.join()


def _take(one: socket.socket, size: int) -> bytes:
    taken = bytearray()
    while len(taken) < size and (piece := one.recv(min(65536, size - len(taken)))):
        taken += piece
    return bytes(taken)


def remote(folder: Path, hosts: int, rounds: int) -> Result:
    """Deploy, one host in a hundred changed."""
    with RemoteWorld(folder, hosts) as world:
        world.bento()
        world.deploy()
        # What OpenSSH's own client takes to log in and out again is only told.
        samples = take_turns(rounds, {"bento": world.deploy, "bare": world.bare, "login": world.login})
        up, down = world.bytes
    return Result(
        "sftp", f"deploy {hosts} hosts by SFTP at 20 ms, one in {CHANGED} changed ({up:,} bytes up, {down:,} down)",
        f"{TRIPS} round trips and the bytes", paired_ratio(samples["bento"], samples["bare"]), medians(samples),
        peak(samples["bento"]), most=AT_MOST, memory_below=MEMORY,
    )  # fmt: skip


def publish_all(folder: Path, hosts: int, rounds: int) -> Result:
    """Deploy, every host changed."""
    with RemoteWorld(folder, hosts) as world:
        world.bento()
        samples = take_turns(rounds, {"bento": lambda: world.deploy(1), "sftp": world.puts})
    return Result(
        "sftp-all", f"deploy {hosts} hosts by SFTP at 20 ms, all changed: two files each", "sftp -b, one file each",
        paired_ratio(samples["bento"], samples["sftp"]), medians(samples), peak(samples["bento"]), most=1.0,
        memory_below=MEMORY,
    )  # fmt: skip
