"""`bento host remove`: a host leaves. Its secrets go first, then its table: a cut run can be typed again."""

from dataclasses import dataclass
from pathlib import Path

from bento.adapters.folder import account_group
from bento.admin.edit import check_removable, remove_host
from bento.admin.inventory import Fleet
from bento.admin.templates import declared_templates
from bento.errors import InputError
from bento.names import HostName
from bento_secrets.forget import Forgotten


@dataclass(frozen=True)
class Removal:
    """What goes, and what stays though the host is gone: its folders in the fleet, its release on the server."""

    forgotten: Forgotten
    folders: tuple[Path, ...]  # as seen from the fleet
    published: tuple[str, ...]  # folders on this machine, and sftp:// URLs
    has_account: bool


def plan_removal(fleet: Fleet, name: HostName) -> Removal:
    """What `remove` would do. Raises InputError where it would; writes nothing."""
    host = fleet.host(name)
    check_removable(fleet.root, name)
    forgotten = fleet.store.forget(name, fleet.members, dry_run=True)
    _check_templates(fleet, name)
    shared = any(one.source == host.source for one in fleet.hosts.values() if one.name != name)
    folders = [] if shared else [host.source]
    folders.append(fleet.root / "utils/public" / name)
    there = tuple(path.relative_to(fleet.root) for path in folders if path.is_relative_to(fleet.root) and path.is_dir())
    return Removal(forgotten, there, _published(fleet, name), account_group(name) is not None)


def remove(fleet: Fleet, name: HostName) -> None:
    """Take the host out of the secret store and bento.toml. Raises InputError before anything is written."""
    plan_removal(fleet, name)
    fleet.store.forget(name, fleet.members)
    remove_host(fleet.root, name)


def _check_templates(fleet: Fleet, name: HostName) -> None:
    """A template that would be for nobody would stop every deploy; only the person can say what becomes of it."""
    others = {f"@{tag}" for host in fleet.hosts.values() if host.name != name for tag in host.tags}
    for one in declared_templates(fleet).get(name, ()):
        target = str(one.declaration.target)
        if target not in others:
            raise InputError(
                f"the template {one.declaration.name} is for {target}, which nobody would be any more",
                "take its [[template]] out of secrets/secrets.toml first",
            )


def _published(fleet: Fleet, name: HostName) -> tuple[str, ...]:
    """Where its release may still lie: folders on this machine that have it, and every server."""
    places = (to / name if isinstance(to, Path) else f"{to}/{name}" for to in fleet.publish_to)
    return tuple(str(place) for place in places if isinstance(place, str) or place.is_dir())
