"""What a person gives the secret commands: files to seal, identities to open with."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shlex import quote

from bento.admin.inventory import Fleet
from bento.errors import InputError
from bento.names import SecretName, Target, printable
from bento_secrets.admin_identities import AdminIdentity, load_admin_identities
from bento_secrets.declared import Attributes
from bento_secrets.drafts import NewSecret
from bento_secrets.limits import LIMITS
from bento_secrets.sealing import Plaintext

_ANY_READER, _ANY_WRITER = 0o004, 0o002


def new_secrets(files: Sequence[str], name: str | None, target: Target, attributes: Attributes) -> list[NewSecret]:
    """What to seal: each file by its name, each file of a folder by its path in it, or stdin (`-`) by `name`.

    Raises InputError for what can't be read, is too large, is no file, or has no name.
    """
    if name is not None and Path(files[0]).is_dir():
        said = f"{printable(files[0])} is a folder, and one name doesn't fit all its files"
        raise InputError(said, "leave out --name, or add its files one by one")
    if name is not None and len(files) != 1:
        raise InputError("one name doesn't fit several files", "leave out --name, or add them one by one")
    found = [pair for file in files for pair in _read(file, name)]
    return [NewSecret(target, one, attributes, plaintext) for one, plaintext in found]


def check_mode(attributes: Attributes, *, force: bool) -> None:
    """Refuse a mode that lets every user of the host read the secret, or write to it, unless it is forced."""
    if attributes.mode is not None and int(attributes.mode, 8) & (_ANY_READER | _ANY_WRITER) and not force:
        raise InputError(
            f"mode {attributes.mode} would show the secret to every user and service of the host",
            "name who needs it: --owner USER or --group GROUP --mode 0440",
            "or say that you mean it: --force",
        )


def identities_of(fleet: Fleet, files: Sequence[Path], ask: Callable[[str], str]) -> tuple[AdminIdentity, ...]:
    """The identities in `files`, else in those that bento.toml or bento.local.toml names; none if none are named.

    `ask` gets a prompt and gives a passphrase.
    """
    return load_admin_identities(files or fleet.identity_files, ask)


def need_identities(fleet: Fleet, files: Sequence[Path], ask: Callable[[str], str]) -> tuple[AdminIdentity, ...]:
    """As identities_of, with InputError where there are none."""
    found = identities_of(fleet, files, ask)
    if not found:
        hints = ["name yours: --identity ~/.config/bento/admin.txt"]
        hints.append('or in bento.local.toml: [secrets] identities = ["~/.config/bento/admin.txt"]')
        if not fleet.admins:
            hints.append("no secret is sealed to an admin: put your recipient into bento.toml, [secrets] admins")
        raise InputError("opening a secret takes an identity, and none is named", *hints)
    return found


def _read(file: str, name: str | None) -> Iterator[tuple[SecretName, Plaintext]]:
    if file == "-":
        if name is None:
            raise InputError("a secret from stdin needs a name", "add --name NAME")
        yield SecretName.parse(name), _plaintext(file, sys.stdin.buffer.read(LIMITS.MAX_SECRET + 1))
        return
    path = Path(file)
    try:
        if path.is_dir():
            yield from _read_folder(path)
            return
        parsed = SecretName.parse(path.name if name is None else name)
        with path.open("rb") as handle:  # a FIFO too: `bento secret add web <(pwgen 32 1) --name token`
            yield parsed, _plaintext(file, handle.read(LIMITS.MAX_SECRET + 1))
    except OSError as error:
        raise InputError(
            f"can't read {printable(file)}: {error.strerror}", "name the file to seal, or - to type or pipe its content"
        ) from None


def _read_folder(folder: Path) -> Iterator[tuple[SecretName, Plaintext]]:
    """Each regular file below it. Nothing is followed out of it, and nothing is left out without a word."""
    empty = True
    for parent, folders, names, descriptor in os.fwalk(folder, onerror=_raise):
        folders.sort()
        for name in sorted([*names, *(one for one in folders if _is_link(one, descriptor))]):
            empty = False
            path = Path(parent, name)
            mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                what = "a symlink" if stat.S_ISLNK(mode) else "no regular file"
                raise InputError(
                    f"{path} is {what}, so nothing was added", "take it out of the folder, or add it by itself"
                )
            try:
                parsed = SecretName.parse(path.relative_to(folder).as_posix())
            except InputError as error:
                raise InputError(f"{path}: {error.message}", *error.hints) from None
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            with os.fdopen(opened, "rb") as handle:
                yield parsed, _plaintext(str(path), handle.read(LIMITS.MAX_SECRET + 1))
    if empty:
        raise InputError(f"{folder} is a folder without files", "name one file, or a folder that holds some")


def _is_link(name: str, folder_fd: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode)


def _raise(error: OSError) -> None:
    raise error


def _plaintext(file: str, data: bytes) -> Plaintext:
    shown = printable(file)
    if len(data) > LIMITS.MAX_SECRET:
        raise InputError(
            f"{shown} is larger than {LIMITS.MAX_SECRET} bytes, too much for a secret",
            "seal a key for it instead, and let the host fetch the rest",
        )
    if not data:
        if file != "-":
            raise InputError(f"{shown} is empty: there is nothing to seal", f"see what it is: ls -l {quote(file)}")
        hint = "type it, then Enter and Ctrl-D; or did the command before the pipe fail?"
        raise InputError("standard input is empty: there is nothing to seal", hint)
    return Plaintext(data)
