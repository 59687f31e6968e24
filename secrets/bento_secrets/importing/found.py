"""What an importer finds, and the one way in which importers start programs and read files."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Protocol

from bento_secrets.errors import InputError


@dataclass(frozen=True)
class Found:
    """One secret of another tool: `source` as it is shown, its file, its name and its public keys as written.

    `inner` leads to it inside the file; None if it is the whole file. `problem` says why it can't be taken.
    """

    source: str
    file: Path
    name: str
    keys: tuple[str, ...]
    inner: tuple[str, ...] | None = None
    problem: str | None = None


class Runner(Protocol):
    """Starts a program with these variables added to the environment, and gives its stdout.

    Raises BentoError, in the words of its stderr, unless it ends with 0 within `timeout` seconds.
    """

    def __call__(
        self, argv: Sequence[str], *, env: Mapping[str, str], timeout: float, pass_fds: tuple[int, ...] = ()
    ) -> bytes:
        """Its stdout."""
        ...


def read_regular(path: Path, limit: int) -> bytes:
    """A regular file's content; InputError if it is none, can't be read, or is larger than `limit` bytes."""
    try:
        # O_NONBLOCK so that a FIFO can't hold the command.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{path} is no regular file", f"see what it is: ls -l {quote(str(path))}")
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(
            f"{path} can't be read: {(error.strerror or 'unknown error').lower()}",
            f"see whose it is: ls -l {quote(str(path))}",
        ) from None
    if len(content) > limit:
        raise InputError(f"{path} is too large (at most {limit} bytes)", f"see what it is: ls -l {quote(str(path))}")
    return content
