"""Public halves of generated secrets: `utils/public/HOST/NAME.pub`, where host configurations read them.

Order, so that a cut never leaves a public half whose private half no host has: the old one goes, then the secret store
commits, then the new one is written. After a cut in between the file is missing, which Nix says loudly.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bento.admin.inventory import Fleet
from bento.errors import EnvironmentFailed, InputError
from bento.names import HostName, SecretName, Target
from bento_secrets import durable
from bento_secrets.declared import Attributes, Declaration
from bento_secrets.errors import PluginFailed
from bento_secrets.generate import Generated
from bento_secrets.members import effective

_FOLDER = ("utils", "public")
_LIMIT = 64 * 1024  # bytes: an RSA-16384 public key has 3 KiB


def public_half(host: HostName, name: SecretName) -> str:
    """Where it is, relative to the fleet."""
    return "/".join([*_FOLDER, host, f"{name}.pub"])


def add_generated(
    fleet: Fleet,
    target: Target,
    name: SecretName,
    attributes: Attributes,
    make: Callable[[], Generated],
    *,
    replace: bool,
    now: int,
) -> tuple[Generated, tuple[HostName, ...]]:
    """What `make` made, and the hosts it was sealed for, as SecretStore.add gives them.

    Their public half is the new one afterwards, or gone if there is none.
    """
    hosts = _receivers(fleet, target, name)
    generated = make()
    before = read_public(fleet.root, hosts, name)
    remove_public(fleet.root, hosts, name)
    try:
        receivers = fleet.store.add(
            target, name, attributes, generated.plaintext, fleet.members, fleet.admins, replace=replace, now=now
        )
    except (InputError, PluginFailed):  # nothing was stored: the old private half is still the one
        for host, content in before.items():
            write_public(fleet.root, [host], name, content)
        raise
    if generated.public is not None:
        write_public(fleet.root, receivers, name, generated.public)
    return generated, receivers


def read_public(root: Path, hosts: Sequence[HostName], name: SecretName) -> dict[HostName, bytes]:
    """The public halves there are, by host. EnvironmentFailed naming the file."""
    found = {}
    for host in hosts:
        with suppress(FileNotFoundError), _folder(root, host, name, "read") as (parent, file):
            content = durable.read_at(parent, file, _LIMIT)
            if content is not None:
                found[host] = content
    return found


def write_public(root: Path, hosts: Sequence[HostName], name: SecretName, content: bytes) -> None:
    """Put `content` there for each host: old or new, never part of it. EnvironmentFailed naming the file."""
    for host in hosts:
        with _folder(root, host, name, "written", make=0o755) as (parent, file):
            durable.write_atomic_at(parent, file, content, 0o644)


def remove_public(root: Path, hosts: Sequence[HostName], name: SecretName) -> None:
    """Remove the hosts' public halves, as far as there are any. EnvironmentFailed naming the file."""
    for host in hosts:
        with suppress(FileNotFoundError), _folder(root, host, name, "removed") as (parent, file):
            os.unlink(file, dir_fd=parent)
            os.fsync(parent)


@contextmanager
def _folder(
    root: Path, host: HostName, name: SecretName, what: str, *, make: int | None = None
) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder of a public half, no symlink inside the fleet followed, and the file's name in it."""
    path = public_half(host, name)
    *folders, file = path.split("/")
    try:
        with durable.folder(root) as top, durable.folder_at(top, tuple(folders), make=make) as parent:
            yield parent, file
    except FileNotFoundError:
        raise
    except OSError as error:
        hints = [f"look at it: ls -ld {root / path}"]
        if make is not None:
            hints.append("the private half is sealed already: mend that, and run the command again with --replace")
        raise EnvironmentFailed(
            f"{path} can't be {what}: {(error.strerror or 'unknown error').lower()}", *hints
        ) from None


def _receivers(fleet: Fleet, target: Target, name: SecretName) -> tuple[HostName, ...]:
    """The hosts that would get the secret: not those of a tag that have their own of that name."""
    new = Declaration(target, name)
    others = [one for one in fleet.store.read().declarations if (one.target, one.name) != (target, name)]
    wanted = effective([*others, new], fleet.members)
    return tuple(host for host in sorted(wanted) if wanted[host].get(name) is new)
