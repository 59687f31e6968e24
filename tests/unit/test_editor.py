"""Which editor `bento secret edit` starts, and where the text lies meanwhile."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bento.adapters.ramfolder import ram_folder
from bento.admin.editing import Editor, find_editor
from bento.errors import EnvironmentFailed


def program(folder: Path, name: str) -> str:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_visual_comes_before_editor_and_may_have_arguments(tmp_path: Path) -> None:
    one, two = program(tmp_path, "one"), program(tmp_path, "two")
    assert find_editor({"VISUAL": f"{one} -w 'a b'", "EDITOR": two}) == Editor((one, "-w", "a b"), known=False)
    assert find_editor({"VISUAL": " ", "EDITOR": two}) == Editor((two,), known=False)


def test_known_editors_are_told_to_keep_no_copies_also_behind_a_link(tmp_path: Path) -> None:
    vim, gvim, nano, emacs, joe, micro, kak = (
        program(tmp_path, name) for name in ("vim", "gvim", "nano", "emacs", "joe", "micro", "kak")
    )
    (tmp_path / "vi").symlink_to(vim)
    for name in (vim, str(tmp_path / "vi")):
        argv = find_editor({"EDITOR": name}).argv
        assert argv[:4] == (name, "-n", "-i", "NONE")
        assert "noundofile" in argv[-1]
    assert find_editor({"EDITOR": gvim}).argv[:3] == (gvim, "-f", "-n")
    assert find_editor({"EDITOR": nano}).argv == (nano, "--ignorercfiles")
    assert "make-backup-files nil" in find_editor({"EDITOR": emacs}).argv[-1]
    assert find_editor({"EDITOR": joe}).argv == (joe, "-nobackups", "-nodeadjoe")
    assert find_editor({"EDITOR": micro}).argv[:3] == (micro, "-backup", "false")
    for known in (vim, str(tmp_path / "vi"), gvim, nano, emacs, joe, micro, kak):
        assert find_editor({"EDITOR": known}).known


@pytest.mark.parametrize("said", ["/nowhere/editor", "'open"])
def test_no_editor_is_an_error_with_a_hint(said: str) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        find_editor({"EDITOR": said})
    assert caught.value.hints


def test_the_folder_is_private_in_ram_and_gone_afterwards() -> None:
    with ram_folder() as folder:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert subprocess.check_output(["stat", "-f", "-c", "%T", folder.path], text=True).strip() in ("tmpfs", "ramfs")
        (folder.path / "deep").mkdir()
        (folder.path / "deep" / "file").write_bytes(b"plain")
        (folder.path / "link").symlink_to("/etc/passwd")
    assert not folder.path.exists()
    assert Path("/etc/passwd").stat().st_size > 0


def test_a_disk_is_not_taken_for_ram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with ram_folder() as folder:
        assert not folder.path.is_relative_to(tmp_path)


@pytest.mark.root
def test_root_gets_a_tmpfs_without_swap_of_its_own_and_others_are_warned() -> None:
    """In a process of its own, which keeps the namespace that is made."""
    script = """
import os, sys
from bento.adapters import ramfolder
ramfolder.ramdisk.read_has_swap = lambda: True
if sys.argv[1] == "user":
    os.seteuid(65534)
with ramfolder.ram_folder() as folder:
    mounts = [line for line in open("/proc/self/mountinfo") if f" {folder.path} " in line]
    print(folder.warning, mounts, folder.path.stat().st_mode & 0o777)
assert not folder.path.exists()
"""
    run = [sys.executable, "-c", script]
    own = subprocess.check_output([*run, "root"], text=True)
    assert own.startswith("None [")
    assert "noswap" in own or "ramfs" in own
    assert own.strip().endswith(str(0o700))
    assert "may be swapped out" in subprocess.check_output([*run, "user"], text=True)
