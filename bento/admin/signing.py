"""Who signs releases, and whether a host would accept what is signed now: asked before it takes the old one's place.

The rule is in core/signer_rules.py, its reasons in docs/decisions/0017.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from bento.adapters import signatures
from bento.adapters.process import require
from bento.adapters.transport import PublishTarget
from bento.admin.hosts_word import newest_heartbeat
from bento.admin.inventory import Host
from bento.admin.look import Look
from bento.core import signer_rules
from bento.errors import BentoError, InputError
from bento.models.trust import Trust
from bento.names import HostName
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


def ask_for_words(targets: Sequence[PublishTarget], some: Iterable[Look], keys: Iterable[Path]) -> None:
    """Ask together for what hosts said, of those whose word `check_accepted` will go by.

    Where a key is dropped that may be all that get something new, and one after the other is a wait for each. What
    goes wrong here goes wrong there too, and is said of each host.
    """
    hosts = list[HostName]()

    def note(host: HostName, signed: frozenset[str] | None) -> None:
        if not signer_rules.accepted(signed or _UNKNOWN, ours, None):
            hosts.append(host)

    with suppress(BentoError):
        ours = _fingerprints(keys)
        for seen in some:
            if not seen.current:
                seen.check(partial(note, seen.content.host))
        for target in targets if hosts else ():
            target.hear(hosts)


def check_accepted(
    targets: Sequence[PublishTarget],
    host: Host,
    trust: Trust,
    keys: Iterable[Path],
    signed: frozenset[str] | None,
) -> None:
    """Raise InputError where the host may be unable to accept a release that only `keys` sign.

    `signed` are the fingerprints of those who signed what it has now; None where that is nobody in the trust file.
    """
    ours, signed = _fingerprints(keys), signed or _UNKNOWN
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


def _fingerprints(keys: Iterable[Path]) -> frozenset[str]:
    return frozenset(signatures.public_half(key).fingerprint for key in keys)
