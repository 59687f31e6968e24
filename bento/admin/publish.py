"""Publish one host's release: objects first, then the manifest that names them. A reader never sees a mixture.

Several targets are mirrors: all get the same signed manifest. One that fails is named and the others go on; what it has
missed it gets at the next deploy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from bento.adapters import signatures
from bento.adapters.stamps import Stamps
from bento.adapters.transport import PublishTarget
from bento.admin.content import Content, put_objects
from bento.admin.history import KEEP_SECONDS, Release, in_use, needed, objects_of
from bento.admin.memory import Known, Memory
from bento.admin.shares import Shares
from bento.admin.signing import Signer
from bento.admin.standing import NotOurs, Standing, read_standing
from bento.core import signer_rules
from bento.core.deploy_plan import ClockOff, compose, same_content
from bento.errors import BentoError, InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest
from bento.models.signed import SignedDocument
from bento.models.trust import Trust
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


BeforeSigning = Callable[[SignedDocument | None], None]


_signer = Signer()  # one for all: an agent or a token is asked for one signature at a time


@dataclass(frozen=True)
class Look:
    """How the targets stand to a content. `whole` are those that have a newest release which says just that.

    `warnings` are sentences; `missed` names the targets that couldn't be read. `remembered` is where this
    machine remembers what it published.
    """

    content: Content
    standings: tuple[Standing, ...]
    newest: Standing | None
    known: Known | None
    whole: tuple[Standing, ...]
    warnings: tuple[str, ...]
    missed: Mapping[str, BentoError]
    remembered: Path

    @property
    def current(self) -> bool:
        """Whether nothing has to be signed."""
        return bool(self.whole)

    @property
    def before(self) -> Manifest | None:
        """The release that a new one would follow."""
        return self.newest.manifest if self.newest is not None else None

    @property
    def takes_over(self) -> bool:
        """Whether the newest release was published from another machine since this one last did, or never did."""
        if self.current or self.newest is None:
            return False
        return self.known is None or self.known.serial is None or _serial(self.newest) > self.known.serial

    def check(self, before_signing: BeforeSigning) -> None:
        """Ask whether what stands there may be replaced. A warning means that what stood there was nobody's."""
        if self.newest is not None or self.warnings:
            before_signing(self.newest.document if self.newest is not None else None)


def look_at(
    targets: Sequence[PublishTarget],
    content: Content,
    trust: Trust,
    now: int,
    memory: Memory,
    stamps: Stamps | None = None,
) -> Look:
    """What publishing `content` would meet. Writes nothing; raises what the first target raised if none can be read.

    With `stamps`, what is published as it was before isn't verified anew.
    """
    host = content.host
    warnings: list[str] = []
    missed: dict[str, BentoError] = {}
    standings = _standings(targets, host, trust, warnings, missed, stamps)
    if not standings:
        raise next(iter(missed.values()))
    known = memory.last(host)
    newest = max((one for one in standings if one.manifest is not None), key=_serial, default=None)
    content = _settled(content, newest, now)
    whole: list[Standing] = []
    if newest is not None and _is_current(newest, standings, known, content):
        whole = [one for one in standings if _is_whole(one, newest, missed)]
    return Look(content, tuple(standings), newest, known, tuple(whole), tuple(warnings), missed, memory.path(host))


def _is_whole(one: Standing, newest: Standing, missed: dict[str, BentoError]) -> bool:
    manifest, document = newest.release
    if one.manifest is None or one.release[1].line_digest != document.line_digest:
        return False
    wanted = objects_of(manifest)
    try:
        return one.target.present(manifest.host, wanted) == wanted.keys()
    except BentoError as error:
        missed.setdefault(one.target.name, error)
        return False


def draft(seen: Look, trust: Trust, now: int) -> Manifest:
    """The release that would be signed. Raises InputError for one that is too large, WorkFailed for a wrong clock."""
    content, newest = seen.content, seen.newest
    try:
        manifest = compose(
            fleet=trust.fleet,
            host=content.host,
            now=now,
            previous=(newest.release[1], newest.release[0]) if newest is not None else None,
            config=content.config,
            system=content.system,
            secrets=content.secrets,
            templates=content.templates,
            settings=content.settings,
            signed=seen.known.signed if seen.known is not None else None,
        )
    except ClockOff as error:
        other = f"this machine remembers it in {seen.remembered} (docs/recovery.md, A serial of the future)"
        raise WorkFailed(error.message, *error.hints, f"if it was wrong when that was signed: {other}") from None
    if len(manifest.line) > LIMITS.manifest // 2:  # the other half is left to signatures
        raise InputError(
            f"the manifest of {content.host} is too large: too many secrets, units or templates",
            f"see what it has: bento host show {content.host}",
        )
    return manifest


def bring(
    seen: Look,
    trust: Trust,
    keys: tuple[Path, ...],
    now: int,
    memory: Memory,
    shares: Shares,
    before_signing: BeforeSigning,
) -> Published:
    """Publish what was looked at a moment ago, unless the same is published already. `now` in UTC seconds.

    `before_signing` is handed what is published before a new release takes its place, None if that is nobody's, and may
    raise.

    Raises InputError and WorkFailed before anything is written, and what the first target raised if in the end none has
    the release.
    """
    if seen.current:
        return _keep(seen, keys, now, memory, shares)
    seen.check(before_signing)
    host, warnings, missed = seen.content.host, list(seen.warnings), dict(seen.missed)
    warnings += _put_back(seen.newest, seen.known, host, warnings)
    manifest = draft(seen, trust, now)
    document = _signer.sign(manifest.line, keys)
    ready: list[Standing] = []
    for one in seen.standings:
        with _or_missed(one.target, missed):
            put_objects(one.target, seen.content, seen.newest, shares, document.raw)
            ready.append(one)
    if ready:
        memory.will_publish(host, manifest.serial)
    has: list[Standing] = []
    for one in ready:
        with _or_missed(one.target, missed):
            one.target.put_manifest(host, document.raw)
            has.append(one)
    if not has:
        raise next(iter(missed.values()))
    memory.has_published(host, manifest.serial, document.line_digest)
    for one in has:
        _tidy(one, (document, manifest), now, seen.content.hold, warnings)
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


