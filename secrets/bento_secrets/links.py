"""Links from where a program looks for a secret to the live one: `/etc/app/key -> /run/bento/secrets/app/key`.

Such a path may lead through a folder that its user can write to, so every step is taken by directory descriptor, and a
symlink on the way is refused, not followed.
"""

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bento_secrets import durable
from bento_secrets.errors import InputError, LinkRefused
from bento_secrets.runtime import Installed

_PARENT_MODE = 0o755


def apply_links(runtime_root: Path, wanted: Sequence[Installed], before: Sequence[Installed]) -> None:
    """Make the links of `wanted`, remove those of `before` that nobody wants any more; other people's files stay.

    Everything is checked first: LinkRefused, naming the path, if anything but Bento's own link stands there, and then
    nothing has changed. Missing parents are made, root's, 0755, where root alone can write.
    """
    ours = f"{runtime_root}/secrets/"
    links = {one.path: ours + one.name for one in wanted if one.path is not None}
    if len(links) != sum(one.path is not None for one in wanted):
        raise InputError("two secrets of one host have the same link path", "give one of them another path")
    for path in links:
        _check(path, ours)
    for one in before:
        if one.path is not None and one.path not in links:
            _remove(one.path, ours)
    for path, target in links.items():
        _make(path, target, ours)


def _check(path: str, ours: str) -> None:
    with _explained(path):
        with suppress(FileNotFoundError), _parent(path) as (parent, name):
            _current(parent, name, ours, path)
            return
        _check_ancestor(path)


def _check_ancestor(path: str) -> None:
    """Missing parents are made only below a folder in which nobody but root can put things."""
    parts = _parts(path)[:-1]
    while parts:
        parts = parts[:-1]
        with suppress(FileNotFoundError), durable.folder(Path("/")) as top, durable.folder_at(top, parts) as ancestor:
            status = os.fstat(ancestor)
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                raise LinkRefused(
                    f"the folder for the link {path} is missing, and /{'/'.join(parts)} isn't root's alone",
                    f"make it as its user first: mkdir -p {Path(path).parent}",
                )
            return


def _make(path: str, target: str, ours: str) -> None:
    with _explained(path), _parent(path, make=True) as (parent, name):
        current = _current(parent, name, ours, path)
        if current == target:
            return
        if current is None:
            os.symlink(target, name, dir_fd=parent)
            return
        temporary = f".{secrets.token_hex(8)}.bento"
        os.symlink(target, temporary, dir_fd=parent)
        try:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise


def _remove(path: str, ours: str) -> None:
    """Only if it is still Bento's link: what somebody put in its place is theirs."""
    with suppress(OSError, LinkRefused), _parent(path) as (parent, name):
        if _current(parent, name, ours, path) is not None:
            os.unlink(name, dir_fd=parent)


def _current(parent: int, name: str, ours: str, path: str) -> str | None:
    """Where Bento's link at `name` points; None if nothing is there; LinkRefused if it is somebody's."""
    try:
        target = os.readlink(name, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        target = ""
    if not target.startswith(ours):
        raise LinkRefused(
            f"{path} is there already, and isn't Bento's link",
            f"move it away, or give the secret another path: ls -ld {path}",
        )
    return target


@contextmanager
def _parent(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    *folders, name = _parts(path)
    with (
        durable.folder(Path("/")) as top,
        durable.folder_at(top, tuple(folders), make=_PARENT_MODE if make else None) as parent,
    ):
        yield parent, name


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise LinkRefused(
                f"the path of the link {path} leads through a symlink or a file ({error.filename})",
                "give the real path",
            ) from None
        raise LinkRefused(f"the link {path} can't be made: {(error.strerror or 'unknown error').lower()}") from None


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))
