"""How the publish targets stand to what a host is to get, and the release that would be signed: nothing is written."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bento.adapters import signatures
from bento.adapters.stamps import Stamps
from bento.adapters.transport import PublishTarget
from bento.admin.content import Content
from bento.admin.history import objects_of
from bento.admin.memory import Known, Memory
from bento.admin.standing import NotOurs, Standing, read_standing
from bento.core import signer_rules
from bento.core.deploy_plan import ClockOff, compose, same_content
from bento.errors import BentoError, InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest
from bento.models.trust import Trust
from bento.names import HostName

BeforeSigning = Callable[[frozenset[str] | None], None]  # takes who signed it, by fingerprint; None for nobody


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
        if self.known is None:
            return True
        serial = serial_of(self.newest)
        # The last one signed here is ours, even if this machine went off before it could note that it was published.
        return serial != self.known.signed and (self.known.serial is None or serial > self.known.serial)

    def check(self, before_signing: BeforeSigning) -> None:
        """Ask whether what stands there may be replaced. A warning means that what stood there was nobody's."""
        if self.newest is not None or self.warnings:
            before_signing(self.newest.signed if self.newest is not None else None)


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
    newest = max((one for one in standings if one.manifest is not None), key=serial_of, default=None)
    content = _settled(content, newest, now)
    whole: list[Standing] = []
    if newest is not None and _is_current(newest, standings, known, content):
        whole = [one for one in standings if _is_whole(one, newest, missed)]
    return Look(content, tuple(standings), newest, known, tuple(whole), tuple(warnings), missed, memory.path)


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


def is_idle(seen: Look, keys: tuple[Path, ...]) -> bool:
    """Whether all targets have the release, with the signatures of all our keys: then little is to be done."""
    if not seen.current or len(seen.whole) < len(seen.standings):
        return False
    armours = seen.whole[0].release[1].armours
    return all(one.release[1].armours == armours for one in seen.whole) and not lacking(seen.whole[0], keys)


def lacking(published: Standing, keys: tuple[Path, ...]) -> tuple[Path, ...]:
    """Those of our keys that haven't signed what is published, as far as it has room for them."""
    ours = {signatures.public_half(key).fingerprint: key for key in keys}
    missing = signer_rules.missing(published.signed, ours.keys())
    if len(published.release[1].armours) + len(missing) > LIMITS.armours:
        return ()
    return tuple(ours[one] for one in sorted(missing))


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
        with or_missed(target, missed):
            try:
                found = read_standing(target, host, trust, stamps)
            except NotOurs as error:
                where = f"{target.name}: " if len(targets) > 1 else ""
                warnings.append(f"{where}{error.message}; a deploy replaces it")
                found = Standing(target)
            standings.append(found)
    return standings


@contextmanager
def or_missed(target: PublishTarget, missed: dict[str, BentoError]) -> Iterator[None]:
    """A target that fails is named; the others go on."""
    try:
        yield
    except BentoError as error:
        missed.setdefault(target.name, error)


def _settled(content: Content, newest: Standing | None, now: int) -> Content:
    """When a channel host was last asked to build anew stays in its settings until it is asked again."""
    if content.anew is None or content.config.kind != "channel":
        return content
    last = newest.manifest.settings.rebuild if newest is not None and newest.manifest is not None else None
    rebuild = now if content.anew else last
    if rebuild == content.settings.rebuild:
        return content
    return replace(content, settings=content.settings.model_copy(update={"rebuild": rebuild}), anew=None)


def _is_current(newest: Standing, standings: list[Standing], known: Known | None, content: Content) -> bool:
    """The newest release says what `content` says, is no older than what was published from here, and has no rival."""
    manifest, document = newest.release
    if not same_content(manifest, content.config, content.secrets, content.templates, content.settings, content.system):
        return False
    lines = {one.release[1].line_digest for one in standings if one.manifest and serial_of(one) == manifest.serial}
    if len(lines) > 1:  # two admins, each with a mirror that the other didn't reach
        return False
    if known is None or known.serial is None:
        return True
    return (manifest.serial, document.line_digest) == (known.serial, known.line) or manifest.serial > known.serial


def serial_of(one: Standing) -> int:
    """Its release's serial; 0 without one."""
    return one.manifest.serial if one.manifest is not None else 0
