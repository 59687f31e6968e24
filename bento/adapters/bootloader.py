"""What /boot says of itself, for the boot loaders whose entries are text: systemd-boot, GRUB, extlinux. Only read."""

import os
from pathlib import Path

from bento.adapters.files import read_capped
from bento.errors import BentoError

_LARGEST = 4 * 1024 * 1024  # bytes; a grub.cfg of 100 generations with specialisations is about 1 MiB
_MIB = 1024 * 1024


def names(boot: Path, system: str) -> bool:
    """Whether an entry starts `system`. False also where the entries are of a kind that isn't known here."""
    wanted = f"init={system}/init".encode()
    entries = sorted((boot / "loader/entries").glob("*.conf"))
    for path in (*entries, boot / "grub/grub.cfg", boot / "extlinux/extlinux.conf"):
        try:
            text = read_capped(path, _LARGEST, str(path))
        except BentoError:
            continue
        if text is not None and wanted in text:
            return True
    return False


def tight(boot: Path, system: str) -> str | None:
    """A sentence where a /boot of its own has less room than the kernel and initrd of `system` take; else None.

    The next release with another kernel would not fit, and a full /boot can pass for success (nixpkgs#189966).
    """
    try:
        if not boot.is_mount():
            return None
        room = os.statvfs(boot)
        needed = sum((Path(system) / part).stat().st_size for part in ("kernel", "initrd"))
    except OSError:
        return None
    free = room.f_bavail * room.f_frsize
    if free >= needed:
        return None
    return f"only {free // _MIB} MiB are free on {boot}, and another kernel takes {-(-needed // _MIB)}"
