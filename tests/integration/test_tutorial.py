"""docs/tutorial.md, typed as it stands on four machines on a network, each with its own /etc, sshd and Nix."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bento.demo.systems import System, write_configuration, write_flake
from rig import MakeRoot, PrivateRoot
from rig.world import PROGRAMS, said

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"
ADDRESSES = {"desk": "127.0.0.10", "bento.example.org": "127.0.0.11", "web": "127.0.0.12", "db": "127.0.0.13"}
BLOCK = re.compile(r"(?:<!-- (?P<on>\w+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```\n", re.DOTALL)

# A machine's own /etc, /root, /home and /var/lib. No key of this machine's comes into it.
_FURNISH = """
set -eu
mount -t tmpfs -o mode=755 tmpfs /mnt
tar -C / -cf - etc 2>/dev/null | tar -C /mnt -xf -  # lock files of useradd come and go
rm -f /mnt/etc/ssh/ssh_host_* /mnt/etc/ssh/sshd_config.d/*
mount --bind /mnt/etc /etc
for folder in /root /home /var/lib; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
mkdir /run/sshd /run/stand-in
# in place of systemctl: it only writes down what it was asked
printf '#!/bin/sh\\necho "$*" >>/run/stand-in/asked\\n' >/run/stand-in/systemctl
chmod 755 /run/stand-in/systemctl
printf '%s\\n' "$1" >/etc/hosts
ssh-keygen -q -t ed25519 -N '' -C "root@$2" -f /etc/ssh/ssh_host_ed25519_key
mkdir -m 700 /root/.ssh
cat >/root/.gitconfig <<END
[user]
name = A
email = a@example.org
END
"""

# Until it is gone its port is taken. A zombie has no program.
_STOP_SSHD = """
[ -e /run/sshd.pid ] || exit 0
kill "$(cat /run/sshd.pid)"
while [ -e "/proc/$(cat /run/sshd.pid)/exe" ]; do sleep 0.02; done
rm -f /run/sshd.pid
"""

# A loopback of the tutorial's own: its addresses and ports are as typed.
_NETWORK = """
import fcntl, socket, struct, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up, running
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Block:
    """What is typed on a machine, and the lines that the page says come of it (`…` is anything)."""

    on: str
    typed: str
    shows: tuple[str, ...]


def blocks() -> Iterator[Block]:
    """The tutorial's blocks in their order. Each is typed somewhere; a text belongs to what was typed before it."""
    found = list(BLOCK.finditer(TUTORIAL.read_text()))
    for number, one in enumerate(found):
        if one["kind"] == "sh":
            assert one["on"], f"nobody knows where this is typed: {one['text']}"
            after = found[number + 1] if number + 1 < len(found) else None
            shows = after["text"].splitlines() if after is not None and after["kind"] == "text" else []
            yield Block(one["on"], one["text"], tuple(shows))


def pattern(line: str) -> str:
    """A line of the page as a regular expression: `…` is anything, spaces are as wide as tables make them."""
    return ".*".join(r"\s+".join(map(re.escape, part.split())) for part in line.split("…"))


@pytest.fixture
def network(as_root: None) -> Iterator[Path]:
    """A network namespace with nothing but a loopback; its path."""
    argv = ["unshare", "--net", "/usr/bin/python3", "-c", _NETWORK]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        yield Path(f"/proc/{holder.pid}/ns/net")
        holder.communicate()


@dataclass
class Machines:
    """The four of the tutorial, by name."""

    roots: dict[str, PrivateRoot]
    network: Path

    def type(self, on: str, text: str, timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
        """A shell there, as root's."""
        env = {"HOME": "/root", "PATH": f"/run/stand-in:{PROGRAMS}:/usr/sbin:{self.roots[on].env['PATH']}"}
        argv = ["nsenter", f"--net={self.network}", "--", "bash", "-euo", "pipefail", "-c", text]
        return self.roots[on].run(argv, env=env, cwd=Path("/root"), timeout=timeout)

    def do(self, on: str, text: str) -> str:
        """What it said; it must succeed."""
        done = self.type(on, text)
        assert done.returncode == 0, f"on {on}: {text}\nexit {done.returncode}: {said(done)}"
        return said(done)

    def serve(self, on: str) -> None:
        """Start the machine's sshd with Debian's own settings, or have it read them again."""
        address = ADDRESSES["bento.example.org" if on == "server" else on]
        program = shutil.which("sshd", path="/usr/sbin:/sbin")
        self.do(on, _STOP_SSHD)
        self.do(on, f"{program} -E /run/sshd.log -o ListenAddress={address} -o PidFile=/run/sshd.pid")
        deadline = time.monotonic() + 120
        while self.type(on, "[ -s /run/sshd.pid ]").returncode != 0:
            assert time.monotonic() < deadline, self.do(on, "cat /run/sshd.log")
            time.sleep(0.02)


@pytest.fixture
def machines(make_root: MakeRoot, network: Path, tmp_path: Path) -> Machines:
    """Four machines; from the desk root's ssh reaches the others, and knows their keys."""
    made = Machines({name: make_root(name) for name in ("desk", "server", "web", "db")}, network)
    hosts = "\n".join(f"{address} {name}" for name, address in ADDRESSES.items())
    for name, root in made.roots.items():
        furnished = root.run(["sh", "-c", _FURNISH, "furnish", hosts, name])
        assert furnished.returncode == 0, said(furnished)
    made.do("desk", "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    mine = made.do("desk", "cat ~/.ssh/id_ed25519.pub").strip()
    known = ""
    for name in ("server", "web", "db"):
        made.do(name, f"echo '{mine}' >~/.ssh/authorized_keys")
        made.serve(name)
        key = made.do(name, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub").strip()
        known += f"{'bento.example.org' if name == 'server' else name} {key}\n"
    made.do("desk", f"cat >~/.ssh/known_hosts <<'END'\n{known}END")
    write_flake(tmp_path / "web", {"web": System("welcome")})
    write_configuration(tmp_path / "db", System("database"))
    for name in ("web", "db"):
        made.do(name, f"cp -r {tmp_path / name} /etc/nixos")
    return made


@pytest.mark.timeout(300)
def test_the_tutorial_works_as_typed_and_shows_what_it_says(machines: Machines) -> None:
    for block in blocks():
        output = machines.do(block.on, block.typed)
        if "sshd -t" in block.typed:
            machines.serve("server")
        for line in block.shows:
            assert re.search(pattern(line), output), f"'{line}' isn't what came of:\n{block.typed}\n{output}"
    restarts = [line for line in machines.do("web", "cat /run/stand-in/asked").splitlines() if "app.service" in line]
    assert restarts
    assert set(restarts) == {"try-restart -- app.service"}
    assert machines.roots["web"].link("/run/current-system") == machines.roots["web"].profile()
