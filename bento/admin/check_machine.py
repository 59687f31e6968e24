"""`bento check`, this machine: Nix, room on its disks, and what could bring RAM to a disk."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from bento.adapters.nix import ALONE_AS_ROOT, channel_path, missing_builders, require_nix
from bento.adapters.process import run
from bento.admin.check_found import Finding, Found
from bento.errors import EnvironmentFailed

GIB = 1024**3


@dataclass(frozen=True)
class Room:
    """Below `little` bytes it is an error, below `some` a warning."""

    little: int
    some: int


# A system takes 1 to 5 GiB of the Nix store; a release is a few hundred kilobytes, but reports come too.
STORE_ROOM = Room(GIB, 5 * GIB)
PUBLISH_ROOM = Room(64 * 1024**2, GIB)
_FEW_FILES = 1000  # inodes

OLDEST_NIX = (2, 8)  # what Bento is tested with; older ones lack `nix build --json`
_FLAKES = ("--extra-experimental-features", "nix-command flakes")
_TARGETS = ("hibernate.target", "hybrid-sleep.target", "suspend-then-hibernate.target")
_HIBERNATE = Path("/etc/systemd/system/hibernate.target")


def check_nix(kinds: Iterable[str]) -> Iterator[Found]:
    """Nix, its version, and what the fleet's kinds of configuration (`flake`, `channel`) need of it.

    Raises EnvironmentFailed without Nix. The Nix store is not opened: that could make one.
    """
    require_nix()
    said = run(["nix", "--version"], timeout=60).out.decode("utf-8", "replace").strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_NIX:
        hint = f"take {'.'.join(map(str, OLDEST_NIX))} or newer: nix upgrade-nix"
        yield Finding("warning", "machine", f"Bento is not tested with this Nix: {said[:80] or 'no version'}", (hint,))
    if group := missing_builders():
        said = f"Nix builds nothing for root here: its build users' group, {group}, isn't there"
        yield Finding("error", "machine", said, ALONE_AS_ROOT)
    kinds = set(kinds)
    if "flake" in kinds:
        done = run(["nix", *_FLAKES, "eval", "--store", "dummy://", "--expr", "1"], timeout=60)
        if done.code != 0:
            hint = "try it: nix --extra-experimental-features 'nix-command flakes' eval --expr 1"
            yield Finding("error", "machine", f"this Nix can't be used with flakes: {done.words()}", (hint,))
    if "channel" in kinds and channel_path() is None:
        yield Finding(
            "error",
            "machine",
            "hosts with a configuration.nix are built from <nixpkgs>, and this machine has none",
            ("nix-channel --add https://nixos.org/channels/nixos-26.05 nixos && nix-channel --update",),
        )


def check_room(folder: Path, room: Room, what: str, hint: str) -> Iterator[Found]:
    """Free space where `folder` is or would be."""
    while not folder.exists():
        folder = folder.parent
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise EnvironmentFailed(
            f"can't look at {folder}: {error.strerror}", f"see whose it is: ls -ld {quote(str(folder))}"
        ) from None
    free = status.f_bavail * status.f_frsize
    if free < room.some:
        said = f"{free / GIB:.1f} GiB are left for {what} on the file system of {folder}"
        yield Finding("error" if free < room.little else "warning", "machine", said, (hint,))
    if status.f_files and status.f_favail < _FEW_FILES:
        said = f"{status.f_favail} more files fit on the file system of {folder}, for {what}"
        yield Finding("error", "machine", said, (hint, f"see: df -i {quote(str(folder))}"))


def check_memory(
    swaps: Path = Path("/proc/swaps"), states: Path = Path("/sys/power/state"), masked: Path = _HIBERNATE
) -> Iterator[Found]:
    """Swap and hibernation: an open secret is in RAM (`bento secret edit|show`), and these write RAM to a disk."""
    on_disk = [line.split()[0] for line in _lines(swaps)[1:] if line.strip() and not line.startswith("/dev/zram")]
    can_hibernate = "disk" in " ".join(_lines(states)).split() and not _is_masked(masked)
    if not on_disk:
        return
    where = ", ".join(on_disk)
    if can_hibernate:
        yield Finding(
            "warning",
            "machine",
            f"this machine can hibernate to {where}: a secret that is open then is written there",
            (f"if that disk isn't encrypted: systemctl mask {' '.join(_TARGETS)}",),
        )
    if os.geteuid() != 0:
        yield Finding(
            "note",
            "machine",
            f"this machine swaps to {where}: only root gets RAM for `bento secret edit` that is never swapped",
            ("if that disk isn't encrypted, edit as root: sudo bento secret edit TARGET NAME",),
        )


def _is_masked(unit: Path) -> bool:
    try:
        return str(unit.readlink()) == os.devnull
    except OSError:
        return False


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
