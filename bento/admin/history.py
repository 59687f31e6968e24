"""The signed history of a host: each release names the sha256 of the manifest before it, so each proves the next."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from bento.adapters.transport import PublishTarget
from bento.core.deploy_plan import MAX_AHEAD
from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest, parse_manifest
from bento.models.signed import SignedDocument, sha256, split
from bento.names import Digest, Serial

Release = tuple[SignedDocument, Manifest]

KEEP_RELEASES: Final = 3
KEEP_SECONDS: Final = 24 * 3600


def history(target: PublishTarget, newest: Release, known: Sequence[Release] = ()) -> Iterator[Release]:
    """The verified release `newest` and those before it, newest first, to where garbage collection has cut.

    A manifest that isn't the one that was signed, or that doesn't parse, ends it too. None that is `known` is read.
    """
    yield from islice(_links(target, newest, {sha256(one[0].raw): one for one in known}), LIMITS.history)


def _links(target: PublishTarget, newest: Release, known: Mapping[Digest, Release]) -> Iterator[Release]:
    document, manifest = newest
    while True:
        yield document, manifest
        previous = manifest.previous
        if previous is None:
            return
        if previous in known:
            document, manifest = known[previous]
            continue
        try:
            raw = target.read_object(manifest.host, previous, LIMITS.manifest)
            if raw is None or sha256(raw) != previous:
                return
            document = split(raw, "an earlier manifest")
            manifest = parse_manifest(document.line)
        except InputError:
            return


def objects_of(manifest: Manifest) -> dict[Digest, int]:
    """The objects of a release, with their sizes in bytes."""
    return {manifest.config.digest: manifest.config.size, **{one.digest: one.size for one in manifest.secrets}}


def needed(release: Release) -> Iterator[Digest]:
    """The objects of a release, and the manifest before it."""
    manifest = release[1]
    yield from objects_of(manifest)
    if manifest.previous is not None:
        yield manifest.previous


def in_use(
    target: PublishTarget, newest: Release, now: int, hold: Serial | None, known: Sequence[Release] = ()
) -> Iterator[Digest]:
    """The objects of the last releases, and all manifests down to them and to the one that the host is held at.

    Of releases that are `known`, none is read.
    """
    for number, release in enumerate(history(target, newest, known)):
        manifest = release[1]
        recent = number < KEEP_RELEASES or manifest.created >= now - KEEP_SECONDS
        if not recent and (hold is None or manifest.serial < hold):
            return
        if recent:  # what the host is held at has the objects of the newest
            yield from needed(release)
        elif manifest.previous is not None:
            yield manifest.previous
        # None before it is from less than a day ago: clocks never differed by more.
        if hold is None and number + 1 >= KEEP_RELEASES and manifest.created + MAX_AHEAD < now - KEEP_SECONDS:
            return
