"""What is published for a host now: read from a target, and believed only where a signer of this fleet signed it."""

from collections.abc import Sequence
from dataclasses import dataclass

from bento.adapters import signatures
from bento.adapters.stamps import Stamps
from bento.adapters.transport import PublishTarget
from bento.admin.history import Release
from bento.errors import InputError
from bento.models.manifest import Manifest, parse_manifest
from bento.models.signed import SignedDocument, sha256, split
from bento.models.trust import NAMESPACE_RELEASE, Trust
from bento.names import HostName


@dataclass(frozen=True)
class Standing:
    """What a target has of a host: its verified release, if any, and the fingerprints of the signers who signed it."""

    target: PublishTarget
    document: SignedDocument | None = None
    manifest: Manifest | None = None
    signed: frozenset[str] = frozenset()

    @property
    def release(self) -> tuple[Manifest, SignedDocument]:
        """Both, of one that has a release."""
        if self.manifest is None or self.document is None:
            raise AssertionError("nothing is published there")
        return self.manifest, self.document


class NotOurs(InputError):
    """What is published doesn't verify: it counts as nothing, and a deploy replaces it."""


def read_published(target: PublishTarget, host: HostName, trust: Trust) -> tuple[SignedDocument, Manifest] | None:
    """The published manifest, verified; None before the first. Raises InputError where it doesn't verify."""
    found = read_standing(target, host, trust)
    return None if found.manifest is None else found.release[::-1]


def read_standing(target: PublishTarget, host: HostName, trust: Trust, stamps: Stamps | None = None) -> Standing:
    """What the target has now; raises as `read_published`. With `stamps`, the same bytes are verified only once."""
    raw = target.read_manifest(host)
    if raw is None:
        return Standing(target)
    try:
        document = split(raw, f"the published manifest of {host}")
    except InputError as error:
        raise NotOurs(error.message) from None
    signed = _signers(document, trust, f"{target.name} {host}", stamps)
    if not signed:
        raise NotOurs(
            f"the published manifest of {host} is not signed by one of the signers in utils/trust.toml",
            "somebody changed it on the server, or the signing key is new; publish anew: bento deploy",
        )
    manifest = parse_manifest(document.line)
    if manifest.host != host:
        raise NotOurs(f"the published manifest of {host} belongs to {manifest.host}", "publish anew: bento deploy")
    if manifest.fleet != trust.fleet:
        raise InputError(
            f"what is published for {host} is of the fleet '{manifest.fleet}', utils/trust.toml says '{trust.fleet}'",
            "hosts refuse another fleet's releases: put the name back, or publish to another folder",
        )
    return Standing(target, document, manifest, signed)


def _signers(document: SignedDocument, trust: Trust, where: str, stamps: Stamps | None) -> frozenset[str]:
    """The fingerprints of the signers who signed it. Of the same bytes and signers the answer is the same for good."""
    if stamps is None:
        return _signed_by(document, trust)
    asked = [sha256(document.raw), *(signer.line for signer in trust.signers)]
    sight = stamps.sight(f"signed {where}", [(word, None) for word in asked], stamps.now())
    known = stamps.recall(sight)
    if known is None:
        known = tuple(sorted(_signed_by(document, trust)))
        if known:
            stamps.remember(sight, known)
    return frozenset(map(str, known))


def _signed_by(document: SignedDocument, trust: Trust) -> frozenset[str]:
    return frozenset(one.fingerprint for one in signatures.signed_by(document, trust.signers, NAMESPACE_RELEASE))


def newest_published(targets: Sequence[PublishTarget], host: HostName, trust: Trust) -> tuple[PublishTarget, Release]:
    """The newest verified release, and a target that has it. Raises InputError where there is none."""
    found: list[tuple[PublishTarget, Release]] = []
    wrong: list[InputError] = []
    for target in targets:
        try:
            release = read_published(target, host, trust)
        except InputError as error:
            wrong.append(error)
            continue
        if release is not None:
            found.append((target, release))
    if found:
        return max(found, key=lambda one: one[1][1].serial)
    if wrong:
        raise wrong[0]
    raise InputError(f"nothing is published for {host} yet", f"publish it: bento deploy --on {host}")
