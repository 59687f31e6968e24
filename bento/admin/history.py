"""The signed history of a host: each release names the sha256 of the manifest before it, so each proves the next."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from bento.adapters.transport import PublishTarget
from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest, parse_manifest
from bento.models.signed import SignedDocument, sha256, split

Release = tuple[SignedDocument, Manifest]

LONGEST: Final = 10_000  # releases looked back at


def history(target: PublishTarget, newest: Release) -> Iterator[Release]:
    """The verified release `newest` and those before it, newest first, to where garbage collection has cut.

    A manifest that isn't the one that was signed, or that doesn't parse, ends it too.
    """
    yield from islice(_links(target, newest), LONGEST)


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
