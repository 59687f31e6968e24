"""/boot: whether an entry starts a system, in each of the texts that loaders use; and whether there is room."""

from pathlib import Path

import pytest
from unit.samples import OTHER_SYSTEM, SYSTEM

from bento.adapters import bootloader

ENTRY = f"title NixOS\nlinux /EFI/nixos/kernel.efi\noptions init={SYSTEM}/init loglevel=4\n"


@pytest.mark.parametrize("place", ["loader/entries/nixos-generation-7.conf", "grub/grub.cfg", "extlinux/extlinux.conf"])
def test_an_entry_names_its_system_and_no_other(tmp_path: Path, place: str) -> None:
    assert not bootloader.names(tmp_path, SYSTEM)
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(ENTRY)
    assert bootloader.names(tmp_path, SYSTEM)
    assert not bootloader.names(tmp_path, OTHER_SYSTEM)
    assert not bootloader.names(tmp_path, SYSTEM[:-1])


def test_what_cannot_be_read_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "loader/entries/folder.conf").mkdir(parents=True)
    (tmp_path / "grub").symlink_to("/nonexistent")
    assert not bootloader.names(tmp_path / "missing", SYSTEM)
    assert not bootloader.names(tmp_path, SYSTEM)


def test_a_boot_that_is_no_mount_of_its_own_is_never_too_small(tmp_path: Path) -> None:
    for part in ("kernel", "initrd"):
        with (tmp_path / part).open("wb") as file:
            file.truncate(1 << 42)
    assert bootloader.tight(tmp_path, str(tmp_path)) is None
    # the root is a mount, and too small for that
    said = bootloader.tight(Path("/"), str(tmp_path))
    assert said is not None
    assert said.startswith("only ")
