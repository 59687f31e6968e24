"""The signed history of a host: each release names the sha256 of the manifest before it, so each proves the next."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from bento.adapters.transport import PublishTarget
from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest, parse_manifest
from bento.models.signed import SignedDocument, sha256, split
from bento.names import Digest, Serial

Release = tuple[SignedDocument, Manifest]

KEEP_RELEASES: Final = 3
KEEP_SECONDS: Final = 24 * 3600


def history(target: PublishTarget, newest: Release) -> Iterator[Release]:
    """The verified release `newest` and those before it, newest first, to where garbage collection has cut.

    A manifest that isn't the one that was signed, or that doesn't parse, ends it too.
    """
    yield from islice(_links(target, newest), LIMITS.history)


def _links(target: PublishTarget, newest: Release) -> Iterator[Release]:
    document, manifest = newest
    while True:
        yield document, manifest
        if manifest.previous is None:
            return
        try:
            raw = target.read_object(manifest.host, manifest.previous, LIMITS.manifest)
            if raw is None or sha256(raw) != manifest.previous:
                return
            document = split(raw, "an earlier manifest")
            manifest = parse_manifest(document.line)
        except InputError:
            return


def objects_of(manifest: Manifest) -> dict[Digest, int]:
    """The objects of a release, with their sizes in bytes."""
    return {manifest.config.digest: manifest.config.size, **{one.digest: one.size for one in manifest.secrets}}


def in_use(target: PublishTarget, newest: Release, now: int, hold: Serial | None) -> Iterator[Digest]:
    """The objects of the last releases, and all manifests down to them and to the one that the host is held at."""
    for number, (_, manifest) in enumerate(history(target, newest)):
        recent = number < KEEP_RELEASES or manifest.created >= now - KEEP_SECONDS
        if not recent and (hold is None or manifest.serial < hold):
            return
        if recent:  # what the host is held at has the objects of the newest
            yield from objects_of(manifest)
        if manifest.previous is not None:
            yield manifest.previous
