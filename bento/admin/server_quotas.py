"""The part of `bento server apply` that limits what a host can put into its `reports`: the file system's own quotas."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.files import read_capped, store
from bento.adapters.process import run
from bento.core.server_wish import QUOTAS, ServerWish, quota_lines
from bento.errors import WorkFailed

_MOUNTS = Path("/proc/self/mountinfo")
_ON = re.compile(r"(usr)?quota|usrjquota=.+|uquota")  # as ext4, XFS and others show that user quotas are kept
_SMALL = 1024 * 1024  # bytes of the file with the limits that were set last


@dataclass(frozen=True)
class Quotas:
    """`shown` and `do` set the limits, where they aren't set yet; `lacking` says why there can be none, with hints."""

    shown: str | None = None
    do: Callable[[], None] | None = None
    lacking: tuple[str, ...] = ()


def quotas(wish: ServerWish, mounts: Path = _MOUNTS, record: Path = QUOTAS) -> Quotas:
    """What is to be done for the quotas of this server, or why nothing can be."""
    place, options = _file_system(wish.folder, mounts.read_text("utf-8", "surrogateescape"))
    if not any(_ON.fullmatch(option) for option in options):
        return Quotas(
            lacking=(
                f"the file system at {place} keeps no quotas: a host can fill it with reports",
                "on ext4: tune2fs -O quota DEVICE while it isn't mounted, then mount it with usrquota",
            )
        )
    if shutil.which("setquota") is None:
        return Quotas(
            lacking=(
                "setquota is not installed, so a host can fill the disk with reports",
                "on Debian: apt install quota",
            )
        )
    text = quota_lines(wish)
    data = read_capped(record, _SMALL, str(record))
    if data is not None and data.decode("utf-8", "replace") == text:
        return Quotas()
    argv = ("setquota", "--user", "--batch", str(place))

    def do() -> None:
        done = run(argv, stdin=text.encode(), timeout=300)
        if done.code != 0:
            raise WorkFailed(
                f"{' '.join(argv)}: {done.words()}",
                f"all else is done; quotas may have to be switched on: quotaon --user {place}",
            )
        record.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        store(record, text.encode(), 0o644)

    limit = f"{wish.quota} MiB and {wish.quota_files} files"
    return Quotas(f"limit each of {len(wish.hosts)} hosts to {limit}: {' '.join(argv)}", do)


def _file_system(folder: Path, mountinfo: str) -> tuple[Path, tuple[str, ...]]:
    """Where the file system that holds a folder is mounted, and its options. The folder needn't be there yet."""
    real = Path(os.path.realpath(folder))
    best = Path("/")
    options: tuple[str, ...] = ()
    for line in mountinfo.splitlines():
        words = line.split(" ")
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words[4]))
        # The last line of a place is the one that is on top.
        if real.is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, options = mounted, (*words[5].split(","), *words[-1].split(","))
    return best, options
