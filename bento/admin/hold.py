"""A host that is held at an earlier release gets that release's content, under a new serial, until it is let go."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bento.adapters.transport import PublishTarget
from bento.admin.content import Content
from bento.admin.history import Release, history, objects_of
from bento.admin.inventory import Host
from bento.admin.standing import all_published
from bento.admin.workspace import Workspace
from bento.core.deploy_plan import same_content
from bento.errors import BentoError, InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest
from bento.models.signed import sha256
from bento.models.trust import Trust
from bento.names import Digest, HostName, SecretName, Serial
from bento_secrets.recipients import Recipient


class ObjectsGone(WorkFailed):
    """An earlier release can't be published again, because its objects aren't there any more."""


def go_on(host: HostName) -> str:
    """The command that lets a held host follow the fleet again."""
    return f"bento rollback {host} --release"


@dataclass(frozen=True)
class Past:
    """A host's releases, newest first, and a target that has them. There is at least one.

    `mirrors` have the same newest release: an object that the target lacks may be there.
    """

    target: PublishTarget
    releases: tuple[Release, ...]
    mirrors: tuple[PublishTarget, ...] = ()

    @property
    def published(self) -> Manifest:
        """The newest."""
        return self.releases[0][1]


def past(
    targets: Sequence[PublishTarget], host: HostName, trust: Trust, missed: dict[str, BentoError] | None = None
) -> Past:
    """What is published for a host and all that can be found before it. Raises InputError without any.

    A target that fails on the way is put into `missed`, by name, and another one with the same release is read.
    """
    missed = {} if missed is None else missed
    found = all_published(targets, host, trust, missed)
    wrong: list[BentoError] = []
    newest = [(target, release) for target, release in found if release[1].serial == found[0][1][1].serial]
    for target, release in newest:
        try:
            releases = tuple(history(target, release))
        except BentoError as error:
            wrong.append(error)
            missed.setdefault(target.name, error)
        else:
            return Past(
                target, releases, tuple(other for other, _ in newest if other.name not in (target.name, *missed))
            )
    raise wrong[0]


def find(found: Iterable[Release], host: HostName, serial: Serial) -> Manifest:
    """The release of that serial. Raises InputError where the history doesn't have it."""
    for _, manifest in found:
        if manifest.serial == serial:
            return manifest
    raise InputError(
        f"the release {serial} of {host} can't be found: it never was, or garbage collection took it",
        f"see what there is: bento rollback {host} --list",
        f"or let the host follow the fleet: {go_on(host)}",
    )


def held_content(targets: Sequence[PublishTarget], host: Host, trust: Trust, workspace: Workspace) -> Content:
    """What a held host is to get: its settings too are those of the release that it is held at.

    Raises InputError where that release or its objects are gone, or where the host couldn't open its secrets.
    """
    found, earlier = _held_at(targets, host, trust)
    return content_of(found, host, earlier, workspace)


def content_to_plan(targets: Sequence[PublishTarget], host: Host, trust: Trust, workspace: Workspace) -> Content:
    """As `held_content`, but no object is fetched: that they are there is enough.

    A target that fails here is named by what looks at it next.
    """
    found, earlier = _held_at(targets, host, trust)
    check_openable(host, earlier)
    check_there(found, earlier, to_fetch(found, earlier, workspace))
    return _content(earlier, {}, workspace)


def content_of(found: Past, host: Host, earlier: Manifest, workspace: Workspace) -> Content:
    """An earlier release's content, with its objects as far as they have to be published anew."""
    check_openable(host, earlier)
    needed = to_fetch(found, earlier, workspace)
    ciphertexts: dict[Digest, bytes] = {}
    for digest, size in needed.items():
        data = _object(found, earlier, digest, size)
        if digest == earlier.config.digest:
            workspace.keep_tar(digest, data)
        else:
            ciphertexts[digest] = data
    return _content(earlier, ciphertexts, workspace)


def _held_at(targets: Sequence[PublishTarget], host: Host, trust: Trust) -> tuple[Past, Manifest]:
    if host.hold is None:
        raise AssertionError("only for a host that is held")
    found = past(targets, host.name, trust)
    return found, find(found.releases, host.name, host.hold)


