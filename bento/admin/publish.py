"""Publish one host's release: objects first, then the manifest that names them. A reader never sees a mixture.

Several targets are mirrors: all get the same signed manifest. One that fails is named and the others go on; what it has
missed it gets at the next deploy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from bento.adapters import signatures
from bento.admin.content import put_objects
from bento.admin.history import KEEP_SECONDS, Release, in_use, needed
from bento.admin.look import BeforeSigning, Look, draft, lacking, or_missed, serial_of
from bento.admin.memory import Known, Memory
from bento.admin.shares import Shares
from bento.admin.standing import Standing
from bento.errors import BentoError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest
from bento.models.signed import SignedDocument
from bento.models.trust import NAMESPACE_RELEASE, Trust
from bento.names import HostName, Serial, SystemPath

Change = Literal["first release", "configuration", "secrets", "settings", "objects", "signatures"]


@dataclass(frozen=True)
class Published:
    """`serial` and its `system` are what is published now. `changed` says what is new in it, None where nothing is.

    `healed` names the targets that lagged behind and have it now, `missed` those that failed. `warnings` are sentences.
    `took_over`: another machine's release was replaced by one of other content (docs/decisions/0026).
    """

    serial: Serial
    system: SystemPath | None
    changed: tuple[Change, ...] | None
    healed: tuple[str, ...] = ()
    missed: Mapping[str, BentoError] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    took_over: bool = False


@dataclass(frozen=True)
class Draft:
    """What is to be published, before it is signed: its `line`, the signatures that it has, our keys that are to sign.

    Without keys all that is to be done is done without a signature.
    """

    seen: Look
    manifest: Manifest
    line: bytes
    armours: tuple[bytes, ...]
    keys: tuple[Path, ...]


def drafted(seen: Look, trust: Trust, keys: tuple[Path, ...], now: int, before_signing: BeforeSigning) -> Draft:
    """What there is to sign for a host that was looked at. `now` in UTC seconds.

    `before_signing` is told who signed what a new release takes the place of, None if that is nobody's, and may
    raise. Raises InputError and WorkFailed.
    """
    if seen.current:
        newest = seen.whole[0]
        manifest, document = newest.release
        return Draft(seen, manifest, document.line, document.armours, lacking(newest, keys))
    seen.check(before_signing)
    manifest = draft(seen, trust, now)
    return Draft(seen, manifest, manifest.line, (), keys)


def sign(drafts: Sequence[Draft]) -> list[SignedDocument | BentoError]:
    """Each with the signatures that it lacks, by one process for all of a key; or why it couldn't be signed.

    A process each would take longer than everything else that is done for a host.
    """
    done: dict[int, SignedDocument | BentoError] = {}
    for keys in dict.fromkeys(one.keys for one in drafts):
        some = [number for number, one in enumerate(drafts) if one.keys == keys]
        try:
            signed = signatures.sign_all([drafts[number].line for number in some], keys, NAMESPACE_RELEASE)
        except BentoError as error:
            done |= dict.fromkeys(some, error)
            continue
        for number, document in zip(some, signed, strict=True):
            done[number] = SignedDocument(document.line, (*drafts[number].armours, *document.armours))
    return [done[number] for number in range(len(drafts))]


def bring(one: Draft, document: SignedDocument, now: int, memory: Memory, shares: Shares) -> Published:
    """Publish what was drafted a moment ago, and signed since; or what is published already, where that is missing.

    `memory` was told of it (`will_publish`), and is to be kept afterwards. Raises what the first target raised if none
    has the release in the end.
    """
    if one.seen.current:
        return _keep(one, document, now, memory, shares)
    seen, manifest = one.seen, one.manifest
    host, warnings, missed = seen.content.host, list(seen.warnings), dict(seen.missed)
    warnings += _put_back(seen.newest, seen.known, host, warnings)
    ready: list[Standing] = []
    for standing in seen.standings:
        with or_missed(standing.target, missed):
            put_objects(standing.target, seen.content, seen.newest, shares, document.raw)
            ready.append(standing)
    has: list[Standing] = []
    for standing in ready:
        with or_missed(standing.target, missed):
            standing.target.put_manifest(host, document.raw)
            has.append(standing)
    if not has:
        raise next(iter(missed.values()))
    memory.has_published(host, manifest.serial, document.line_digest)
    for standing in has:
        if standing.manifest is None:
            continue  # nothing is old where nothing was; what a publisher that died left there goes at the next release
        _tidy(standing, (document, manifest), now, seen.content.hold, warnings)
    changed = changes(seen.before, manifest)
    return Published(
        manifest.serial,
        manifest.system,
        changed,
        (),
        missed,
        tuple(warnings),
        seen.takes_over and changed != ("objects",),
    )


def _keep(draft_: Draft, document: SignedDocument, now: int, memory: Memory, shares: Shares) -> Published:
    """Nothing new: put signatures that were missing, and give the release to the targets that lag behind."""
    seen, manifest = draft_.seen, draft_.manifest
    warnings, missed = list(seen.warnings), dict(seen.missed)
    host = manifest.host
    for one in seen.whole:
        with or_missed(one.target, missed):
            one.target.ensure_host(host)  # an account made since then gets its reports folder
            one.target.drop_reports_but(host, LIMITS.reports_kept)
            shares.has(one.target, manifest.config.digest, host)
            if one.release[1].armours != document.armours:
                one.target.put_manifest(host, document.raw)
    healed: list[str] = []
    for one in seen.standings:
        if one in seen.whole:
            continue
        with or_missed(one.target, missed):
            put_objects(one.target, seen.content, None, shares, document.raw)
            one.target.put_manifest(host, document.raw)
            healed.append(one.target.name)
            _tidy(one, (document, manifest), now, seen.content.hold, warnings)
    memory.has_published(host, manifest.serial, document.line_digest)
    changed: tuple[Change, ...] | None = ("signatures",) if draft_.keys else None
    return Published(manifest.serial, manifest.system, changed, tuple(healed), missed, tuple(warnings))


def _put_back(newest: Standing | None, known: Known | None, host: HostName, said: list[str]) -> list[str]:
    """What to say where the targets have something older than was published from here."""
    if known is None or known.serial is None or said:
        return []
    if newest is None:
        return [f"the release {known.serial} of {host} is gone; it is published anew"]
    if serial_of(newest) >= known.serial:
        return []
    was, now = known.serial, serial_of(newest)
    why = "somebody put it back, or the server was restored"
    return [f"what is published for {host} ({now}) is older than what was published from here ({was}): {why}"]


def _tidy(one: Standing, newest: Release, now: int, hold: Serial | None, warnings: list[str]) -> None:
    """Drop what no recent release needs. The release is published: a failure here is no more than said."""
    host, target = newest[1].host, one.target
    try:
        target.drop_reports_but(host, LIMITS.reports_kept)
        replaced = () if one.manifest is None else (one.release[::-1],)  # a host may be fetching it at this moment
        old = target.old_objects(host, now - KEEP_SECONDS) - {*needed(newest), *chain(*map(needed, replaced))}
        # Only where something old is left, the releases before are read.
        target.drop_objects(host, old and old - {*in_use(target, newest, now, hold, replaced)})
    except BentoError as error:
        warnings.append(f"what is old of {host} couldn't be removed: {error.message}")


def changes(before: Manifest | None, after: Manifest) -> tuple[Change, ...]:
    """What a release changes; "objects" where it says the same, and its objects had gone."""
    if before is None:
        return ("first release",)
    found: list[Change] = []
    if before.config != after.config:
        found.append("configuration")
    if (before.secrets, before.templates) != (after.secrets, after.templates):
        found.append("secrets")
    if before.settings != after.settings:
        found.append("settings")
    return tuple(found) or ("objects",)
