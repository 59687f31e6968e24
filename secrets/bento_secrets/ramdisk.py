"""Is a folder a RAM mount of its own, from which nothing reaches a disk? And the mount(2) that makes it one."""

import ctypes
import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bento_secrets.errors import RuntimeUnsafe

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_WANTED = ("nosuid", "nodev", "noexec")


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5)). `root`: which part of the filesystem is mounted."""

    device: tuple[int, int]
    root: str
    path: str
    options: frozenset[str]
    kind: str
    super_options: frozenset[str]


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts in the kernel's order; of several at one path the last is on top. Odd lines are left out."""
    mounts = []
    for line in text.split("\n"):
        # Optional fields, of any number, end with a lone hyphen.
        first, separator, second = line.partition(" - ")
        fields, rest = first.split(" "), second.split(" ")
        if not separator or len(fields) < 6 or len(rest) < 3:  # noqa: PLR2004 — the fields that are always there
            continue
        major, _, minor = fields[2].partition(":")
        mounts.append(
            Mount(
                (int(major), int(minor)),
                _unescape(fields[3]),
                _unescape(fields[4]),
                frozenset(fields[5].split(",")),
                rest[0],
                frozenset(rest[2].split(",")),
            )
        )
    return mounts


def unsafe_reason(path: str, device: tuple[int, int], mounts: Sequence[Mount], *, swap: bool) -> str | None:
    """Why plaintext must not be written to the folder `path` on `device` (major, minor); None if it may."""
    here = [mount for mount in mounts if mount.path == path]
    if not here or here[-1].device != device:
        return "is no mount of its own, only a folder of what is mounted above it"
    mount = here[-1]
    if mount.root != "/" or any(
        other.device == device and other.path != path and f"{path}/".startswith(other.path.rstrip("/") + "/")
        for other in mounts
    ):
        return "shares its filesystem with another mount above it"
    if mount.kind not in ("tmpfs", "ramfs"):
        return f"is on {_printable_kind(mount.kind)}, not in RAM"
    missing = [option for option in _WANTED if option not in mount.options]
    if missing:
        return f"is mounted without {', '.join(missing)}"
    if mount.kind == "ramfs":
        return None
    if swap and "noswap" not in mount.super_options:
        return "is a tmpfs without noswap, and this machine has swap: plaintext could reach the disk"
    if not any(re.fullmatch(r"size=[1-9][0-9]*[kmg]?", option) for option in mount.super_options):
        return "is a tmpfs without a size limit"
    return None


def _printable_kind(kind: str) -> str:
    """A filesystem's type, for a message."""
    return kind if re.fullmatch(r"[a-z0-9._-]{1,32}", kind) else "something else"


def has_swap(text: str) -> bool:
    """Whether /proc/swaps lists any, below its heading."""
    return any(line.strip() for line in text.split("\n")[1:])


def read_has_swap() -> bool:
    """Whether this machine has swap now. A kernel without swap has no /proc/swaps."""
    try:
        return has_swap(os.fsdecode(Path("/proc/swaps").read_bytes()))
    except FileNotFoundError:
        return False


def is_mounted(path: str) -> bool:
    """Whether anything is mounted at exactly `path`."""
    return any(mount.path == path for mount in _read_mounts())


def check(path: str) -> str:
    """The filesystem's type, `tmpfs` or `ramfs`; RuntimeUnsafe if `path` (absolute, real) mustn't hold plaintext."""
    try:
        status = Path(path).lstat()
    except OSError as error:
        raise RuntimeUnsafe(
            f"the runtime folder {path} can't be used: {(error.strerror or '').lower()}", "mount it: bento-agent run"
        ) from None
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    mounts = _read_mounts()
    reason = unsafe_reason(path, device, mounts, swap=read_has_swap())
    if reason is None and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        reason = "belongs to another user, or others may write to it"
    if reason is not None:
        mounted = any(mount.path == path for mount in mounts)
        raise RuntimeUnsafe(
            f"the runtime folder {path} {reason}",
            f"let the agent mount it: {f'umount {path} && ' if mounted else ''}bento-agent run",
        )
    return [mount.kind for mount in mounts if mount.path == path][-1]


def mount(path: str, size: int) -> None:
    """Mount RAM that is never swapped at the folder `path`, `size` bytes; RuntimeUnsafe if the kernel has none.

    Without noswap (kernels before 6.4, user namespaces) ramfs is next, which never swaps but has no limit of its own. A
    plain tmpfs is last, and only while there is no swap: swap may come later, and then `check` refuses it.
    """
    failed = _mount(path, "tmpfs", f"mode=0751,size={size},noswap")
    if failed == errno.EINVAL:
        failed = _mount(path, "ramfs", "mode=0751")
        if failed and not read_has_swap():
            failed = _mount(path, "tmpfs", f"mode=0751,size={size}")
    if failed:
        raise RuntimeUnsafe(
            f"no RAM filesystem could be mounted at {path}: {os.strerror(failed).lower()}", "run the agent as root"
        )


def _mount(path: str, kind: str, options: str) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    done = libc.mount(b"bento", os.fsencode(path), kind.encode(), flags, options.encode())
    return 0 if done == 0 else ctypes.get_errno()


def _read_mounts() -> list[Mount]:
    return parse_mountinfo(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
