"""Where a host keeps opened secrets: generations on a RAM mount, and the link `secrets` to the one that is live.

/run/bento/                     the mount, 0751: passable for the owners of secrets, listable only for root
  generations/SERIAL/NAME       one installed set; a file is root's, 0400, until its owner is set
  secrets -> generations/SERIAL
  generations-for-users/, secrets-for-users
                                the same again for what must be there before there are users: root's, 0400, always
"""

import ctypes
import errno
import os
import re
import shlex
import shutil
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from bento_secrets import durable, ramdisk
from bento_secrets.accounts import group_number, user_number
from bento_secrets.errors import InputError, RuntimeFailed, RuntimeUnsafe
from bento_secrets.limits import LIMITS
from bento_secrets.names import Digest, SecretName

if TYPE_CHECKING:
    from bento_secrets.sealing import Plaintext  # importing it would load cryptography on the agent's poll path

_FOLDER_MODE = 0o751
_PAGE = 4096
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True)
class Installed:
    """One secret, or one rendered template, as a host installs it. `mode` is four octal digits.

    `digest` is of the sealed file; a template's, of all that its text follows from.
    """

    name: SecretName
    owner: str
    group: str
    mode: str
    path: str | None
    restart: tuple[str, ...]
    reload: tuple[str, ...]
    digest: Digest


@dataclass(frozen=True)
class Unowned:
    """A secret that stays root's, and the user and the group it is waiting for; None where that one is there."""

    name: SecretName
    user: str | None
    group: str | None

    def __str__(self) -> str:
        accounts = [f"{kind} {one}" for kind, one in (("user", self.user), ("group", self.group)) if one is not None]
        return f"the {' and the '.join(accounts)} of the secret {self.name}"


