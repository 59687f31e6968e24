"""What is missing is said before anything is made."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from bento.demo import needs
from bento.demo.play import play
from bento.errors import EnvironmentFailed


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with everything on it, for root; nothing else is looked at."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (*needs._FROM_UTIL_LINUX, *needs._PROGRAMS):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path: which(name, path=path.removesuffix(":/usr/sbin:/sbin")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return folder


def complaint() -> EnvironmentFailed:
    with pytest.raises(EnvironmentFailed) as error:
        play(keep=False)
    assert error.value.hints
    assert not list(Path(tempfile.gettempdir()).glob("bento-demo-*"))
    return error.value


def test_with_everything_there_it_gives_the_path(path: Path) -> None:
    assert str(path) in needs.find_programs().split(":")


def test_it_needs_root(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in complaint().message


@pytest.mark.parametrize(
    ("program", "package"), [("nix", "nix-bin"), ("ssh-keygen", "openssh-client"), ("nsenter", "util-linux")]
)
def test_it_names_the_program_that_is_missing(path: Path, program: str, package: str) -> None:
    (path / program).unlink()
    error = complaint()
    assert program in error.message
    assert package in " ".join(error.hints)


@pytest.mark.parametrize("folder", ["/run", "/nix", "/demo"])
def test_it_refuses_what_its_machines_would_not_see(path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "_HIDDEN", (path,))
    assert str(path) in complaint().message
    monkeypatch.setattr(needs, "_HIDDEN", (Path("/nix"), Path("/run"), Path("/demo")))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: folder)
    with pytest.raises(EnvironmentFailed, match="temporary files"):
        needs.find_programs()
