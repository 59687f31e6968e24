"""The fleets and the host that the measures work on, made anew in a folder of their own."""

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bento_secrets.store import SecretStore

SIZE = 1024  # bytes of each secret


def new_key() -> tuple[Ed25519PrivateKey, str]:
    """A host's key, and its public line."""
    private = Ed25519PrivateKey.generate()
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + private.public_key().public_bytes_raw()
    return private, f"ssh-ed25519 {base64.b64encode(blob).decode()} host"


class FleetWorld:
    """A fleet of `count` hosts with the tag `all`, and files to add; its admin is `identity`.

    `keys` has a line `HOST KEY` for each host.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.fleet = folder / "fleet"
        self.identity = folder / "identity"
        self.keys = folder / "keys"
        self._lines = {f"host-{number}": new_key()[1] for number in range(count)}
        admin = pyrage.x25519.Identity.generate()
        self.admins = [str(admin.to_public())]
        (self.fleet / "utils").mkdir(parents=True)
        self.identity.write_text(f"{admin}\n")
        self.keys.write_text("".join(f"{host} {line}\n" for host, line in self._lines.items()))
        self.write_settings()
        SecretStore(self.fleet / "secrets").create()

    @property
    def lines(self) -> Sequence[str]:
        """The hosts' public keys."""
        return list(self._lines.values())

    def write_settings(self) -> None:
        """bento.toml."""
        hosts = "".join(f'[hosts.{host}]\nkeys = ["{line}"]\ntags = ["all"]\n' for host, line in self._lines.items())
        admins = ", ".join(f'"{admin}"' for admin in self.admins)
        (self.fleet / "bento.toml").write_text(
            f'[publish]\nto = "/srv"\n[signing]\nkeys = ["k"]\n[secrets]\nadmins = [{admins}]\n{hosts}'
        )

    def new_admin(self) -> None:
        """One more, to whom nothing is sealed yet."""
        self.admins.append(str(pyrage.x25519.Identity.generate().to_public()))
        self.write_settings()

    def files(self, count: int) -> Path:
        """A folder of random files, to be added as secrets."""
        folder = self.folder / "files"
        folder.mkdir()
        for number in range(count):
            (folder / f"secret-{number}").write_bytes(os.urandom(SIZE))
        return folder


class HostWorld:
    """A host that has fetched a release of `count` secrets, as `install-secrets` finds it. `identity` is for age."""

    def __init__(self, folder: Path, count: int) -> None:
        # Imported here: what the measures import counts into their children's memory.
        from bento.agent.state import State
        from bento.core.journal import Journal, Point
        from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings
        from bento.models.signed import sha256
        from bento.names import Digest, HostName, SecretName, Serial
        from bento_secrets.recipients import Recipient
        from bento_secrets.ssh_keys import SshPublicKey

        self.settings, self.objects = folder / "agent.toml", folder / "state/objects"
        self.identity, self.runtime = folder / "identity", folder / "run"
        private, line = new_key()
        key = folder / "key"
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        key.chmod(0o600)
        seed = private.private_bytes_raw()
        self.identity.write_text(_identity(hashlib.sha512(seed).digest()[:32]))
        recipient = Recipient.of_host_key(SshPublicKey.parse(line)).text
        (folder / "trust.toml").write_text(
            f'format = 1\nfleet = "acme"\nsigners = ["{line}"]\n'
            f'[[servers]]\naddress = "localhost"\nhost_keys = ["{line}"]\n'
        )
        self.settings.write_text(
            f'host = "web"\nidentities = ["{key}"]\ntrust = "{folder}/trust.toml"\n'
            f'[paths]\nstate = "{folder}/state"\nruntime = "{self.runtime}"\ncurrent_system = "{folder}/system"\n'
        )
        self.runtime.mkdir()
        state = State(folder / "state")
        state.prepare()
        refs = []
        native = pyrage.x25519.Recipient.from_str(recipient)
        for number in range(count):
            sealed = pyrage.encrypt(os.urandom(SIZE), [native])
            digest = sha256(sealed)
            (self.objects / digest).write_bytes(sealed)
            refs.append(
                SecretRef(
                    name=SecretName(f"secret-{number}"), digest=digest, size=len(sealed), recipient=recipient,
                    owner="root", group="root", mode="0400", path=None, restart=(), reload=(),
                )
            )  # fmt: skip
        config = ConfigRef(digest=Digest("0" * 64), size=1, kind="flake", attribute="web")
        manifest = Manifest(
            fleet="acme", host=HostName("web"), serial=Serial(1), created=1, previous=None, config=config,
            system=None, secrets=tuple(refs), settings=Settings(),
        )  # fmt: skip
        armour = b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"
        state.keep_manifest(Serial(1), manifest.line + armour)
        state.write_journal(Journal(committed=Point(None, Serial(1))))


def _identity(private: bytes) -> str:
    from bento_secrets import bech32

    return bech32.encode("age-secret-key-", private).upper() + "\n"
