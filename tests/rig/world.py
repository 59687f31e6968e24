"""A whole fleet on one machine: an admin, a real sshd, and hosts, each with a private /nix, /run and state."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bento.demo.systems import System, write_configuration, write_flake
from rig.keys import make_ssh_key
from rig.root import PrivateRoot
from rig.sshd import Sshd

PROGRAMS = Path(sys.executable).parent  # where the tests' bento and bento-agent lie


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a command printed, both streams, for an assertion's message."""
    return (done.stdout + done.stderr).decode(errors="replace")


@dataclass
class Machine:
    """One host: `word` is its name in the test, `name` its system user and name in the fleet."""

    word: str
    name: str
    root: PrivateRoot
    folder: Path
    source: Path
    kind: str

    @property
    def config(self) -> Path:
        """Its agent.toml."""
        return self.folder / "agent.toml"

    @property
    def state(self) -> Path:
        """Its /var/lib/bento."""
        return self.folder / "state"

    def write(self, system: System) -> None:
        """Its configuration in the fleet."""
        self.source.mkdir(parents=True, exist_ok=True)
        if self.kind == "flake":
            write_flake(self.source, {self.name: system})
        else:
            write_configuration(self.source, system)

    def agent(
        self, *args: str, timeout: float = 200, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run bento-agent on it."""
        argv = [PROGRAMS / "bento-agent", "--debug", "--config", self.config, *args]
        return self.root.run(argv, timeout=timeout, env=env)

    def run(self, code: int = 0) -> str:
        """`bento-agent run`, which must exit with `code`; what it said."""
        done = self.agent("run")
        assert done.returncode == code, f"exit {done.returncode}: {said(done)}"
        return said(done)

    def secret(self, name: str) -> bytes | None:
        """A live secret's content, as a service on the host reads it."""
        done = self.root.run(["cat", f"/run/bento/secrets/{name}"])
        return done.stdout if done.returncode == 0 else None

    def facts(self) -> dict[str, Any]:
        """`bento-agent status --json`."""
        facts: dict[str, Any] = json.loads(self.agent("status", "--json").stdout)
        return facts

    def restarts(self) -> list[str]:
        """What was asked of the recorder that stands in for systemctl."""
        record = self.folder / "systemctl.log"
        return record.read_text().splitlines() if record.exists() else []


@dataclass
class World:
    """The fleet and everything around it."""

    folder: Path
    admin: PrivateRoot
    sshd: Sshd
    make_root: Callable[[str], PrivateRoot]
    host_user: Callable[[str], str]
    machines: dict[str, Machine] = field(default_factory=dict)

    @property
    def fleet(self) -> Path:
        """The fleet folder."""
        return self.folder / "fleet"

    def init(self) -> None:
        """`bento init`."""
        make_ssh_key(self.folder / "signing", comment="admin")
        self.bento(
            *("init", str(self.fleet), "--fleet", "acme", "--publish-to", str(self.sshd.publish)),
            *("--address", self.sshd.address, "--port", str(self.sshd.port)),
            *("--server-key", self.sshd.host_key_line, "--signing-key", str(self.folder / "signing")),
            cwd=self.folder,
        )

    def try_bento(
        self, *args: str, stdin: bytes = b"", cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run bento on the admin's machine."""
        argv = [PROGRAMS / "bento", "--debug", *args]
        return self.admin.run(argv, stdin=stdin, cwd=cwd or self.fleet, timeout=200, env=env)

    def bento(self, *args: str, stdin: bytes = b"", code: int = 0, cwd: Path | None = None) -> str:
        """Run bento, which must exit with `code`; its stdout."""
        done = self.try_bento(*args, stdin=stdin, cwd=cwd)
        assert done.returncode == code, f"bento {' '.join(args)}: exit {done.returncode}: {said(done)}"
        return done.stdout.decode()

    def add(self, word: str, kind: str = "flake", system: System | None = None, tags: tuple[str, ...] = ()) -> Machine:
        """A new host in the fleet, with an account, a key and an agent."""
        name = self.host_user(word)
        folder = self.folder / f"host-{word}"
        folder.mkdir()
        key = make_ssh_key(folder / "key", comment=f"root@{name}")
        machine = Machine(word, name, self.make_root(word), folder, self.fleet / "hosts" / name, kind)
        self.sshd.add_host(name, [key.line], folders=False)
        self.bento("host", "add", name, "--key-file", str(folder / "key.pub"), *(f"--tag={tag}" for tag in tags))
        machine.write(system or System())
        recorder = folder / "systemctl"
        recorder.write_text(f'#!/bin/sh\necho "$*" >>{folder}/systemctl.log\n')
        recorder.chmod(0o755)
        self.write_agent(machine)
        self.machines[word] = machine
        return machine

    def write_agent(self, machine: Machine, confirm: int = 60) -> None:
        """The host's agent.toml, and the trust file as its configuration would bring it.

        `confirm`: seconds in which the server, or the admin, has to be there after a switch; few, where they aren't.
        """
        shutil.copy(self.fleet / "utils/trust.toml", machine.folder / "trust.toml")
        machine.config.write_text(
            f"""\
host = "{machine.name}"
identities = ["{machine.folder}/key"]
trust = "{machine.folder}/trust.toml"
[paths]
state = "{machine.state}"
[confirm]
timeout = {confirm}
[notice]
desktop = "off"
[systemd]
command = ["{machine.folder}/systemctl"]
"""
        )

    def status(self, machine: Machine) -> dict[str, Any]:
        """One host's row of `bento status --json`."""
        rows: list[dict[str, Any]] = json.loads(self.bento("status", "--json", "--on", machine.name))
        return rows[0]

    def manifest(self, machine: Machine) -> Path:
        """Where its published manifest lies."""
        return self.sshd.publish / machine.name / "release" / "manifest"

    def report(self, machine: Machine) -> dict[str, Any]:
        """Its newest report on the server."""
        newest = max((self.sshd.publish / machine.name / "reports").glob("*.report"))
        report: dict[str, Any] = json.loads(newest.read_bytes().split(b"\n")[0])
        return report
