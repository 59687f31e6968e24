"""What a host is to get, and its objects put where it will fetch them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.transport import PublishTarget
from bento.admin.shares import Shares
from bento.admin.standing import Standing
from bento.admin.workspace import damaged
from bento.models.manifest import ConfigRef, SecretRef, Settings, TemplateRef
from bento.models.signed import sha256
from bento.names import Digest, HostName, Serial, SystemPath


@dataclass(frozen=True)
class Sealed:
    """A host's secrets as the store holds them."""

    refs: tuple[SecretRef, ...]
    ciphertexts: Mapping[Digest, bytes]
    templates: tuple[TemplateRef, ...] = ()


@dataclass(frozen=True)
class Content:
    """What a host is to get. `ciphertexts` holds each secret's sealed file by its digest.

    `hold` is the earlier release that this content is of, if the host is held there; what it needs is then kept. `anew`
    is whether a channel host is to build the same files once more; None where the settings say it already.
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
    anew: bool | None = None


def put_objects(
    target: PublishTarget, content: Content, previous: Standing | None, shares: Shares, manifest: bytes
) -> None:
    """Put on a target what it lacks of the content, and the manifest that is to be replaced by `manifest`, next."""
    host, config = content.host, content.config
    target.ensure_host(host)
    wanted = dict(content.ciphertexts)
    if previous is not None:
        raw = previous.release[1].raw
        wanted[sha256(raw)] = raw
    sizes = {digest: len(data) for digest, data in wanted.items()}
    there = target.present(host, {**sizes, config.digest: config.size})
    lacking = [(digest, data) for digest, data in wanted.items() if digest not in there]
    if config.digest in there:
        shares.has(target, config.digest, host)
        target.put_objects(host, lacking, manifest)
        return
    with shares.turn(target, config.digest, host) as linked:
        if not linked:
            lacking.append((config.digest, _packed(content)))
        target.put_objects(host, lacking, manifest)


def _packed(content: Content) -> bytes:
    data = content.tar.read_bytes()
    if sha256(data) != content.config.digest:
        raise damaged(content.tar)
    return data
