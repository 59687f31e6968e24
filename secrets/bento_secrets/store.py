"""The secret store: a fleet's `secrets/` folder, holding sealed files, their declarations and the lock."""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bento_secrets import durable, staging
from bento_secrets.declared import Attributes, Declaration, parse_declarations, put_declaration
from bento_secrets.errors import InputError, StoreFailed
from bento_secrets.limits import LIMITS
from bento_secrets.lock import Copies, Copy, parse_lock, render_lock
from bento_secrets.members import Member, effective
from bento_secrets.names import Digest, HostName, SecretName, Target, did_you_mean
from bento_secrets.recipients import Recipient, texts
from bento_secrets.sealing import Plaintext, seal

_TOML = "secrets.toml"
_LOCK = "secrets.lock"
_NEW_FILES = {
    ".gitignore": "# Only sealed files and their lists belong in git.\n*\n!*/\n!*.age\n"
    + "".join(f"!/{name}\n" for name in (_TOML, _LOCK, ".gitignore")),
    _TOML: """\
# The fleet's secrets: what each is called, for whom it is, and what it looks like on a host.
# `bento secret add` writes here, and so may you. Its content is in HOST/NAME.age, sealed.
#
# [[secret]]
# target = "router"              # a host, or "@tag"
# name = "wireguard/private"
# owner = "systemd-network"      # root if left out, and so is the group
# group = "systemd-network"
# mode = "0400"
# path = "/etc/wireguard/key"    # a link to the secret; without it: /run/bento/secrets/wireguard/private
# restart = ["systemd-networkd.service"]
# reload = []
""",
    _LOCK: render_lock({}),
}


@dataclass(frozen=True)
class StoreState:
    """What the store declares and which sealed copies it should hold."""

    declarations: tuple[Declaration, ...]
    lock: Copies


