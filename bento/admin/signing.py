"""Who signs releases, and whether a host would accept what is signed now: asked before it takes the old one's place.

The rule is in core/signer_rules.py, its reasons in docs/decisions/0017.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bento.adapters import signatures
from bento.adapters.process import require
from bento.adapters.transport import PublishTarget
from bento.admin.hosts_word import newest_heartbeat
from bento.admin.inventory import Host
from bento.core import signer_rules
from bento.errors import InputError
from bento.models.signed import SignedDocument
from bento.models.trust import NAMESPACE_RELEASE, Trust
from bento_secrets.ssh_keys import SshPublicKey

_UNKNOWN = frozenset({"nobody that we know"})


def check_signers(keys: tuple[Path, ...], trust: Trust) -> None:
    """Refuse to publish what hosts would refuse. Raises InputError, EnvironmentFailed without ssh-keygen."""
    require("ssh-keygen")
    if not keys:
        raise InputError(
            "no signing key is named", 'put it into bento.local.toml: [signing] keys = ["~/.ssh/id_ed25519"]'
        )
    signers: tuple[SshPublicKey, ...] = trust.signers
    known = {signer.blob for signer in signers}
    revoked = {signer.blob for signer in trust.revoked}
    for key in keys:
        blob = signatures.public_half(key).blob
        if blob in revoked:
            raise InputError(
                f"the signing key {key} is revoked in utils/trust.toml: hosts refuse what it signs",
                "name another key in bento.local.toml: [signing] keys",
            )
        if blob not in known:
            raise InputError(
                f"the signing key {key} is not among the signers in utils/trust.toml: hosts would refuse the release",
                "add its public line to signers there, or name another key in bento.local.toml",
            )


def known_signers(targets: Sequence[PublishTarget], host: Host, trust: Trust) -> frozenset[str] | None:
    """The fingerprints of those whose releases the host accepts, by its own signed word; None if it gave none."""
    newest = newest_heartbeat(targets, host, trust, [])
    return frozenset(newest.signers) or None if newest is not None else None


def check_accepted(
    targets: Sequence[PublishTarget],
    host: Host,
    trust: Trust,
    keys: Iterable[Path],
    published: SignedDocument | None,
) -> None:
    """Raise InputError where the host may be unable to accept a release that only `keys` sign.

    `published` is what it has now; None where that is signed by nobody in the fleet's trust file.
    """
    ours = {signatures.public_half(key).fingerprint for key in keys}
    signed = (
        _UNKNOWN
        if published is None
        else {one.fingerprint for one in signatures.signed_by(published, trust.signers, NAMESPACE_RELEASE)} or _UNKNOWN
    )
    if signer_rules.accepted(signed, ours, None):
        return
    known = known_signers(targets, host, trust)
    if signer_rules.accepted(signed, ours, known):
        return
    said = (
        f"{host.name} has never said whom it trusts, and the key that signed its release before is left out"
        if known is None
        else f"{host.name} trusts none of the keys that sign now, by its last sign of life"
    )
    raise InputError(
        f"{said}: it could refuse the release for good",
        "sign with the old key too until it has polled: [signing] keys in bento.local.toml",
        f"see when it was heard of: bento status --on {host.name}",
        f"or publish all the same: bento deploy --on {host.name} --drop-signers",
    )