def is_idle(seen: Look, keys: tuple[Path, ...]) -> bool:
    """Whether all targets have the release, with the signatures of all our keys: then little is to be done."""
    if not seen.current or len(seen.whole) < len(seen.standings):
        return False
    armours = seen.whole[0].release[1].armours
    return all(one.release[1].armours == armours for one in seen.whole) and not lacking(seen.whole[0], keys)


def _keep(seen: Look, keys: tuple[Path, ...], now: int, memory: Memory, shares: Shares) -> Published:
    """Nothing new: add signatures that are missing, and give the release to the targets that lag behind."""
    newest = seen.whole[0]
    warnings, missed = list(seen.warnings), dict(seen.missed)
    signed = _countersigned(newest, keys)
    manifest, document = signed.release
    host = manifest.host
    for one in seen.whole:
        with _or_missed(one.target, missed):
            one.target.ensure_host(host)  # an account made since then gets its reports folder
            one.target.drop_reports_but(host, LIMITS.reports_kept)
            shares.has(one.target, manifest.config.digest, host)
            if one.release[1].armours != document.armours:
                one.target.put_manifest(host, document.raw)
    healed: list[str] = []
    for one in seen.standings:
        if one in seen.whole:
            continue
        with _or_missed(one.target, missed):
            put_objects(one.target, seen.content, None, shares, document.raw)
            one.target.put_manifest(host, document.raw)
            healed.append(one.target.name)
            _tidy(one, (document, manifest), now, seen.content.hold, warnings)
    memory.has_published(host, manifest.serial, document.line_digest)
    changed: tuple[Change, ...] | None = ("signatures",) if signed is not newest else None
    return Published(manifest.serial, manifest.system, changed, tuple(healed), missed, tuple(warnings))


@contextmanager
def _or_missed(target: PublishTarget, missed: dict[str, BentoError]) -> Iterator[None]:
    """A target that fails is named; the others go on."""
    try:
        yield
    except BentoError as error:
        missed.setdefault(target.name, error)


def _standings(
    targets: Sequence[PublishTarget],
    host: HostName,
    trust: Trust,
    warnings: list[str],
    missed: dict[str, BentoError],
    stamps: Stamps | None,
) -> list[Standing]:
    """What each target has. A manifest that doesn't verify is replaced, loudly: its content is nobody's word."""
    standings: list[Standing] = []
    for target in targets:
        with _or_missed(target, missed):
            try:
                found = read_standing(target, host, trust, stamps)
            except NotOurs as error:
                where = f"{target.name}: " if len(targets) > 1 else ""
                warnings.append(f"{where}{error.message}; a deploy replaces it")
                found = Standing(target)
            standings.append(found)
    return standings


def _settled(content: Content, newest: Standing | None, now: int) -> Content:
    """When a channel host was last asked to build anew stays in its settings until it is asked again."""
    if content.anew is None or content.config.kind != "channel":
        return content
    last = newest.manifest.settings.rebuild if newest is not None and newest.manifest is not None else None
    rebuild = now if content.anew else last
    if rebuild == content.settings.rebuild:
        return content
    return replace(content, settings=content.settings.model_copy(update={"rebuild": rebuild}), anew=None)


def lacking(published: Standing, keys: tuple[Path, ...]) -> tuple[Path, ...]:
    """Those of our keys that haven't signed what is published, as far as it has room for them."""
    ours = {signatures.public_half(key).fingerprint: key for key in keys}
    missing = signer_rules.missing(published.signed, ours.keys())
    if len(published.release[1].armours) + len(missing) > LIMITS.armours:
        return ()
    return tuple(ours[one] for one in sorted(missing))


def _countersigned(newest: Standing, keys: tuple[Path, ...]) -> Standing:
    """The same release with the signatures of those keys that haven't signed it; itself where none is missing."""
    missing = lacking(newest, keys)
    if not missing:
        return newest
    document = newest.release[1]
    more = _signer.sign(document.line, missing)
    return replace(newest, document=SignedDocument(document.line, (*document.armours, *more.armours)))


def _serial(one: Standing) -> int:
    return one.manifest.serial if one.manifest is not None else 0


def _is_current(newest: Standing, standings: list[Standing], known: Known | None, content: Content) -> bool:
    """The newest release says what `content` says, is no older than what was published from here, and has no rival."""
    manifest, document = newest.release
    if not same_content(manifest, content.config, content.secrets, content.templates, content.settings, content.system):
        return False
    lines = {one.release[1].line_digest for one in standings if one.manifest and _serial(one) == manifest.serial}
    if len(lines) > 1:  # two admins, each with a mirror that the other didn't reach
        return False
    if known is None or known.serial is None:
        return True
    return (manifest.serial, document.line_digest) == (known.serial, known.line) or manifest.serial > known.serial


def _put_back(newest: Standing | None, known: Known | None, host: HostName, said: list[str]) -> list[str]:
    """What to say where the targets have something older than was published from here."""
    if known is None or known.serial is None or said:
        return []
    if newest is None:
        return [f"the release {known.serial} of {host} is gone; it is published anew"]
    if _serial(newest) >= known.serial:
        return []
    was, now = known.serial, _serial(newest)
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
