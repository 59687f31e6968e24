"""Open a release's secrets into a generation on tmpfs, and flip between generations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bento.adapters.files import read_capped
from bento.adapters.systemd import Units
from bento.agent.host import Host
from bento.errors import BentoError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.signed import sha256
from bento.names import Serial
from bento_secrets.runtime import Installed

if TYPE_CHECKING:  # pydantic stays out of the agent's poll path (docs/decisions/0002)
    from bento.models.manifest import Manifest


def stored_manifest(host: Host, serial: Serial) -> "Manifest":
    """A release that this host accepted, and verified then; signers may have changed since. Raises Damaged."""
    from bento.models.manifest import parse_manifest

    return parse_manifest(host.state.manifest_line(serial))


def installed(manifest: "Manifest") -> tuple[Installed, ...]:
    """The release's secrets as the secrets module installs them."""
    return tuple(
        Installed(
            name=secret.name,
            owner=secret.owner,
            group=secret.group,
            mode=secret.mode,
            path=secret.path,
            restart=secret.restart,
            reload=secret.reload,
            digest=secret.digest,
        )
        for secret in manifest.secrets
    )


def open_generation(host: Host, manifest: "Manifest") -> None:
    """Open every secret of a release into its generation, all or nothing; the live link stays. Raises WorkFailed."""
    from bento_secrets.identities import Identity, load_ssh_identity
    from bento_secrets.sealing import Plaintext, open_sealed

    identities: list[Identity] = [load_ssh_identity(path) for path in host.settings.identities]
    opened: list[tuple[Installed, Plaintext]] = []
    for item in installed(manifest):
        data = read_capped(host.state.objects / item.digest, LIMITS.ciphertext, f"the sealed secret {item.name}")
        if data is None or sha256(data) != item.digest:
            raise WorkFailed(f"the sealed secret {item.name} isn't stored here whole")
        try:
            opened.append((item, open_sealed(data, identities)))
        except BentoError as error:
            raise WorkFailed(f"can't open the secret {item.name}: {error.message}", *error.hints) from None
    host.runtime.write_generation(manifest.serial, opened)


def live_manifest(host: Host) -> "Manifest | None":
    """The release whose secrets are live; None without any."""
    serial = host.runtime.live()
    return None if serial is None else stored_manifest(host, Serial.parse(serial))


def flip(host: Host, serial: Serial | None) -> tuple[str, ...]:
    """Make a generation live: link, owners, links elsewhere. Returns the secrets whose owner doesn't exist (yet).

    None makes no generation live. The generation must be on the tmpfs.
    """
    from bento_secrets.links import apply_links

    before = live_manifest(host)
    after = None if serial is None else stored_manifest(host, serial)
    wanted = () if after is None else installed(after)
    missing = host.runtime.set_owners(serial, wanted) if serial is not None else ()
    host.runtime.flip(serial)
    apply_links(host.runtime.root, wanted, () if before is None else installed(before))
    return missing


def settle_owners(host: Host, serial: Serial) -> tuple[str, ...]:
    """Set owners once more, now that the system that brings its users is active; still missing ones are returned."""
    return host.runtime.set_owners(serial, installed(stored_manifest(host, serial)))


def changed_units(before: "Manifest | None", after: "Manifest | None") -> Units:
    """The units of secrets whose content, owner, group or mode changed. A first install restarts nothing."""
    old = {} if before is None else {item.name: item for item in installed(before)}
    new = () if after is None else installed(after)
    changed: Sequence[Installed] = [item for item in new if item.name in old and _differs(item, old[item.name])]
    restart = tuple(dict.fromkeys(unit for item in changed for unit in item.restart))
    reload = tuple(dict.fromkeys(unit for item in changed for unit in item.reload if unit not in restart))
    return Units(restart, reload)


def _differs(one: Installed, other: Installed) -> bool:
    return (one.digest, one.owner, one.group, one.mode) != (other.digest, other.owner, other.group, other.mode)
