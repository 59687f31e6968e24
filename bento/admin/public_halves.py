"""Public halves of generated secrets: `utils/public/HOST/NAME.pub`, where host configurations read them."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from bento.errors import EnvironmentFailed, InputError
from bento.names import BadName, HostName, SecretName
from bento_secrets import durable
from bento_secrets.errors import PluginFailed

Half = tuple[HostName, SecretName]  # whose private half it belongs to

_FOLDER = ("utils", "public")
_LIMIT = 64 * 1024  # bytes: an RSA-16384 public key has 3 KiB


def public_half(host: HostName, name: SecretName) -> str:
    """Where it is, relative to the fleet."""
    return "/".join([*_FOLDER, host, f"{name}.pub"])


@contextmanager
def put_aside(root: Path, halves: Collection[Half]) -> Iterator[dict[Half, bytes]]:
    """For a change of the store that makes these stale: they go first, and come back if the block stored nothing.

    Yields those there were. EnvironmentFailed naming the file.
    """
    before = {half: content for half in sorted(halves) if (content := read_public(root, *half)) is not None}
    for half in before:
        remove_public(root, *half)
    try:
        yield before
    except (InputError, PluginFailed):  # the old private half is still the one
        for half, content in before.items():
            write_public(root, *half, content)
        raise


def find_public(root: Path) -> frozenset[Half]:
    """Whose public halves there are. No symlink is followed. EnvironmentFailed."""
    found = set()
    try:
        with durable.folder(root) as top, durable.folder_at(top, _FOLDER) as folder_fd:
            for at, _, files, _ in os.fwalk(".", dir_fd=folder_fd):
                for file in files:
                    host, _, name = f"{at}/{file}".removeprefix("./").removesuffix(".pub").partition("/")
                    with suppress(BadName):  # somebody else's file
                        if file.endswith(".pub"):
                            found.add((HostName.parse(host), SecretName.parse(name)))
    except FileNotFoundError:
        pass
    except OSError as error:
        place = "/".join(_FOLDER)
        raise EnvironmentFailed(
            f"{place} can't be read: {(error.strerror or 'unknown error').lower()}",
            f"look at it: ls -ld {quote(str(root / place))}",
        ) from None
    return frozenset(found)


def read_public(root: Path, host: HostName, name: SecretName) -> bytes | None:
    """The public half, if there is one. EnvironmentFailed naming the file."""
    with suppress(FileNotFoundError), _folder(root, host, name, "read") as (parent, file):
        return durable.read_at(parent, file, _LIMIT)
    return None


def write_public(root: Path, host: HostName, name: SecretName, content: bytes) -> None:
    """Put `content` there: old or new, never part of it. EnvironmentFailed naming the file."""
    with _folder(root, host, name, "written", make=0o755) as (parent, file):
        durable.write_atomic_at(parent, file, content, 0o644)


def remove_public(root: Path, host: HostName, name: SecretName) -> None:
    """Remove the public half, if there is one. EnvironmentFailed naming the file."""
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
        hints = [f"look at it: ls -ld {quote(str(root / path))}"]
        if make is not None:
            hints.append("the private half is sealed already: mend that, and run the command again with --replace")
        raise EnvironmentFailed(
            f"{path} can't be {what}: {(error.strerror or 'unknown error').lower()}", *hints
        ) from None