class SecretStore:
    """The store in `folder`. Every change is all or none; a cut one is finished or dropped by the next that writes.

    Symlinks inside the folder are never followed. Methods raise InputError for what a person wrote, StoreFailed for
    what the machine can't do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder and those of its files that are missing; what is there stays."""
        try:
            self.folder.mkdir(mode=0o755)
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreFailed(f"{self.folder} can't be made: {_reason(error)}") from None
        with self._opened(writing=True) as folder_fd:
            staging.settle(folder_fd)
            missing = {name: text.encode() for name, text in _NEW_FILES.items() if not _exists(folder_fd, name)}
            if missing:
                staging.commit(folder_fd, missing)

    def read(self) -> StoreState:
        """The store as of now. Writes nothing: a change that was cut after its commit is read as if finished."""
        with self._opened(writing=False) as folder_fd:
            plan = staging.read_plan(folder_fd)
            return self._state(self._text(folder_fd, _TOML, plan), self._text(folder_fd, _LOCK, plan))

    def add(
        self,
        target: Target,
        name: SecretName,
        attributes: Attributes,
        plaintext: Plaintext,
        members: Sequence[Member],
        admins: Sequence[Recipient],
        *,
        replace: bool,
        now: int,
    ) -> tuple[HostName, ...]:
        """Seal `plaintext` for each host that gets `name` by `target`, and declare it; the hosts, by name.

        A host of a tag that has its own secret of that name is left out. With `replace` the secret must exist, and what
        `attributes` doesn't say stays as declared; without it, it mustn't. `now` is UTC seconds.
        """
        with self._opened(writing=True) as folder_fd:
            staging.settle(folder_fd)
            toml, lock = self._text(folder_fd, _TOML), self._text(folder_fd, _LOCK)
            state = self._state(toml, lock)
            declaration = attributes.over(_base(state.declarations, target, name, replace=replace))
            receivers = _receivers(_with(state.declarations, declaration), members, declaration)
            files: dict[str, bytes] = {}
            copies = dict(state.lock)
            # All sealing comes before any writing: a bad recipient leaves nothing behind.
            for member in receivers:
                sealed = seal(plaintext, [member.recipient, *admins])
                files[copy_path(member.name, name)] = sealed
                digest = Digest(hashlib.sha256(sealed).hexdigest())
                copies[member.name, name] = Copy(digest, texts([member.recipient, *admins]), now)
            files[_TOML] = put_declaration(toml, declaration, str(self.folder / _TOML)).encode()
            files[_LOCK] = render_lock(copies).encode()
            staging.commit(folder_fd, files)
        return tuple(member.name for member in receivers)

    def ciphertext(self, host: HostName, name: SecretName, lock: Copies | None = None) -> bytes:
        """The sealed copy, compared with secrets.lock (`lock`, if the caller has read it); InputError if it differs."""
        path = copy_path(host, name)
        with self._opened(writing=False) as folder_fd:
            plan = staging.read_plan(folder_fd)
            if lock is None:
                lock = parse_lock(self._text(folder_fd, _LOCK, plan), str(self.folder / _LOCK))
            content = staging.read(folder_fd, path, LIMITS.MAX_CIPHERTEXT, plan)
        again = f"seal it again: bento secret add TARGET FILE --name {name} --replace"
        copy = lock.get((host, name))
        if copy is None:
            raise InputError(f"host {host} has no copy of secret {name} in {self.folder / _LOCK}", again)
        if content is None:
            raise InputError(f"{self.folder / path} is missing", f"git checkout HEAD -- {self.folder / path}", again)
        if hashlib.sha256(content).hexdigest() != copy.sha256:
            raise InputError(
                f"{self.folder / path} isn't the file that {_LOCK} names: changed, or merged without the lock",
                f"take both from one commit: git checkout COMMIT -- {self.folder / path} {self.folder / _LOCK}",
                again,
            )
        return content

    def _state(self, toml: str, lock: str) -> StoreState:
        return StoreState(
            parse_declarations(toml, str(self.folder / _TOML)), parse_lock(lock, str(self.folder / _LOCK))
        )

    def _text(self, folder_fd: int, name: str, plan: staging.Plan | None = None) -> str:
        limit = LIMITS.MAX_SECRETS_TOML if name == _TOML else LIMITS.MAX_SECRETS_LOCK
        path = self.folder / name
        try:
            content = staging.read(folder_fd, name, limit, plan)
        except IsADirectoryError:
            raise InputError(f"{path} is a folder", f"take the file from git: git checkout HEAD -- {path}") from None
        if content is None:
            raise InputError(f"{path} is missing", f"take it from git: git checkout HEAD -- {path}")
        if len(content) > limit:
            raise InputError(f"{path} is too large (at most {limit} bytes)")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise InputError(f"{path} is no UTF-8 text", f"take it from git: git checkout HEAD -- {path}") from None

    @contextmanager
    def _opened(self, *, writing: bool) -> Iterator[int]:
        """A descriptor of the folder, locked: shared by readers, alone for a writer."""
        if not self.folder.is_dir():
            raise InputError(
                f"there is no secret store at {self.folder}", f"take it from git: git checkout HEAD -- {self.folder}"
            )
        try:
            with durable.folder(self.folder) as folder_fd:
                self._lock(folder_fd, fcntl.LOCK_EX if writing else fcntl.LOCK_SH)
                yield folder_fd
        except OSError as error:
            hint = "nothing is half done; mend that, then see what is there: bento secret list" if writing else ""
            raise StoreFailed(
                f"the secret store {self.folder} failed: {_reason(error)}", *filter(None, [hint])
            ) from None

    def _lock(self, folder_fd: int, kind: int) -> None:
        # On the folder itself, so that nothing is left behind and a person's lock never belongs to root.
        deadline = time.monotonic() + LIMITS.LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(folder_fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreFailed(
                        f"another command is writing to the secret store {self.folder}",
                        "wait for it, or see: ps -C bento",
                    ) from None
                time.sleep(0.05)
            else:
                return


def copy_path(host: HostName, name: SecretName) -> str:
    """Where a host's sealed copy is, in the store; InputError if another's file could be where its folder is."""
    if any(part.lower().endswith(".age") for part in name.split("/")[:-1]):
        raise InputError(f"secret {name} would need a folder that ends in .age, as sealed files do", "rename it")
    return f"{host}/{name}.age"


def _base(declarations: Sequence[Declaration], target: Target, name: SecretName, *, replace: bool) -> Declaration:
    """What is declared so far, or a new declaration; InputError if `replace` says otherwise."""
    for one in declarations:
        if (one.target, one.name) == (target, name):
            if not replace:
                raise InputError(f"secret {name} for {target} exists already", "to give it new content: --replace")
            return one
    if replace:
        known = {one.name for one in declarations if one.target == target}
        raise InputError(
            f"there is no secret {name} for {target} to replace",
            *did_you_mean(name, known),
            "to add it, leave out --replace",
        )
    return Declaration(target, name)


def _with(declarations: Sequence[Declaration], new: Declaration) -> list[Declaration]:
    others = [one for one in declarations if (one.target, one.name) != (new.target, new.name)]
    return [*others, new]


def _receivers(declarations: Sequence[Declaration], members: Sequence[Member], new: Declaration) -> list[Member]:
    wanted = effective(declarations, members)
    receivers = [member for member in members if wanted[member.name].get(new.name) is new]
    if not receivers:
        raise InputError(
            f"every host of {new.target} has its own secret {new.name}",
            f"replace it there: bento secret add HOST FILE --name {new.name} --replace",
        )
    return sorted(receivers, key=lambda member: member.name)


def _exists(folder_fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _reason(error: OSError) -> str:
    what = (error.strerror or "unknown error").lower()
    return f"{error.filename}: {what}" if isinstance(error.filename, str) else what
