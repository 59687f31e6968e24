"""One host in the test's own process: its state, its tmpfs, its secrets and a real server are real.

Its systems are folders with a switch-to-configuration each, and `nix-env` is a stand-in that moves the profile's link:
so a test can stop the agent's own code at any of its system calls.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from unit.samples import manifest, secret

from bento.agent.host import Host, open_host
from bento.agent.install import flip, link, open_generation
from bento.core.journal import Journal, Point
from bento.core.trust_rules import Floor
from bento.models.agent_settings import read_agent_settings
from bento.models.manifest import Manifest, Settings
from bento.models.signed import sha256
from bento.names import HostName, Serial
from bento_secrets.identities import load_ssh_identity
from bento_secrets.runtime import Runtime
from bento_secrets.sealing import Plaintext, seal
from rig.keys import make_ssh_key
from rig.sshd import Sshd
from rig.world import PROGRAMS

_ARMOUR = b"-----BEGIN SSH SIGNATURE-----\nQQ==\n-----END SSH SIGNATURE-----\n"

# What each system does when asked; `actions` holds what was asked. A fault is a piece of shell, run before or after.
_SWITCH = """\
#!/bin/sh
echo "$1 {name}" >>{folder}/actions
[ ! -e {folder}/fault-before-{name}-$1 ] || . {folder}/fault-before-{name}-$1
case $1 in
test) ln -sfn {folder}/systems/{name} {folder}/current-system ;;
boot) readlink {folder}/profile >{folder}/default ;;
esac
[ ! -e {folder}/fault-after-{name}-$1 ] || . {folder}/fault-after-{name}-$1
"""
# systemd's part: `failed` and `busy` are files that say what it would.
_SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>{folder}/asked
case $1 in
list-units) cat {folder}/failed 2>/dev/null || true ;;
show) [ ! -e {folder}/busy ] || echo activating ;;
esac
"""
_SYSTEMD_RUN = """\
#!/bin/sh
echo "run $*" >>{folder}/asked
case "$*" in *--on-active*) exit 0 ;; esac
[ ! -e {folder}/busy ] || exit 1
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
_NIX_ENV = """\
#!/bin/sh
ln -sfn "$4" "$2"
"""


class LoneHost:
    """A host with two releases: 1, of the system `old`, is installed; 2, of `new`, may be taken. See `fresh`."""

    def __init__(self, folder: Path, name: str, sshd: Sshd) -> None:
        self.folder, self.name, self._sshd = folder, HostName(name), sshd
        self.key = make_ssh_key(folder / "key", comment=f"root@{name}")
        sshd.add_host(name, [self.key.line])
        manifest = sshd.publish / name / "release/manifest"
        manifest.write_bytes(b"only its being there counts\n")
        (folder / "bin").mkdir()
        self._script("bin/nix-env", _NIX_ENV)
        for system in ("old", "new"):
            (folder / "systems" / system / "bin").mkdir(parents=True)
            self._script(f"systems/{system}/bin/switch-to-configuration", _SWITCH.format(folder=folder, name=system))
        self._script("bin/systemctl", _SYSTEMCTL.format(folder=folder))
        self._script("bin/shutdown", f'#!/bin/sh\necho "shutdown $*" >>{folder}/asked\n')
        self._script("bin/systemd-run", _SYSTEMD_RUN.format(folder=folder))
        self.runtime = Runtime(folder / "run")
        self.timeout, self.deadline = 1, 600
        self.desktop = "off"
        self.settings: dict[str, Any] = {}  # what the admin asks, in both releases
        self.config: dict[str, Any] = {"kind": "channel", "attribute": None}
        self.confirm = ""  # further lines of that table
        self.systemd = f'[systemd]\ncommand = ["{folder}/bin/systemctl"]\nrun = ["{folder}/bin/systemd-run"]'
        self.said: list[str] = []

    @property
    def command(self) -> tuple[str, ...]:
        """How its agent is called."""
        return (str(PROGRAMS / "bento-agent"), "--config", str(self.folder / "agent.toml"))

    def _script(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def system(self, word: str) -> str:
        """The path of `old` or `new`."""
        return str(self.folder / "systems" / word)

    def host(self) -> Host:
        """What the agent's steps get."""
        (self.folder / "trust.toml").write_text(
            f"""\
format = 1
fleet = "acme"
signers = ["{self._sshd.host_key_line}"]
[[servers]]
address = "{self._sshd.address}"
port = {self._sshd.port}
host_keys = ["{self._sshd.host_key_line}"]
"""
        )
        (self.folder / "agent.toml").write_text(
            f"""\
host = "{self.name}"
identities = ["{self.folder}/key"]
trust = "{self.folder}/trust.toml"
[notice]
desktop = "{self.desktop}"
[paths]
state = "{self.folder}/state"
runtime = "{self.folder}/run"
profile = "{self.folder}/profile"
current_system = "{self.folder}/current-system"
boot = "{self.folder}/boot"
booted_system = "{self.folder}/booted-system"
[confirm]
timeout = {self.timeout}
deadline = {self.deadline}
{self.confirm}
{self.systemd}
"""
        )
        settings = read_agent_settings(self.folder / "agent.toml")
        return open_host(settings, lambda: 1_700_000_000, self.said.append, self.command)

    @contextmanager
    def mounted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """With its tmpfs, and its stand-in for Nix on the PATH."""
        monkeypatch.setenv("PATH", f"{self.folder}/bin:{os.environ['PATH']}")
        self.runtime.ensure(1 << 20)
        try:
            yield
        finally:
            subprocess.run(["umount", str(self.runtime.root)], check=True)

    def fresh(self, releases: Mapping[int, Mapping[str, Any]] | None = None) -> Host:
        """As after a first release, with the second accepted and fetched. `releases`: changes to their secret."""
        for path in (
            "state",
            "default",
            "actions",
            "asked",
            "failed",
            "busy",
            "boot",
            "booted-system",
            "current-system",
            "profile",
        ):
            place = self.folder / path
            if place.is_symlink() or place.is_file():
                place.unlink()
            elif place.exists():
                shutil.rmtree(place)
        for fault in self.folder.glob("fault-*"):
            fault.unlink()
        for left in self.runtime.root.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        host = self.host()
        manifests = {serial: self._store(host, serial, **(releases or {}).get(serial, {})) for serial in (1, 2)}
        for link_name in ("current-system", "profile"):
            (self.folder / link_name).symlink_to(self.system("old"))
        (self.folder / "default").write_text(self.system("old") + "\n")
        open_generation(host, manifests[1])
        flip(host, Serial(1))
        link(host, Serial(1))
        first = Point(self.system("old"), Serial(1))
        host.state.write_journal(Journal(committed=first, systems={self.system("old"): Serial(1)}))
        host.state.write_floor(Floor(Serial(2), sha256(manifests[2].line), "accepted"))
        return host

    def _store(self, host: Host, serial: int, **changes: Any) -> Manifest:
        sealed = seal(Plaintext(f"content {serial}".encode()), [load_ssh_identity(self.key.path).recipient])
        digest = sha256(sealed)
        (host.state.objects / digest).write_bytes(sealed)
        ref = secret("token", digest=digest, size=len(sealed), **changes)
        config = manifest().config.model_copy(update=self.config)
        made = manifest(
            serial, host=self.name, system=None, secrets=(ref,), config=config, settings=Settings(**self.settings)
        )
        host.state.keep_manifest(made.serial, made.line + _ARMOUR)
        return made

    def default(self) -> str:
        """The system that a reboot would start."""
        return (self.folder / "default").read_text().strip()

    def actions(self) -> list[str]:
        """What systems were asked to do."""
        path = self.folder / "actions"
        return path.read_text().splitlines() if path.exists() else []

    def fault(self, system: str, action: str, shell: str, *, when: str = "before") -> None:
        """Have `system` run a piece of shell before or after its `test` or `boot`, until the next `fresh`."""
        (self.folder / f"fault-{when}-{system}-{action}").write_text(shell + "\n")

    def refuse(self, system: str, action: str) -> None:
        """Let `system` fail at `test` or `boot` with nothing done, until `mend` or the next `fresh`."""
        self.fault(system, action, "exit 1")

    def mend(self, system: str, action: str) -> None:
        """Undo `refuse`."""
        (self.folder / f"fault-before-{system}-{action}").unlink()

    def asked(self) -> list[str]:
        """What was asked of systemd."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def content(self) -> bytes:
        """The live secret."""
        return (self.runtime.secrets / "token").read_bytes()
