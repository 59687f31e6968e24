"""What is published for a host now: read from a target, and believed only where a signer of this fleet signed it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bento.adapters import signatures
from bento.adapters.stamps import Sight, Stamps
from bento.adapters.transport import PublishTarget
from bento.adapters.verdicts import About
from bento.admin.history import Release
from bento.errors import BentoError, InputError
from bento.models.manifest import Manifest, parse_manifest
from bento.models.signed import SignedDocument, line_of, sha256, split
from bento.models.trust import NAMESPACE_RELEASE, Trust
from bento.names import HostName

T = TypeVar("T")


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
    return Standing(target) if raw is None else _verified(target, raw, host, trust, stamps)


def read_manifest(target: PublishTarget, host: HostName, trust: Trust, verdicts: About) -> Manifest | None:
    """As `read_published`, the manifest alone; the same bytes are verified only once."""
    raw = target.read_manifest(host)
    if raw is None:
        return None
    if verdicts.has("manifest", raw):
        return parse_manifest(line_of(raw), known=True)
    manifest, _ = _verified(target, raw, host, trust).release
    verdicts.add("manifest", raw)
    return manifest


def _verified(
    target: PublishTarget, raw: bytes, host: HostName, trust: Trust, stamps: Stamps | None = None
) -> Standing:
    try:
        document = split(raw, f"the published manifest of {host}")
    except InputError as error:
        raise NotOurs(error.message) from None
    sight = None if stamps is None else _sight(document, trust, verdict_name(target, host), stamps)
    known = None if stamps is None or sight is None else stamps.recall(sight)
    signed = _signed_by(document, trust) if known is None else frozenset(map(str, known))
    if not signed:
        raise NotOurs(
            f"the published manifest of {host} is not signed by one of the signers in utils/trust.toml",
            "somebody changed it on the server, or the signing key is new; publish anew: bento deploy",
        )
    manifest = parse_manifest(document.line, known=known is not None)
    if manifest.host != host:
        raise NotOurs(f"the published manifest of {host} belongs to {manifest.host}", "publish anew: bento deploy")
    if manifest.fleet != trust.fleet:
        raise InputError(
            f"what is published for {host} is of the fleet '{manifest.fleet}', utils/trust.toml says '{trust.fleet}'",
            "hosts refuse another fleet's releases: put the name back, or publish to another folder",
        )
    if stamps is not None and sight is not None and known is None:
        stamps.remember(sight, tuple(sorted(signed)))
    return Standing(target, document, manifest, signed)


def verdict_name(target: PublishTarget, host: HostName) -> str:
    """What the stamps call who signed what is published there."""
    return f"signed {target.name} {host}"


def _sight(document: SignedDocument, trust: Trust, where: str, stamps: Stamps) -> Sight:
    """Of these bytes and these signers: who of them signed it stays the same for good."""
    asked = [sha256(document.raw), *(signer.line for signer in trust.signers)]
    return stamps.sight(where, [(word, None) for word in asked], stamps.now())


def _signed_by(document: SignedDocument, trust: Trust) -> frozenset[str]:
    """The fingerprints of the signers who signed it."""
    return frozenset(one.fingerprint for one in signatures.signed_by(document, trust.signers, NAMESPACE_RELEASE))


def each_target(
    targets: Sequence[PublishTarget], missed: dict[str, BentoError], work: Callable[[PublishTarget], T]
) -> list[tuple[PublishTarget, T]]:
    """What `work` finds on each target; one that fails at it is put into `missed`, by name, with what it raised.

    Raises the first of these errors where no target is left, and InputError at once: that is no server's trouble.
    """
    found: list[tuple[PublishTarget, T]] = []
    wrong: list[BentoError] = []
    for target in targets:
        try:
            found.append((target, work(target)))
        except InputError:
            raise
        except BentoError as error:
            wrong.append(error)
            missed.setdefault(target.name, error)
    if not found:
        raise wrong[0]
    return found


def all_published(
    targets: Sequence[PublishTarget], host: HostName, trust: Trust, missed: dict[str, BentoError]
) -> list[tuple[PublishTarget, Release]]:
    """The verified releases, the newest first, each with the target that has it; `missed` as for `each_target`.

    Raises InputError where there is none.
    """
    wrong: list[InputError] = []

    def read(target: PublishTarget) -> Release | None:
        try:
            return read_published(target, host, trust)
        except InputError as error:
            wrong.append(error)
            return None

    found = [(target, release) for target, release in each_target(targets, missed, read) if release is not None]
    if found:
        return sorted(found, key=lambda one: one[1][1].serial, reverse=True)
    if wrong:
        raise wrong[0]
    raise InputError(f"nothing is published for {host} yet", f"publish it: bento deploy --on {host}")
