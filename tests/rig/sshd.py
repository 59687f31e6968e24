"""Debian's OpenSSH server on loopback, with a chrooted account per host, as a fleet's server has them."""

import grp
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.keys import make_ssh_key
from rig.ports import free_port

_FIRST = 300_000  # the first uid of accounts that only sshd knows
_TRIES = 5  # for a port: another session may take a free one before sshd does

# sshd refuses chroots and key files below a folder that others may write to, as /tmp is. So it gets its own /run, and
# in it the test's folders. Its own PID namespace ends the open sessions with it, as a power cut of the server would.
_START = """
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd /run/rig /run/publish
mount --bind "$1" /run/rig
mount --bind "$2" /run/publish
# Not over the files themselves: useradd of another test puts new ones in their place, and the mounts would be gone.
if test -e "$1/passwd"; then
    tar -C / -cf - etc 2>/dev/null | tar -C /run -xf -  # lock files of useradd come and go
    cp "$1/passwd" "$1/group" /run/etc
    mount --bind /run/etc /etc
fi
exec "$3" -D -e -f /run/rig/sshd_config
"""

_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey /run/rig/host_key
PidFile none
AuthorizedKeysFile /run/rig/authorized/%u
AuthenticationMethods publickey
UsePAM no
UseDNS no
StrictModes yes
PermitRootLogin no
MaxStartups {startups}
LogLevel VERBOSE
Subsystem sftp internal-sftp
ChrootDirectory /run/publish/%u
ForceCommand internal-sftp
DisableForwarding yes
PermitTTY no
"""
# Who publishes sees the hosts' folders from outside their chroots, and needs no root.
_PUBLISHER = """Match User {user}
ChrootDirectory none
"""
INSIDE = "/run/publish"  # the publish folder as a publisher sees it


class Sshd:
    """A running sshd. `folder` holds its keys, configuration and log; `publish` the hosts' chroots.

    It listens on loopback, or on `address` in the network namespace of the file `net`. `accounts`: users that only this
    sshd knows, each with a group of its own name; for fleets of many hosts.
    """

    def __init__(
        self,
        folder: Path,
        publish: Path,
        address: str = "127.0.0.1",
        net: Path | None = None,
        accounts: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.publish = publish
        self.address = address
        self._enter = [] if net is None else ["nsenter", f"--net={net}", "--"]
        self.port = 0
        self.startups = 200  # logins that it takes at once, from the next start on
        self.log = folder / "log"
        for path in (folder, publish, folder / "authorized"):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)
        self._key = make_ssh_key(folder / "host_key", comment="server")
        self._process: subprocess.Popen[bytes] | None = None
        self._publisher: str | None = None
        self._groups = {name: _FIRST + number for number, name in enumerate(accounts)}
        if accounts:
            users = [f"{name}:*:{one}:{one}::/nonexistent:/usr/sbin/nologin\n" for name, one in self._groups.items()]
            groups = [f"{name}:*:{one}:\n" for name, one in self._groups.items()]
            for file, lines in (("passwd", users), ("group", groups)):
                (folder / file).write_text(Path("/etc", file).read_text() + "".join(lines))
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The listening sshd's process, whose children are the sessions. Only while it runs."""
        if self._process is None:
            raise RuntimeError("sshd is stopped")
        return int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text())

    @property
    def host_key_line(self) -> str:
        """The server's public key as `ssh-ed25519 AAAA…`: what hosts pin."""
        return " ".join(self._key.line.split()[:2])

    def add_host(self, name: str, public_key_lines: Iterable[str], *, folders: bool = True) -> Path:
        """Let the system user `name` in with these keys; returns its chroot. Again for a host: replaces its keys.

        Without `folders`, its chroot is left for the publisher to make.
        """
        keys = self.folder / "authorized" / name
        keys.write_text("".join(f"{line}\n" for line in public_key_lines))
        keys.chmod(0o644)
        chroot = self.publish / name
        if folders:
            (chroot / "release").mkdir(parents=True, exist_ok=True)
            (chroot / "reports").mkdir(exist_ok=True)
            group = self._groups[name] if name in self._groups else grp.getgrnam(name).gr_gid
            os.chown(chroot / "reports", 0, group)
            for path, mode in ((chroot, 0o755), (chroot / "release", 0o755), (chroot / "reports", 0o2770)):
                path.chmod(mode)
        return chroot

    def add_publisher(self, name: str, public_key_lines: Iterable[str]) -> str:
        """Let the system user `name` publish by SFTP, after a restart; the URL to publish to."""
        keys = self.folder / "authorized" / name
        keys.write_text("".join(f"{line}\n" for line in public_key_lines))
        keys.chmod(0o644)
        own = self.publish / ".publisher"
        own.mkdir(exist_ok=True)
        own.chmod(0o700)
        shutil.chown(own, self._id(name), self._id(name))
        self._publisher = name
        self.restart()
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"sftp://{name}@{address}:{self.port}{INSIDE}"

    def give_host(self, name: str, publisher: str, group: str | None = None) -> None:
        """What root does once on the server for a host: its folders, `release` the publisher's, `reports` both's."""
        for path, owner, owners, mode in (
            (self.publish / name, "root", "root", 0o755),
            (self.publish / name / "release", self._id(publisher), self._id(publisher), 0o755),
            (self.publish / name / "reports", self._id(publisher), self._id(group or name), 0o2770),
        ):
            path.mkdir(exist_ok=True)
            shutil.chown(path, owner, owners)
            path.chmod(mode)

    def _id(self, name: str) -> str | int:
        """Of a user and his group: a number where only this sshd knows the name."""
        return self._groups.get(name, name)

    def remove_host(self, name: str) -> None:
        """Let the host in no more; its chroot stays."""
        (self.folder / "authorized" / name).unlink()

    def start(self) -> None:
        """Listen; after `stop`, on the same port again. Raises RuntimeError with sshd's log where it can't."""
        for _ in range(_TRIES if self.port == 0 else 1):
            port = self.port or free_port("127.0.0.1" if self._enter else self.address)
            if self._try(port):
                self.port = port
                return
        raise RuntimeError(f"sshd doesn't start: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Go away, with every open session."""
        if self._process is not None:
            _kill(self._process)
            self._process = None

    def restart(self, *, new_host_key: bool = False) -> None:
        """Stop and start on the same port, with another host key if asked."""
        self.stop()
        if new_host_key:
            (self.folder / "host_key").unlink()
            (self.folder / "host_key.pub").unlink()
            self._key = make_ssh_key(self.folder / "host_key", comment="another server")
        self.start()

    def _try(self, port: int) -> bool:
        publisher = "" if self._publisher is None else _PUBLISHER.format(user=self._publisher)
        (self.folder / "sshd_config").write_text(
            _CONFIG.format(address=self.address, port=port, startups=self.startups) + publisher
        )
        program = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ["PATH"])
        if program is None:
            raise RuntimeError("there is no sshd: install openssh-server")
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*self._enter, *unshare, "sh", "-c", _START, "sshd", str(self.folder), str(self.publish), program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if f"listening on {self.address} port {port}.".encode() in self.log.read_bytes()[before:]:
                self._process = process
                return True
            time.sleep(0.01)
        _kill(process)
        return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End sshd, the first process of its PID namespace, and so all in it; `unshare`, its parent, follows."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for child in children.read_text().split() if children.exists() else ():
        with suppress(ProcessLookupError):  # a test has killed it, and it goes just now
            os.kill(int(child), signal.SIGKILL)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
