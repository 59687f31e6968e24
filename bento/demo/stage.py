"""The demo's stage: one admin's machine, two hosts, the server between them, all in one temporary folder."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bento.adapters.process import Done, run
from bento.demo.machine import HOME, Machine
from bento.demo.screen import Screen, as_typed
from bento.demo.server import serving
from bento.demo.systems import SWITCH_LOG, write_channel
from bento.errors import EnvironmentFailed, WorkFailed
from bento_secrets.ssh_keys import SshPublicKey

HOSTS = ("alpha", "beta")
FLEET = HOME / "acme"
PUBLISH = HOME / "chroot"
RECORD = "systemctl.log"

_RECORDER = f'#!/bin/sh\necho "$*" >>{HOME}/{RECORD}\n'


def _agent_toml(host: str) -> str:
    return f"""\
host = "{host}"
identities = ["{HOME}/host_key"]
trust = "{HOME}/trust.toml"
[paths]
state = "{HOME}/state"
[confirm]
timeout = 10
[systemd]
command = ["{HOME}/systemctl"]
"""


@dataclass(frozen=True)
class Stage:
    """Machines to type on. `server_key` is the server's public key as one line."""

    folder: Path
    screen: Screen
    admin: Machine
    hosts: Mapping[str, Machine]
    port: int
    server_key: str

    @property
    def fleet(self) -> Path:
        """The fleet folder, seen from outside."""
        return self.admin.home / "acme"

    @property
    def publish(self) -> Path:
        """The publish folder, seen from outside."""
        return self.admin.home / "chroot"

    def type(
        self,
        machine: Machine,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        cwd: Path = HOME,
        then: str = "",
        code: int = 0,
    ) -> str:
        """Type a command, show what it answers, and return that. Raises WorkFailed unless it exits with `code`."""
        self.screen.typed(machine.name, as_typed(argv), then)
        return self._answer(machine, machine.run(argv, stdin=stdin, cwd=cwd), code)

    def shell(self, machine: Machine, line: str, cwd: Path) -> str:
        """Type a line that only bash understands."""
        self.screen.typed(machine.name, line)
        return self._answer(machine, machine.run(["bash", "-c", line], cwd=cwd))

    def _answer(self, machine: Machine, done: Done, code: int = 0) -> str:
        said = (done.err + done.out).decode("utf-8", "replace")
        self.screen.answer(said)
        if done.code != code:
            raise WorkFailed(
                f"the demo stopped: the last command, on {machine.name}, ended with exit {done.code}",
                "keep its folder, and look: bento demo --keep",
            )
        return said

    def bento(self, *argv: str, stdin: bytes | None = None, then: str = "") -> str:
        """Type a bento command in the fleet folder."""
        return self.type(self.admin, ["bento", *argv], stdin=stdin, cwd=FLEET, then=then)

    def agent(self, host: str, *argv: str, code: int = 0) -> str:
        """Type a bento-agent command on a host."""
        return self.type(self.hosts[host], ["bento-agent", "--config", "agent.toml", *argv], code=code)

    def ask(self, *argv: str) -> Any:
        """What a bento command with --json says, without showing it."""
        return json.loads(self.admin.run(["bento", *argv, "--json"], cwd=FLEET).out)

    def recorded(self, host: str) -> tuple[str, ...]:
        """What was asked of the recorder in systemctl's place."""
        record = self.hosts[host].home / RECORD
        return tuple(record.read_text("utf-8").splitlines()) if record.exists() else ()

    def switches(self, host: str) -> tuple[str, ...]:
        """Every call of a system's switch-to-configuration so far."""
        log = self.hosts[host].folder / SWITCH_LOG.relative_to("/")
        return tuple(log.read_text("utf-8").splitlines()) if log.exists() else ()

    def equip_hosts(self) -> None:
        """Give each host what its NixOS configuration would: the agent's settings and the trust file."""
        for name, machine in self.hosts.items():
            shutil.copy(self.fleet / "utils/trust.toml", machine.home / "trust.toml")
            (machine.home / "agent.toml").write_text(_agent_toml(name), "utf-8")
            recorder = machine.home / "systemctl"
            recorder.write_text(_RECORDER, "utf-8")
            recorder.chmod(0o755)


@contextmanager
def temporary_folder(*, keep: bool) -> Iterator[Path]:
    """A folder for everything the demo makes, 0700, removed in the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="bento-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder)


def set_stage(stack: ExitStack, folder: Path, path: str, screen: Screen) -> Stage:
    """Start the machines and the server; `stack` ends them. Raises EnvironmentFailed. `path` is the machines' PATH."""
    write_channel(folder / "nixpkgs")
    server_key = _make_key(folder / "server_key", "server")
    admin, *others = (
        stack.enter_context(Machine(name, folder / name, path, folder / "nixpkgs")) for name in ("admin", *HOSTS)
    )
    hosts = {machine.name: machine for machine in others}
    keys = {name: (_make_key(machine.home / "host_key", f"root@{name}"),) for name, machine in hosts.items()}
    for name, machine in hosts.items():
        shutil.copy(machine.home / "host_key.pub", admin.home / f"{name}.pub")
    publish = admin.home / PUBLISH.relative_to(HOME)
    publish.mkdir()
    server = stack.enter_context(serving(publish, keys, folder / "server_key"))
    return Stage(folder, screen, admin, hosts, server.port, server_key.line)


def _make_key(path: Path, comment: str) -> SshPublicKey:
    done = run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    if done.code != 0:
        raise EnvironmentFailed(f"can't make a key: {done.words()}", "see whether the disk is full: df -h /tmp")
    return SshPublicKey.parse(path.with_name(f"{path.name}.pub").read_text("utf-8"))