class Runtime:
    """The runtime folder at `root`. One process at a time may change it: the caller's lock sees to that.

    Two stand in one folder and share its size: the usual one, and, `for_users`, the one that is there before users are.
    RuntimeUnsafe if `root` is no RAM mount of its own, RuntimeFailed if the work in it fails.
    """

    def __init__(self, root: Path, *, for_users: bool = False) -> None:
        self.root = root
        self._size = LIMITS.MAX_RUNTIME
        suffix = "-for-users" if for_users else ""
        self._top = f"generations{suffix}"
        self._link = f"secrets{suffix}"

    @property
    def secrets(self) -> Path:
        """The folder in which programs find the live secrets: a path that never changes."""
        return self.root / self._link

    def ensure(self, size: int) -> None:
        """Make the folder and mount RAM of `size` bytes there, if it isn't yet; then check as `check` does."""
        self._size = size
        with self._failing("make the runtime folder"):
            if self.root.is_symlink():
                raise RuntimeUnsafe(f"the runtime folder {self.root} is a symlink", "name the folder it leads to")
            self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
            real = self._real()
            if not ramdisk.is_mounted(real):
                if any(self.root.iterdir()):
                    raise RuntimeUnsafe(
                        f"the runtime folder {self.root} has files in it, and is no RAM mount",
                        f"see what they are, then remove them: ls -lA {quote(str(self.root))}",
                    )
                ramdisk.mount(real, size)
        self.check()

    def check(self) -> None:
        """RuntimeUnsafe, saying what it is, unless the folder is a RAM mount of its own that plaintext can't leave."""
        ramdisk.check(self._real())

    def has(self, serial: int) -> bool:
        """Whether the generation is there, whole."""
        return self._generation(serial).is_dir()

    def live(self) -> int | None:
        """The serial that the link names; None if there is no link, or it isn't one of Bento's."""
        try:
            target = str(self.secrets.readlink())
        except OSError:
            return None
        match = re.fullmatch(rf"{self._top}/([0-9]{{1,16}})", target)
        return int(match[1]) if match else None

    def write_generation(self, serial: int, items: Sequence[tuple[Installed, "Plaintext"]]) -> None:
        """Write all of `items`, or nothing, as generation `serial`: root's, 0400. The live link stays.

        A generation that is there with the same content is kept as it is; one with other content is exchanged.
        """
        self.check()
        contents = {installed.name: plaintext.data for installed, plaintext in items}
        if len(contents) != len(items):
            raise InputError(f"release {serial} names a secret twice")
        with self._failing(f"write the secrets of release {serial}"):
            self._make_folder(self.root / self._top)
            final, new = self._generation(serial), self.root / self._top / f".new-{serial}"
            if new.exists():
                shutil.rmtree(new)
            if self.has(serial) and _read_all(final) == contents:
                return
            self._check_room(contents)
            try:
                self._write_files(new, contents, serial)
                if self.has(serial):
                    _exchange(new, final)
                else:
                    new.rename(final)
            finally:
                # What failed, or what was exchanged. The first error is the one to tell.
                shutil.rmtree(new, ignore_errors=True)

    def flip(self, serial: int | None) -> None:
        """Point the link at generation `serial` in one step; None takes the link away."""
        link, temporary = self.secrets, self.root / f".{self._link}-new"
        with self._failing("change the link to the live secrets"):
            if serial is None:
                link.unlink(missing_ok=True)
                return
            if not self.has(serial):
                raise RuntimeFailed(
                    f"the secrets of release {serial} are not in {self.root}", "run: bento-agent install-secrets"
                )
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(f"{self._top}/{serial}")
            temporary.rename(link)

    def set_owners(self, serial: int, installed: Sequence[Installed]) -> tuple[Unowned, ...]:
        """Give each file of a generation its owner, group and mode; those whose owner or group doesn't exist (yet).

        They stay root's, 0400, and the others are done all the same.
        """
        unknown: list[Unowned] = []
        with self._failing(f"set the owners of release {serial}"), durable.folder(self._generation(serial)) as top:
            for one in installed:
                user, group = user_number(one.owner), group_number(one.group)
                *folders, name = one.name.split("/")
                with durable.folder_at(top, tuple(folders)) as parent, _file_at(parent, name) as descriptor:
                    if user is None or group is None:
                        missing = (one.owner if user is None else None, one.group if group is None else None)
                        unknown.append(Unowned(one.name, *missing))
                        _own(descriptor, 0, 0, 0o400)
                    else:
                        _own(descriptor, user, group, int(one.mode, 8))
        return tuple(unknown)

    def same_content(self, one: int, other: int, name: SecretName) -> bool | None:
        """Whether two generations hold the same under `name`; None where it isn't in both."""
        try:
            return self._read(one, name) == self._read(other, name)
        except OSError:
            return None

    def prune(self, keep: Collection[int]) -> None:
        """Remove all generations but those of `keep` and the live one, and what a cut run left."""
        kept = {str(serial) for serial in (*keep, self.live()) if serial is not None}
        with self._failing("remove old secrets"), suppress(FileNotFoundError):
            for generation in (self.root / self._top).iterdir():
                if generation.name not in kept:
                    shutil.rmtree(generation)

    def _generation(self, serial: int) -> Path:
        return self.root / self._top / str(serial)

    def _read(self, serial: int, name: SecretName) -> bytes:
        *folders, file = name.split("/")
        with (
            durable.folder(self._generation(serial)) as top,
            durable.folder_at(top, tuple(folders)) as parent,
            _file_at(parent, file) as descriptor,
            os.fdopen(os.dup(descriptor), "rb") as content,
        ):
            return content.read()

    def _real(self) -> str:
        """The root as the kernel names it: its parents resolved, itself no link."""
        return str(self.root.parent.resolve() / self.root.name)

    def _make_folder(self, path: Path) -> None:
        path.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        path.chmod(_FOLDER_MODE)  # whatever the umask

    def _write_files(self, new: Path, contents: dict[SecretName, bytes], serial: int) -> None:
        self._make_folder(new)
        with durable.folder(new) as top:
            for name, content in contents.items():
                *folders, file = name.split("/")
                with (
                    self._failing(f"write the secret {name} of release {serial}"),
                    durable.folder_at(top, tuple(folders), make=_FOLDER_MODE) as parent,
                ):
                    durable.write_new_at(parent, file, content, 0o400)

    def _check_room(self, contents: dict[SecretName, bytes]) -> None:
        """A ramfs takes whatever comes, until the machine dies of it: so Bento counts, in pages, on every kind."""
        wanted = sum(_pages(len(content)) for content in contents.values())
        used = sum(_pages(path.lstat().st_size) for path in self.root.rglob("*") if not path.is_dir())
        if wanted + used > self._size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise RuntimeFailed(
                    f"can't {what}: {self.root} is full",
                    f"see what takes the room: du -ah {shlex.quote(str(self.root))}",
                    "or give this host fewer or smaller secrets, on the admin's machine",
                ) from None
            raise RuntimeFailed(f"can't {what} in {self.root}: {(error.strerror or 'unknown error').lower()}") from None


@contextmanager
def _file_at(folder_fd: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _own(descriptor: int, user: int, group: int, mode: int) -> None:
    """Owner, group and mode; a file that has them isn't touched, because services may be reading it."""
    status = os.fstat(descriptor)
    if (status.st_uid, status.st_gid) != (user, group):
        # The mode last: a group that is about to go must not read meanwhile.
        os.fchmod(descriptor, 0o400)
        os.fchown(descriptor, user, group)
    elif stat.S_IMODE(status.st_mode) == mode:
        return
    os.fchmod(descriptor, mode)


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _read_all(generation: Path) -> dict[str, bytes]:
    return {str(path.relative_to(generation)): path.read_bytes() for path in generation.rglob("*") if not path.is_dir()}


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step, so that a live link never dangles; in two where the filesystem can't."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return
    aside = other.with_name(f".old-{other.name}")
    other.rename(aside)
    one.rename(other)
    shutil.rmtree(aside)