def _content(earlier: Manifest, ciphertexts: Mapping[Digest, bytes], workspace: Workspace) -> Content:
    return Content(
        host=earlier.host,
        config=earlier.config,
        system=earlier.system,
        secrets=earlier.secrets,
        settings=earlier.settings,
        tar=workspace.tar(earlier.config.digest),
        ciphertexts=ciphertexts,
        templates=earlier.templates,
        hold=earlier.serial,
    )


def to_fetch(found: Past, earlier: Manifest, workspace: Workspace) -> dict[Digest, int]:
    """The objects that must be read to publish an earlier release anew, with their sizes in bytes.

    None while its content stands there whole; not the configuration while it is packed here.
    """
    if same(found.published, earlier) and not gone(found.target, found.published):
        return {}
    wanted = objects_of(earlier)
    if workspace.tar(earlier.config.digest).is_file():
        del wanted[earlier.config.digest]
    return wanted


def same(one: Manifest, other: Manifest) -> bool:
    """Whether two releases have the same content."""
    return same_content(one, other.config, other.secrets, other.templates, other.settings, other.system)


def check_openable(host: Host, earlier: Manifest) -> None:
    """A host opens all of a release's secrets or installs none. Raises InputError naming those it couldn't open."""
    own = {Recipient.of_host_key(key).text for key in host.keys}
    lost = [secret.name for secret in earlier.secrets if secret.recipient not in own]
    if lost:
        raise InputError(
            f"the release {earlier.serial} has secrets that are sealed to a former host key of {host.name}: "
            f"{', '.join(lost)}",
            f"go back to a later one: bento rollback {host.name} --list",
            f"or let the host follow the fleet: {go_on(host.name)}",
        )


def check_there(found: Past, earlier: Manifest, wanted: Mapping[Digest, int] | None = None) -> None:
    """Raise ObjectsGone where an object of a release, or one of those `wanted` of it, is on none of the targets."""
    wanted = objects_of(earlier) if wanted is None else wanted
    lost = wanted.keys() - found.target.present(earlier.host, wanted)
    for mirror in found.mirrors if lost else ():
        with suppress(BentoError):
            lost -= mirror.present(earlier.host, {digest: wanted[digest] for digest in lost})
    if lost:
        raise _gone(earlier, f"{len(lost)} objects" if len(lost) > 1 else "an object")


def gone(target: PublishTarget, earlier: Manifest) -> int:
    """How many of a release's objects garbage collection has taken."""
    wanted = objects_of(earlier)
    return len(wanted.keys() - target.present(earlier.host, wanted))


def _object(found: Past, earlier: Manifest, digest: Digest, size: int) -> bytes:
    """From the first target that has it whole. Raises what the first of all raised."""
    wrong: list[BentoError] = []
    for target in (found.target, *found.mirrors):
        try:
            return _object_of(target, earlier, digest, size)
        except BentoError as error:
            wrong.append(error)
    raise wrong[0]


def _object_of(target: PublishTarget, earlier: Manifest, digest: Digest, size: int) -> bytes:
    data = target.read_object(earlier.host, digest, min(size, LIMITS.config))
    if data is None:
        raise _gone(earlier, "an object")
    if sha256(data) != digest:
        raise ObjectsGone(
            f"an object of the release {earlier.serial} of {earlier.host} isn't what was signed: "
            "somebody changed it on the server",
            f"see what there is: bento rollback {earlier.host} --list",
        )
    return data


def _gone(earlier: Manifest, what: str) -> ObjectsGone:
    return ObjectsGone(
        f"{what} of the release {earlier.serial} of {earlier.host} isn't there whole any more: "
        "garbage collection took it, or somebody changed it on the server",
        f"see what there is: bento rollback {earlier.host} --list",
    )


@dataclass(frozen=True)
class SecretsBack:
    """What going back means for the secrets of a host, by their names."""

    changed: tuple[SecretName, ...]  # back to an earlier content, or to other attributes
    returning: tuple[SecretName, ...]  # removed since, and there again
    leaving: tuple[SecretName, ...]  # newer than the earlier release


def secrets_back(published: Manifest, earlier: Manifest) -> SecretsBack:
    """Compare a release with an earlier one."""
    now = {secret.name: secret for secret in published.secrets}
    then = {secret.name: secret for secret in earlier.secrets}
    return SecretsBack(
        tuple(name for name in then if name in now and now[name] != then[name]),
        tuple(name for name in then if name not in now),
        tuple(name for name in now if name not in then),
    )
