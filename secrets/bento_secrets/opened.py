"""The store's folder while a command has it open: the lock on it, and its two lists."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bento_secrets import durable, staging
from bento_secrets.errors import InputError, StoreFailed
from bento_secrets.limits import LIMITS
from bento_secrets.lost import bring_back

TOML = "secrets.toml"


@contextmanager
def opened(folder: Path, *, writing: bool) -> Iterator[int]:
    """A descriptor of the folder, locked: shared by readers, alone for a writer. InputError, StoreFailed."""
    if not folder.is_dir():
        raise InputError(f"there is no secret store at {folder}", *bring_back(folder, ""))
    try:
        with durable.folder(folder) as folder_fd:
            _lock(folder, folder_fd, fcntl.LOCK_EX if writing else fcntl.LOCK_SH)
            yield folder_fd
    except OSError as error:
        hint = "nothing is half done; mend that, then see what is there: bento secret list" if writing else ""
        raise StoreFailed(f"the secret store {folder} failed: {reason(error)}", *filter(None, [hint])) from None


def text(folder: Path, folder_fd: int, name: str, plan: staging.Plan | None = None) -> str:
    """One of the lists, TOML or LOCK, as it will be once `plan` is finished; InputError if it can't be read as text."""
    limit = LIMITS.MAX_SECRETS_TOML if name == TOML else LIMITS.MAX_SECRETS_LOCK
    path = folder / name
    try:
        content = staging.read(folder_fd, name, limit, plan)
    except IsADirectoryError:
        raise InputError(f"{path} is a folder", *bring_back(folder, name)) from None
    if content is None:
        raise InputError(f"{path} is missing", *bring_back(folder, name))
    if len(content) > limit:
        raise InputError(f"{path} is too large (at most {limit} bytes)", "name a file with fewer identities")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InputError(f"{path} is no UTF-8 text", *bring_back(folder, name)) from None


def reason(error: OSError) -> str:
    """What the machine says, for a message."""
    what = (error.strerror or "unknown error").lower()
    return f"{error.filename}: {what}" if isinstance(error.filename, str) else what


def _lock(folder: Path, folder_fd: int, kind: int) -> None:
    # On the folder itself, so that nothing is left behind and a person's lock never belongs to root.
    deadline = time.monotonic() + LIMITS.LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(folder_fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreFailed(
                    f"another command is writing to the secret store {folder}", "wait for it, or see: ps -C bento"
                ) from None
            time.sleep(0.05)
        else:
            return
