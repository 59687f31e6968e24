"""A host that its admin reaches over ssh as root: a real sshd inside the host's private root, on loopback."""

import shlex
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.keys import make_ssh_key
from rig.ports import free_port
from rig.world import PROGRAMS, Machine

_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/admin.pub
AuthenticationMethods publickey
UsePAM no
UseDNS no
StrictModes no
PermitRootLogin prohibit-password
SetEnv PATH={path} NIX_CONF_DIR={folder}
"""


class RemoteHost:
    """`options` is what NIX_SSHOPTS must say; `agent` a program on the host that calls its agent."""

    def __init__(self, machine: Machine, address: str = "127.0.0.1") -> None:
        self.machine = machine
        self.folder = machine.folder / "ssh"
        self.folder.mkdir()
        make_ssh_key(self.folder / "host_key")
        make_ssh_key(self.folder / "admin", comment="admin")
        env = machine.root.env
        (self.folder / "nix.conf").write_text(env["NIX_CONFIG"])
        self.port = free_port(address)
        line = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        (self.folder / "known_hosts").write_text(f"[{address}]:{self.port} {line}\n")
        (self.folder / "sshd_config").write_text(
            _CONFIG.format(port=self.port, address=address, folder=self.folder, path=env["PATH"].replace(" ", ""))
        )
        self.options = (
            f"-F none -p {self.port} -i {self.folder}/admin -o UserKnownHostsFile={self.folder}/known_hosts "
            "-o GlobalKnownHostsFile=none -o BatchMode=yes"
        )
        self.agent = self.folder / "agent"
        self.write_agent()
        self._process: subprocess.Popen[bytes] | None = None

    def write_agent(self, before: str = "") -> None:
        """The program: a shell script that does `before`, then becomes bento-agent with this host's settings."""
        env = " ".join(f"{key}={shlex.quote(value)}" for key, value in self.machine.root.env.items())
        self.agent.write_text(
            f'#!/bin/sh\n{before}\nexec env {env} {PROGRAMS}/bento-agent --config {self.machine.config} "$@"\n'
        )
        self.agent.chmod(0o755)

    def __enter__(self) -> Self:
        program = shutil.which("sshd", path="/usr/sbin:/sbin")
        assert program is not None, "there is no sshd: install openssh-server"
        self.machine.root.run(["mkdir", "-p", "/run/sshd"], check=True)
        self._log = (self.folder / "log").open("wb")
        self._process = self.machine.root.popen(
            [program, "-D", "-e", "-f", self.folder / "sshd_config"], stdout=self._log, stderr=self._log
        )
        deadline = time.monotonic() + 120
        while b"listening on" not in self.log.read_bytes():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def log(self) -> Path:
        """What sshd says."""
        return self.folder / "log"
