"""Publish one host's release: objects first, then the manifest that names them. A reader never sees a mixture."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bento.adapters import signatures
from bento.adapters.folder import PublishFolder
from bento.adapters.process import require
from bento.admin.history import Release, history
from bento.core import signer_rules
from bento.core.deploy_plan import compose, same_content
from bento.errors import InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings, TemplateRef, parse_manifest
from bento.models.signed import SignedDocument, sha256, split
from bento.models.trust import NAMESPACE_RELEASE, Trust
from bento.names import Digest, HostName, Serial, SystemPath
from bento_secrets.ssh_keys import SshPublicKey

Change = Literal["first release", "configuration", "secrets", "settings", "objects", "signatures"]

KEEP_RELEASES = 3
KEEP_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Content:
    """What a host is to get. `ciphertexts` holds each secret's sealed file by its digest.

    `hold` is the earlier release that this is the content of, where the host is held there: it stays in the history.
    """

    host: HostName
    config: ConfigRef
    system: SystemPath | None
    secrets: tuple[SecretRef, ...]
    settings: Settings
    tar: Path
    ciphertexts: Mapping[Digest, bytes]
    templates: tuple[TemplateRef, ...] = ()
    hold: Serial | None = None


@dataclass(frozen=True)
class Published:
    """`changed` is None where nothing was written; else what differs from the release before.

    Of what is published already, missing signatures are added: the release and its serial stay.
    """

    manifest: Manifest
    changed: tuple[Change, ...] | None


class NotOurs(InputError):
    """What is published doesn't verify: it counts as nothing, and a deploy replaces it."""


def read_published(folder: PublishFolder, host: HostName, trust: Trust) -> tuple[SignedDocument, Manifest] | None:
    """The published manifest, verified; None before the first. Raises InputError where it doesn't verify."""
    raw = folder.read_manifest(host)
    if raw is None:
        return None
    try:
        document = split(raw, f"the published manifest of {host}")
    except InputError as error:
        raise NotOurs(error.message) from None
    if not signatures.verified_here(document, trust.signers, NAMESPACE_RELEASE):
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
    return document, manifest


def check_signers(keys: tuple[Path, ...], trust: Trust) -> None:
    """Refuse to publish what hosts would refuse. Raises InputError, EnvironmentFailed without ssh-keygen."""
    require("ssh-keygen")
    if not keys:
        raise InputError(
            "no signing key is named", 'put it into bento.local.toml: [signing] keys = ["~/.ssh/id_ed25519"]'
        )
    signers: tuple[SshPublicKey, ...] = trust.signers
    known = {signer.blob for signer in signers}
    for key in keys:
        if signatures.public_half(key).blob not in known:
            raise InputError(
                f"the signing key {key} is not among the signers in utils/trust.toml: hosts would refuse the release",
                "add its public line to signers there, or name another key in bento.local.toml",
            )


def publish(
    folder: PublishFolder,
    content: Content,
    previous: tuple[SignedDocument, Manifest] | None,
    trust: Trust,
    keys: tuple[Path, ...],
    now: int,
    shared: Mapping[Digest, HostName],
    before_signing: Callable[[SignedDocument], None] | None = None,
) -> Published:
    """Publish `content` unless the same is published already. `now` in UTC seconds.

    `shared` tells which host of this run already has an object, so that hosts of one flake share one file.
    `before_signing` is handed what is published before a new release takes its place, and may raise.
    """
    before = previous[1] if previous is not None else None
    same = before is not None and same_content(
        before, content.config, content.secrets, content.templates, content.settings
    )
    if previous is not None and same and complete(folder, previous[1]):
        folder.ensure_host(content.host)  # an account made since then gets its reports folder
        return Published(previous[1], ("signatures",) if _countersign(folder, previous, trust, keys) else None)
    if previous is not None and before_signing is not None:
        before_signing(previous[0])
    manifest = compose(
        fleet=trust.fleet,
        host=content.host,
        now=now,
        previous=previous,
        config=content.config,
        system=content.system,
        secrets=content.secrets,
        templates=content.templates,
        settings=content.settings,
    )
    if len(manifest.line) > LIMITS.manifest // 2:  # the other half is left to signatures
        raise InputError(f"the manifest of {content.host} is too large: too many secrets, units or templates")
    document = signatures.sign(manifest.line, keys, NAMESPACE_RELEASE)
    folder.ensure_host(content.host)
    _put_objects(folder, content, previous[0] if previous is not None else None, shared)
    folder.put_manifest(content.host, document.raw)
    folder.drop_objects_except(content.host, frozenset(_in_use(folder, (document, manifest), now, content.hold)))
    return Published(manifest, _changes(before, manifest))


def _countersign(folder: PublishFolder, published: Release, trust: Trust, keys: tuple[Path, ...]) -> bool:
    """Add the signatures of those keys that haven't signed what is published. Whether there were any."""
    document, manifest = published
    ours = {signatures.public_half(key).fingerprint: key for key in keys}
    signed = signatures.signed_by(document, trust.signers, NAMESPACE_RELEASE)
    missing = signer_rules.missing({one.fingerprint for one in signed}, ours.keys())
    if not missing or len(document.armours) + len(missing) > LIMITS.armours:
        return False
    more = signatures.sign(document.line, [ours[one] for one in sorted(missing)], NAMESPACE_RELEASE)
    folder.put_manifest(manifest.host, SignedDocument(document.line, (*document.armours, *more.armours)).raw)
    return True


def complete(folder: PublishFolder, manifest: Manifest) -> bool:
    """Whether every object of a release is there."""
    return all(folder.has_object(manifest.host, digest) for digest in _objects(manifest))


def _objects(manifest: Manifest) -> Iterator[Digest]:
    yield manifest.config.digest
    yield from (secret.digest for secret in manifest.secrets)


def _put_objects(
    folder: PublishFolder, content: Content, previous: SignedDocument | None, shared: Mapping[Digest, HostName]
) -> None:
    host, config = content.host, content.config.digest
    if not folder.has_object(host, config):
        other = shared.get(config)
        if other is None or not folder.share_object(host, config, other):
            data = content.tar.read_bytes()
            if sha256(data) != config:
                content.tar.unlink(missing_ok=True)
                raise WorkFailed(f"the packed configuration {content.tar} was damaged", "pack it anew: bento deploy")
            folder.put_object(host, config, data)
    for digest, data in content.ciphertexts.items():
        if not folder.has_object(host, digest):
            folder.put_object(host, digest, data)
    if previous is not None:
        digest = sha256(previous.raw)
        if not folder.has_object(host, digest):
            folder.put_object(host, digest, previous.raw)


def _in_use(folder: PublishFolder, newest: Release, now: int, hold: Serial | None) -> Iterator[Digest]:
    """The objects of the last releases, and all manifests down to them and to the one that the host is held at."""
    for number, (_, manifest) in enumerate(history(folder, newest)):
        recent = number < KEEP_RELEASES or manifest.created >= now - KEEP_SECONDS
        if not recent and (hold is None or manifest.serial < hold):
            return
        if recent:  # what the host is held at has the objects of the newest
            yield from _objects(manifest)
        if manifest.previous is not None:
            yield manifest.previous


def _changes(before: Manifest | None, after: Manifest) -> tuple[Change, ...]:
    if before is None:
        return ("first release",)
    changes: list[Change] = []
    if before.config != after.config:
        changes.append("configuration")
    if (before.secrets, before.templates) != (after.secrets, after.templates):
        changes.append("secrets")
    if before.settings != after.settings:
        changes.append("settings")
    return tuple(changes) or ("objects",)  # the same release, whose objects had gone
