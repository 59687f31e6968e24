"""Fetch a release's objects: capped by the sizes that were signed, hashed while they come, whole or not at all."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from shlex import quote

from bento.agent.host import Host
from bento.agent.link import Session
from bento.errors import EnvironmentFailed, Refused
from bento.models.manifest import Manifest
from bento.names import Digest
from bento_secrets.durable import fsync_dir

_PARTIAL = ".fetch-"


def objects_of(manifest: Manifest) -> dict[Digest, int]:
    """The objects a release needs, with their sizes in bytes."""
    wanted = {secret.digest: secret.size for secret in manifest.secrets}
    wanted[manifest.config.digest] = manifest.config.size
    return wanted


def fetch(host: Host, session: Session, manifest: Manifest) -> None:
    """Get the objects that aren't here. Raises Refused for one that isn't what was signed, ServerAway, NotThere.

    What a run that was killed had of one goes first: cut again and again, it would fill the disk.
    """
    with suppress(OSError):
        for left in host.state.objects.glob(f"{_PARTIAL}*"):
            left.unlink()
    for digest, size in objects_of(manifest).items():
        path = host.state.objects / digest
        if not path.exists():
            _fetch_one(session, digest, size, path)


def _fetch_one(session: Session, digest: Digest, size: int, path: Path) -> None:
    sha = hashlib.sha256()
    got = 0
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_PARTIAL, delete=False) as out:
            temporary = Path(out.name)

            def take(data: bytes) -> None:
                nonlocal got
                got += len(data)
                sha.update(data)
                try:
                    out.write(data)
                except OSError as error:  # the session would take it for the server's
                    raise _not_stored(path, error) from None

            session.stream(f"release/objects/{digest}", size, take)
            if got != size or sha.hexdigest() != digest:
                raise Refused(f"the object {digest[:12]}… on the server is not the one that was signed")
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        temporary = None
        fsync_dir(path.parent)
    except OSError as error:
        raise _not_stored(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _not_stored(path: Path, error: OSError) -> EnvironmentFailed:
    return EnvironmentFailed(f"can't store {path}: {error.strerror}", f"see the disk: df -h {quote(str(path.parent))}")
