"""Links elsewhere: made and removed only where they are Bento's, whatever a user does in his folders meanwhile."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bento_secrets import links
from bento_secrets.errors import InputError, LinkRefused
from bento_secrets.links import apply_links, link_paths
from bento_secrets.names import Digest, SecretName
from bento_secrets.runtime import Installed

NOBODY = 65534
ENOUGH = 2000  # where symlinks are followed, some dozen show it


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "run"


def link(path: Path | None, name: str = "a") -> Installed:
    place = None if path is None else str(path)
    return Installed(SecretName(name), "root", "root", "0400", place, (), (), Digest("0" * 64))


def apply(root: Path, wanted: list[Installed], before: list[Installed]) -> None:
    apply_links(root, wanted, link_paths(before))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_links_are_made_moved_and_removed(tmp_path: Path, root: Path) -> None:
    first, second = tmp_path / "etc/app/key", tmp_path / "key2"
    apply(root, [link(first), link(None, "nolink")], [])
    assert str(first.readlink()) == f"{root}/secrets/a"
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o755
    apply(root, [link(first, "b/c"), link(second)], [link(first)])
    assert (str(first.readlink()), str(second.readlink())) == (f"{root}/secrets/b/c", f"{root}/secrets/a")
    before = first.lstat()
    apply(root, [link(first, "b/c")], [link(first, "b/c"), link(second)])
    assert first.lstat() == before
    assert not second.is_symlink()
    assert names(first.parent) == ["key"]


def test_a_link_moves_to_a_place_below_where_it_stood(tmp_path: Path, root: Path) -> None:
    top, below = tmp_path / "b", tmp_path / "b/c/d"
    apply(root, [link(top)], [])
    apply(root, [link(below)], [link(top)])
    assert str(below.readlink()) == f"{root}/secrets/a"
    assert not top.is_symlink()
    # back again the folders stand in the way: they may be anybody's by now
    with pytest.raises(LinkRefused, match=f"{top} is there already"):
        apply(root, [link(top)], [link(below)])
    assert below.is_symlink()


def test_a_link_that_somebody_replaced_is_no_way_through(tmp_path: Path, root: Path) -> None:
    top = tmp_path / "b"
    (tmp_path / "elsewhere").mkdir()
    top.symlink_to("elsewhere")
    with pytest.raises(LinkRefused, match="through a symlink"):
        apply(root, [link(top / "c")], [link(top)])
    assert names(tmp_path / "elsewhere") == []
    assert str(top.readlink()) == "elsewhere"


def test_somebodys_file_is_never_touched_and_then_nothing_changes(tmp_path: Path, root: Path) -> None:
    mine, theirs, old = tmp_path / "mine", tmp_path / "theirs", tmp_path / "old"
    apply(root, [link(old)], [])
    for make in (
        lambda: theirs.write_text("x"),
        lambda: theirs.symlink_to("/etc/passwd"),
        lambda: theirs.symlink_to(f"{root}/secrets"),
        lambda: theirs.symlink_to(f"{root}/secretsx/a"),
        theirs.mkdir,
    ):
        make()
        with pytest.raises(LinkRefused, match=str(theirs)):
            apply(root, [link(mine), link(theirs, "b")], [link(old)])
        assert (mine.is_symlink(), old.is_symlink(), theirs.lstat().st_size >= 0) == (False, True, True)
        apply(root, [], [link(theirs)])  # not Bento's to remove either
        assert theirs.lstat()
        theirs.rmdir() if theirs.is_dir() and not theirs.is_symlink() else theirs.unlink()


def test_a_symlink_on_the_way_is_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "way").symlink_to("real")
    with pytest.raises(LinkRefused, match="through a symlink"):
        apply(root, [link(tmp_path / "way/key")], [])
    (tmp_path / "real/key").symlink_to(f"{root}/secrets/a")
    apply(root, [], [link(tmp_path / "way/key")])
    assert (tmp_path / "real/key").is_symlink()


@pytest.mark.root
def test_missing_folders_are_made_only_where_root_alone_can_write(tmp_path: Path, root: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    with pytest.raises(LinkRefused, match="isn't root's alone") as caught:
        apply(root, [link(home / ".config/app/key")], [])
    assert f"mkdir -p {home}/.config/app" in caught.value.hints[0]
    assert names(home) == []
    apply(root, [link(home / "key")], [])
    assert (home / "key").is_symlink()


def test_two_secrets_with_one_path_are_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(InputError):
        apply(root, [link(tmp_path / "x"), link(tmp_path / "x", "b")], [])


@pytest.mark.parametrize("wanted", ["b", None], ids=["replaced", "removed"])
def test_what_somebody_puts_in_the_links_place_at_the_last_moment_stays(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    place = tmp_path / "key"
    apply(root, [link(place)], [])
    real = links._rename

    def late(folder: int, one: str, other: str, flags: int) -> bool:
        if place.is_symlink() and str(place.readlink()).endswith("/a"):
            place.unlink()
            place.write_text("theirs")
        return real(folder, one, other, flags)

    monkeypatch.setattr(links, "_rename", late)
    if wanted is None:
        apply(root, [], [link(place)])
    else:
        with pytest.raises(LinkRefused, match="isn't Bento's"):
            apply(root, [link(place, wanted)], [link(place)])
    assert place.read_text() == "theirs"
    assert names(tmp_path) == ["key"]


# What a user does in his own folder while root works: swaps the folder `app`, and what is in it, for links to others'.
_RACER = """
import os, sys
home, victim, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(home)
os.setgroups([]); os.setgid(uid); os.setuid(uid)
print("on", flush=True)
def quietly(call, *args):
    try: call(*args)
    except OSError: pass
