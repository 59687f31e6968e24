"""A deploy reads nothing that hasn't changed, and misses nothing that has: in the fleet, and where it is published."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.desk import Desk, edit, keeping_times, put_another
from unit.samples import WEB, key_file, public

from bento.admin import pack, workspace
from bento.admin.build import How
from bento.admin.inventory import load_fleet, load_trust
from bento.admin.plan import plan_deploy
from bento.errors import BentoError
from bento.names import Digest


def test_the_second_deploy_reads_no_file_of_a_host_and_no_object(desk: Desk) -> None:
    """The control, which trusts nothing, reads them."""

    def plan() -> None:
        plan_deploy(load_fleet(desk.root), load_trust(desk.root), (WEB,), desk.clock, signing=False)

    assert set(desk.changed()) == {"web", "db"}
    known = desk.published_tree().name
    assert desk.reads(desk.changed) >= {known}  # the objects, for the first time
    assert desk.reads(desk.changed) == set()
    assert desk.reads(lambda: desk.changed(names=["web"])) == set()
    assert desk.reads(plan) == set()
    assert desk.reads(lambda: desk.changed(How(anew=True))) >= {"configuration.nix", "one.nix", known}


@pytest.mark.parametrize("change", [edit, put_another])
@pytest.mark.parametrize("name", ["configuration.nix", "more/one.nix", "utils/common.nix"])
def test_a_file_changed_with_its_size_and_mtime_kept_is_published(
    desk: Desk, name: str, change: Callable[[Path], None]
) -> None:
    desk.deploy()
    assert desk.changed() == {}
    keeping_times(desk.file(name), change)
    assert desk.changed() == {"web": ("configuration",)}
    assert desk.content()[name] == desk.file(name).read_bytes()


def same_stamp(patch: pytest.MonkeyPatch) -> None:
    """A file system whose clock stands still: of a file changed in its place, only the size may differ."""
    patch.setattr(pack, "stamp_of", lambda status: (0, 0, status.st_size, 0, status.st_ctime_ns // 10**12 * 10**12))


def test_a_file_edited_within_one_tick_of_the_clock_is_published(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    same_stamp(monkeypatch)
    desk.young(3600)
    desk.deploy()
    desk.deploy()
    keeping_times(desk.file(), edit)
    assert desk.changed() == {"web": ("configuration",)}


def test_the_control_without_that_rule_the_edit_is_missed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    same_stamp(monkeypatch)
    desk.deploy()
    keeping_times(desk.file(), edit)
    assert desk.changed() == {}


def make_executable(desk: Desk) -> None:
    desk.file().chmod(0o755)


def rename_one(desk: Desk) -> None:
    desk.file("more/one.nix").rename(desk.file("more/two.nix"))
    desk.file("here.nix").unlink()
    desk.file("here.nix").symlink_to("more/two.nix")


def add_one(desk: Desk) -> None:
    desk.file("more/two.nix").write_text("{ }\n")


def add_a_folder(desk: Desk) -> None:
    desk.file("empty").mkdir()


def remove_one(desk: Desk) -> None:
    desk.file("here.nix").unlink()


def turn_a_link(desk: Desk) -> None:
    desk.file("here.nix").unlink()
    desk.file("here.nix").symlink_to("configuration.nix")


def swap(desk: Desk) -> None:
    one, other = desk.file("configuration.nix"), desk.file("more/one.nix")
    one.rename(desk.root / "kept")
    other.rename(one)
    (desk.root / "kept").rename(other)


@pytest.mark.parametrize("change", [make_executable, rename_one, add_one, add_a_folder, remove_one, turn_a_link, swap])
def test_any_other_change_of_a_tree_is_published(desk: Desk, change: Callable[[Desk], None]) -> None:
    desk.deploy()
    assert desk.changed() == {}
    change(desk)
    assert desk.changed() == {"web": ("configuration",)}


def test_a_private_key_that_comes_into_a_known_tree_is_refused(desk: Desk) -> None:
    secret = key_file(desk.root.parent / "key", 5).read_bytes()
    desk.file("note").write_bytes(b"#" * len(secret))
    desk.deploy()
    assert desk.changed() == {}
    keeping_times(desk.file("note"), lambda path: path.write_bytes(secret))
    done = desk.deploy()
    assert "hosts/web/note holds a private key" in done.failed[WEB].message


def drop(path: Path) -> None:
    path.unlink()


def rot(path: Path) -> None:
    keeping_times(path, edit)


def swap_in(path: Path) -> None:
    keeping_times(path, put_another)


def cut(path: Path) -> None:
    os.truncate(path, 10)


@pytest.mark.parametrize("harm", [drop, rot, swap_in, cut])
def test_an_object_that_is_lost_or_damaged_is_published_anew_by_the_next_deploy(
    desk: Desk, harm: Callable[[Path], None]
) -> None:
    desk.deploy()
    desk.deploy()
    assert desk.changed() == {}
    known = desk.published_tree()
    harm(known)
    assert desk.changed() == {"web": ("objects",)}
    assert hashlib.sha256(known.read_bytes()).hexdigest() == known.name


def test_a_manifest_that_is_lost_is_published_anew_and_one_that_was_changed_is_noticed(desk: Desk) -> None:
    desk.deploy()
    assert desk.changed() == {}
    manifest = desk.publish / "web/release/manifest"
    whole = manifest.read_bytes()
    keeping_times(manifest, edit)
    assert list(desk.deploy().failed) == ["web"]  # it is signed by nobody whom the host is known to trust
    manifest.write_bytes(whole)
    assert desk.changed() == {}
    manifest.unlink()
    assert set(desk.changed()) == {"web"}


def test_a_release_by_somebody_who_is_no_longer_a_signer_is_nobody_s_however_often_it_was_verified(desk: Desk) -> None:
    desk.deploy()
    assert desk.changed() == {}
    key_file(desk.root.parent / "other", 2, pub=True)
    for name, old, new in (
        ("utils/trust.toml", public(1).line, public(2).line),
        ("bento.toml", f"{desk.root.parent}/signing", f"{desk.root.parent}/other"),
    ):
        text = (desk.root / name).read_text()
        assert old in text
        (desk.root / name).write_text(text.replace(old, new))
    assert set(desk.deploy().failed) == {"web", "db"}


def test_a_lost_or_damaged_memory_costs_no_more_than_time(desk: Desk) -> None:
    desk.deploy()
    (kept,) = (desk.root.parent / "state").rglob("stamps")
    for harm in (kept.unlink, lambda: kept.write_bytes(b"x" * 100), lambda: kept.write_bytes(b"")):
        harm()
        assert desk.changed() == {}
        assert desk.reads(desk.changed) == set()


def test_packed_trees_that_went_are_packed_again(desk: Desk) -> None:
    desk.deploy()
    for tar in (desk.root.parent / "state").rglob("*.tar"):
        tar.unlink()
    (desk.publish / "web/release/manifest").unlink()
    assert set(desk.changed()) == {"web"}
    assert desk.content()["configuration.nix"] == desk.file().read_bytes()


def test_what_a_deploy_of_one_host_sees_leaves_the_others_known(desk: Desk) -> None:
    desk.deploy()
    desk.deploy()
    keeping_times(desk.file(), edit)
    assert desk.changed(names=["web"]) == {"web": ("configuration",)}
    assert desk.reads(lambda: desk.changed(names=["db"])) == set()


def test_a_folder_that_was_put_in_another_s_place_while_it_was_packed_is_not_taken_for_the_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files keep all their stamps: only whoever looks again sees that what was packed isn't what was seen."""
    web, other = desk.root / "hosts/web", desk.root / "hosts/other"
    shutil.copytree(web, other, symlinks=True)
    (other / "configuration.nix").write_text("{ other = 1; }\n")

    def swap() -> None:
        web.rename(desk.root / "kept")
        other.rename(web)
        (desk.root / "kept").rename(other)

    real = workspace.Workspace.pack

    def late(self: workspace.Workspace, tree: pack.Tree) -> tuple[Digest, int]:
        swap()
        return real(self, tree)

    with monkeypatch.context() as patch:
        patch.setattr(workspace.Workspace, "pack", late)
        assert desk.changed(names=["web"]) == {"web": ("first release",)}
    assert desk.content()["configuration.nix"] == b"{ other = 1; }\n"
    swap()
    assert desk.changed(names=["web"]) == {"web": ("configuration",)}


def test_a_deploy_that_fails_remembers_nothing_false(desk: Desk) -> None:
    desk.deploy()
    keeping_times(desk.file(), edit)
    desk.publish.rename(desk.root / "kept")
    with pytest.raises(BentoError):
        desk.deploy()
    (desk.root / "kept").rename(desk.publish)
    assert desk.changed() == {"web": ("configuration",)}
