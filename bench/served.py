"""A fleet with a real sshd, where every host has an account and a chroot of its own. Needs root."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fleet import DeployWorld
from worlds import new_key

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from rig.sshd import Sshd


class ServedWorld(DeployWorld):
    """A fleet that is published to a folder, and the sshd that serves it. Use as a context, which ends the sshd."""

    accounts = False  # they are the sshd's own

    def __init__(self, folder: Path, hosts: int, others: Sequence[str] = ()) -> None:
        super().__init__(folder, hosts)
        self.names = tuple(f"host-{number}" for number in range(hosts))
        self.sshd = Sshd(folder / "sshd", self.published, accounts=(*self.names, *others))
        (folder / "keys").mkdir()
        trust = self.fleet / "utils/trust.toml"
        signers = trust.read_text().partition("[[servers]]")[0]
        trust.write_text(
            f'{signers}[[servers]]\naddress = "{self.sshd.address}"\nport = {self.sshd.port}\n'
            f'host_keys = ["{self.sshd.host_key_line}"]\n'
        )
        settings = [f'[publish]\nto = "{self.published}"\n[signing]\nkeys = ["{folder / "sign"}"]\n']
        for name in self.names:
            private, line = new_key()
            key = self.key(name)
            key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            key.chmod(0o600)
            key.with_suffix(".pub").write_text(f"{line}\n")
            self.sshd.add_host(name, [line])
            settings.append(f'[hosts.{name}]\nkeys = ["{line}"]\n')
        (self.fleet / "bento.toml").write_text("".join(settings))

    def __enter__(self) -> "ServedWorld":
        return self

    def __exit__(self, *_: object) -> None:
        self.sshd.stop()

    def key(self, host: str) -> Path:
        """A host's private key."""
        return self.folder / "keys" / host

    def sessions(self) -> int:
        """How many sessions sshd has open or hasn't reaped yet."""
        return len(Path(f"/proc/{self.sshd.pid}/task/{self.sshd.pid}/children").read_text().split())

    def cpu(self) -> float:
        """Seconds of processor time that sshd and all its ended sessions have used; in steps of 10 ms."""
        fields = Path(f"/proc/{self.sshd.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def manifest(self, host: str) -> bytes:
        """What is published for a host."""
        return (self.published / host / "release/manifest").read_bytes()

    def serial(self, host: str) -> int:
        """The serial of what is published."""
        return int(json.loads(self.manifest(host).partition(b"\n")[0])["serial"])
