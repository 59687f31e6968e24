"""The sealed files of a store that is open: where each lies, reading one, finding all, opening one of several."""

import errno
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bento_secrets import durable, staging
from bento_secrets.declared import Declaration
from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.limits import LIMITS
from bento_secrets.lock import Copies, Copy
from bento_secrets.members import Key
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.sealing import Opener, Plaintext, open_sealed


def copy_path(host: HostName, name: SecretName) -> str:
    """Where a host's sealed copy is, in the store; InputError if another's file could be where its folder is."""
    if any(part.lower().endswith(".age") for part in name.split("/")[:-1]):
        raise InputError(f"secret {name} would need a folder that ends in .age, as sealed files do", "rename it")
    return f"{host}/{name}.age"


@dataclass(frozen=True)
class Found:
    """What lies in the store: the sha256 of each sealed file by its path, in hex; "" for what is no readable file.

    `contents` tells which copies hold the same plaintext: a mark for each copy that could be opened, meaningless
    elsewhere. `folder` is the store's.
    """

    digests: Mapping[str, str]
    contents: Mapping[Key, bytes]
    folder: Path


class CopyReader:
    """Reads the copies of the store at `folder_fd`, as they will be once `plan` is finished."""

    def __init__(self, folder_fd: int, plan: staging.Plan | None, lock: Copies) -> None:
        self._folder_fd = folder_fd
        self._plan = plan
        self._lock = lock
        self._holders: dict[tuple[SecretName, Target | None], list[Key]] = {}
        for key, copy in lock.items():
            self._holders.setdefault((key[1], copy.target), []).append(key)

    def sound(self, key: Key) -> bytes | None:
        """The sealed file, if it is there and is what the lock says."""
        copy = self._lock.get(key)
        try:
            content = staging.read(self._folder_fd, copy_path(*key), LIMITS.MAX_CIPHERTEXT, self._plan)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):  # a symlink, or a file where the folder should be
                return None
            raise
        if copy is None or content is None or hashlib.sha256(content).hexdigest() != copy.sha256:
            return None
        return content

    def opened(
        self, declaration: Declaration, first: HostName | None, identities: Sequence[Opener]
    ) -> tuple[Plaintext, Copy]:
        """The declared secret's content and the copy it came from: `first`'s, or the youngest that opens.

        OpenFailed if none does.
        """
        keys = self._holders.get((declaration.name, declaration.target), [])
        keys = sorted(keys, key=lambda key: (key[0] != first, -self._lock[key].sealed, key[0]))
        failed: OpenFailed | None = None
        for key in keys:
            content = self.sound(key)
            if content is None:
                continue
            try:
                return open_sealed(content, identities), self._lock[key]
            except OpenFailed as error:
                failed = failed or error
        what = f"{declaration.name} for {declaration.target}"
        again = f"or add it again: bento secret add {declaration.target} FILE --name {declaration.name} --replace"
        if failed is None:
            raise OpenFailed(f"no host has a sound copy of {what}", again.removeprefix("or "))
        why = failed.message.removeprefix("the sealed file could not be opened: ")
        raise OpenFailed(f"{what} could not be opened: {why}", "name another identity: --identity FILE", again)

    def find(self, folder: Path, identities: Sequence[Opener]) -> Found:
        """All sealed files in the store at `folder`, each read once; opened with `identities`, if there are any."""
        digests: dict[str, str] = {}
        contents: dict[Key, bytes] = {}
        by_path = {f"{host}/{name}.age": (host, name) for host, name in self._lock} if identities else {}
        salt = secrets.token_bytes(32)
        for path, content in self._files():
            digests[path] = "" if content is None else hashlib.sha256(content).hexdigest()
            key = by_path.get(path)
            if content is None or key is None or digests[path] != self._lock[key].sha256:
                continue
            try:
                contents[key] = hmac.digest(salt, open_sealed(content, identities).data, "sha256")
            except OpenFailed:
                continue
        return Found(digests, contents, folder)

    def _files(self) -> Iterator[tuple[str, bytes | None]]:
        planned = self._plan or {}
        for path, number in planned.items():
            if number is not None and path.endswith(".age"):
                yield path, staging.read(self._folder_fd, path, LIMITS.MAX_CIPHERTEXT, planned)
        for folder, folders, names, descriptor in os.fwalk(".", dir_fd=self._folder_fd, onerror=_raise):
            at = folder.removeprefix(".").removeprefix("/")
            folders[:] = [name for name in folders if at or name != staging.STAGED]
            for name in names:
                path = f"{at}/{name}" if at else name
                if name.endswith(".age") and path not in planned:
                    yield path, _content(descriptor, name)


def _content(folder_fd: int, name: str) -> bytes | None:
    try:
        return durable.read_at(folder_fd, name, LIMITS.MAX_CIPHERTEXT)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def _raise(error: OSError) -> None:
    raise error
