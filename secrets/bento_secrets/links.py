"""Links from where a program looks for a secret to the live one: `/etc/app/key -> /run/bento/secrets/app/key`.

Such a path may lead through a folder that its user can write to, and he may swap what is in it while root works. So
every step is taken by directory descriptor, a symlink on the way is refused, not followed, and what root replaces or
removes is first put aside and looked at there.
"""

import ctypes
import errno
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from bento_secrets import durable
from bento_secrets.errors import InputError, LinkRefused
from bento_secrets.runtime import Installed

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PARENT_MODE = 0o755
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2


def link_paths(installed: Sequence[Installed]) -> tuple[str, ...]:
    """Where links of these are to stand."""
    return tuple(one.path for one in installed if one.path is not None)


def apply_links(runtime_root: Path, wanted: Sequence[Installed], before: Collection[str]) -> None:
    """Make the links of `wanted`, remove those at `before` that nobody wants any more; other people's files stay.

    Everything is checked first: LinkRefused, naming the path, if anything but Bento's own link stands there, and then
    nothing has changed. Missing parents are made, root's, 0755, where root alone can write.
    """
    ours = f"{runtime_root}/secrets/"
    links = {one.path: ours + one.name for one in wanted if one.path is not None}
    check_links(runtime_root, wanted, before)
    for path in (path for path in before if path not in links):
        _remove(path, ours)
    for path, target in links.items():
        _make(path, target, ours)


def check_links(runtime_root: Path, wanted: Sequence[Installed], before: Collection[str]) -> None:
    """LinkRefused where `apply_links` would refuse; changes nothing."""
    paths = link_paths(wanted)
    if len(set(paths)) != len(paths):
        raise InputError("two secrets of one host have the same link path", "give one of them another path")
    going = frozenset(path for path in before if path not in paths)
    for path in paths:
        _check(path, f"{runtime_root}/secrets/", going)


def _check(path: str, ours: str, going: frozenset[str]) -> None:
    with _explained(path), _parent(path, ours, going=going) as (parent, name):
        if parent is not None:
            _current(parent, name, ours, path)


def _make(path: str, target: str, ours: str) -> None:
    with _explained(path), _parent(path, ours, make=True) as (parent, name):
        if parent is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        current = _current(parent, name, ours, path)
        if current == target:
            return
        if current is None:
            try:
                os.symlink(target, name, dir_fd=parent)
            except FileExistsError:  # somebody was quicker
                raise _somebodys(path) from None
            return
        temporary = _temporary()
        os.symlink(target, temporary, dir_fd=parent)
        try:
            if _rename(parent, temporary, name, _RENAME_EXCHANGE) and not _is_ours(parent, temporary, ours):
                _rename(parent, temporary, name, _RENAME_EXCHANGE)
                raise _somebodys(path)
        finally:
            if _is_ours(parent, temporary, ours):
                os.unlink(temporary, dir_fd=parent)


def _remove(path: str, ours: str) -> None:
    """Only if it is still Bento's link: what somebody put in its place is theirs, and goes back to it."""
    with suppress(OSError, LinkRefused), _parent(path, ours) as (parent, name):
        if parent is None or _current(parent, name, ours, path) is None:
            return
        temporary = _temporary()
        _rename(parent, name, temporary, _RENAME_NOREPLACE)
        if _is_ours(parent, temporary, ours):
            os.unlink(temporary, dir_fd=parent)
        else:
            _rename(parent, temporary, name, _RENAME_NOREPLACE)


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
        raise _somebodys(path)
    return target


def _is_ours(parent: int, name: str, ours: str) -> bool:
    try:
        return os.readlink(name, dir_fd=parent).startswith(ours)
    except OSError:
        return False


def _somebodys(path: str) -> LinkRefused:
    return LinkRefused(
        f"{path} is there already, and isn't Bento's link",
        f"move it away, or give the secret another path: ls -ld {quote(str(path))}",
    )


@contextmanager
def _parent(
    path: str, ours: str, *, make: bool = False, going: frozenset[str] = frozenset()
) -> Iterator[tuple[int | None, str]]:
    """A descriptor of the folder that `path` is in, and its last part; None where that folder isn't there.

    LinkRefused if it is missing where it mustn't be made: that is asked of the very folder in which it then is made. A
    link at a path of `going` counts as gone.
    """
    *folders, name = path.strip("/").split("/")
    with durable.folder(Path("/")) as top:
        current = os.dup(top)
        try:
            for depth, part in enumerate(folders, start=1):
                here = "/" + "/".join(folders[:depth])
                gone = here in going and _is_ours(current, part, ours)
                deeper = None if gone else _open(current, part)
                if deeper is None:
                    _check_roots_alone(current, path, folders[: depth - 1])
                    if not make:
                        yield None, name
                        return
                    os.mkdir(part, _PARENT_MODE, dir_fd=current)
                    deeper = os.open(part, _FOLDER, dir_fd=current)
                    os.fchmod(deeper, _PARENT_MODE)  # whatever the umask
                os.close(current)
                current = deeper
            yield current, name
        finally:
            os.close(current)


def _open(folder: int, name: str) -> int | None:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return None


def _check_roots_alone(folder: int, path: str, parts: list[str]) -> None:
    """In a folder where others can put things, root makes none: its user could swap it before it is used."""
    status = os.fstat(folder)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise LinkRefused(
            f"the folder for the link {path} is missing, and /{'/'.join(parts)} isn't root's alone",
            f"make it as its user first: mkdir -p {quote(str(Path(path).parent))}",
        )


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


def _temporary() -> str:
    return f".{secrets.token_hex(8)}.bento"


def _rename(folder: int, one: str, other: str, flags: int) -> bool:
    """renameat2(2) within a folder; False where the filesystem has no such flags (NFS), after a plain rename."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(folder, os.fsencode(one), folder, os.fsencode(other), ctypes.c_uint(flags)) == 0:
        return True
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), other)
    os.rename(one, other, src_dir_fd=folder, dst_dir_fd=folder)
    return False