while True:
    quietly(os.rename, "app", "aside")
    quietly(os.symlink, victim, "app")
    quietly(os.unlink, "app")
    quietly(os.rename, "aside", "app")
    quietly(os.symlink, victim + "/theirs", "app/key")
    quietly(os.rename, "app/key", "app/old")
    quietly(os.unlink, "app/old")
    quietly(os.rmdir, "app/deep")
    quietly(os.symlink, victim, "app/deep")
    quietly(os.unlink, "app/deep")
"""


@contextmanager
def racing(home: Path, victim: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", _RACER, str(home), str(victim), str(NOBODY)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            yield
        finally:
            process.kill()


def outside(victim: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(victim.rglob("*")):
        status = path.lstat()
        content = bytes(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(victim))] = (status.st_ino, status.st_mode, content)
    return found


def race(tmp_path: Path, root: Path, enough: int) -> tuple[bool, dict[str, int]]:
    """Make and remove links in a user's folders while he swaps them; whether another's folder changed.

    It ends when root was let through and was stopped, each so many times; or after two minutes.
    """
    home, victim = tmp_path / "home", tmp_path / "victim"
    (home / "app").mkdir(parents=True)
    for folder in (home, home / "app"):
        os.chown(folder, NOBODY, NOBODY)
    victim.mkdir()
    (victim / "theirs").write_text("x")
    # the very names that Bento would make and remove, as links of Bento's: only the folder is another
    (victim / "key").symlink_to(f"{root}/secrets/a")
    before = outside(victim)
    key, deep = link(home / "app/key"), link(home / "app/deep/key", "b")
    done = {"made": 0, "refused": 0}
    end = time.monotonic() + 120
    with racing(home, victim):
        while time.monotonic() < end and outside(victim) == before and min(done.values()) < enough:
            for wanted, old in (
                ([key], []),
                ([link(home / "app/key", "c")], [key]),
                ([deep], [key]),
                ([], [key, deep]),
            ):
                try:
                    apply(root, wanted, old)
                    done["made"] += 1
                except LinkRefused:
                    done["refused"] += 1
    return outside(victim) != before, done


@pytest.mark.root
def test_a_user_who_swaps_his_folders_for_links_gets_nothing_made_or_removed_elsewhere(
    tmp_path: Path, root: Path
) -> None:
    changed, done = race(tmp_path, root, ENOUGH)
    assert not changed
    assert min(done.values()) >= ENOUGH, done


@pytest.mark.root
def test_the_race_is_won_by_the_user_where_symlinks_are_followed(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_FOLDER", links._FOLDER & ~os.O_NOFOLLOW)
    assert race(tmp_path, root, 100 * ENOUGH)[0]
