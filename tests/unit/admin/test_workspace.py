"""What this machine remembers between commands: never "built" of what isn't there; losing it is harmless."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from unit.samples import WEB, digest

from bento.adapters.files import Busy
from bento.admin.pack import collect
from bento.admin.workspace import Unpacking, Workspace
from bento.errors import WorkFailed
from bento.models.signed import sha256
from bento.names import SystemPath

KEY = digest("inputs")


@pytest.fixture
def workspace(fleet_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Workspace(fleet_root)
    made.prepare()
    return made


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SystemPath:
    """A system that exists, in a stand-in for the Nix store."""
    path = tmp_path / ("a" * 32 + "-nixos-system-web")
    path.mkdir()
    monkeypatch.setattr(SystemPath, "parse", classmethod(lambda cls, text: cls(text)))
    return SystemPath(path)


def test_two_fleets_have_two_workspaces_apart_from_the_fleets(
    workspace: Workspace, fleet_root: Path, tmp_path: Path
) -> None:
    assert workspace.root.is_relative_to(tmp_path / "state")
    assert Workspace(fleet_root).root == workspace.root
    assert Workspace(tmp_path / "elsewhere" / fleet_root.name).root != workspace.root


def test_what_was_built_is_remembered_for_the_same_inputs_only(workspace: Workspace, system: SystemPath) -> None:
    assert workspace.built(WEB, KEY) is None
    workspace.gc_root(WEB).symlink_to(system)
    workspace.remember(WEB, KEY, system)
    assert workspace.built(WEB, KEY) == system
    assert workspace.built(WEB, digest("other inputs")) is None


@pytest.mark.parametrize("damage", ["root gone", "root elsewhere", "system gone", "record damaged", "record empty"])
def test_what_is_no_longer_there_is_not_built(workspace: Workspace, system: SystemPath, damage: str) -> None:
    root = workspace.gc_root(WEB)
    root.symlink_to(system)
    workspace.remember(WEB, KEY, system)
    (record,) = workspace.root.glob("roots/.*.json")
    if damage.startswith("root"):
        root.unlink()
    if damage == "root elsewhere":
        root.symlink_to(workspace.root)
    if damage == "system gone":
        Path(system).rmdir()
    if damage.startswith("record"):
        record.write_bytes(b"" if damage == "record empty" else b'{"key":[],"system":3}')
    assert workspace.built(WEB, KEY) is None


def test_a_record_of_no_nix_path_is_not_believed(workspace: Workspace, tmp_path: Path) -> None:
    workspace.gc_root(WEB).symlink_to(tmp_path)
    workspace.remember(WEB, KEY, SystemPath(tmp_path))
    assert workspace.built(WEB, KEY) is None


def test_a_packed_tree_is_kept_by_its_digest_and_unpacks_afresh(workspace: Workspace, fleet_root: Path) -> None:
    tree = collect(fleet_root / "hosts/web", fleet_root, "web")
    digest_of_tar, size = workspace.pack(tree)
    data = workspace.tar(digest_of_tar).read_bytes()
    assert (sha256(data), len(data)) == (digest_of_tar, size)
    folder = workspace.unpacked(digest_of_tar)
    (folder / "left over").write_text("x")
    assert [path.name for path in workspace.unpacked(digest_of_tar).iterdir()] == ["configuration.nix"]


@pytest.mark.parametrize("left", [b"damaged" * 1000, bytes(10240), b""], ids=["other bytes", "zeros", "nothing"])
def test_a_tree_is_unpacked_once_for_all_who_need_it_and_a_damaged_one_for_none(
    workspace: Workspace, fleet_root: Path, left: bytes
) -> None:
    """Zeros are what a power cut leaves of a file, and an empty archive for tar."""
    packed, _ = workspace.pack(collect(fleet_root / "hosts/web", fleet_root, "web"))
    unpack = Unpacking(workspace, packed)
    assert not workspace.tree(packed).exists()
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(unpack) for _ in range(8)]:
            done.result()
    (workspace.tree(packed) / "mine").touch()
    unpack()
    assert sorted(path.name for path in workspace.tree(packed).iterdir()) == ["configuration.nix", "mine"]
    workspace.tar(packed).write_bytes(left)
    again = Unpacking(workspace, packed)
    for _ in range(2):
        with pytest.raises(WorkFailed, match="damaged"):
            again()
        assert not workspace.tree(packed).exists()
        assert not workspace.tar(packed).exists()


def test_packing_the_same_again_writes_nothing(workspace: Workspace, fleet_root: Path) -> None:
    tree = collect(fleet_root / "hosts/web", fleet_root, "web")
    one, _ = workspace.pack(tree)
    before = workspace.tar(one).stat()
    assert workspace.pack(tree)[0] == one
    assert workspace.tar(one).stat().st_ino == before.st_ino
    assert {path.name for path in (workspace.root / "trees").iterdir()} == {f"{one}.tar"}


def test_trees_that_no_host_has_are_forgotten(workspace: Workspace, fleet_root: Path) -> None:
    old, _ = workspace.pack(collect(fleet_root / "hosts/web", fleet_root, "web"))
    workspace.unpacked(old)
    (fleet_root / "hosts/web/configuration.nix").write_text("{ new = 1; }")
    new, _ = workspace.pack(collect(fleet_root / "hosts/web", fleet_root, "web"))
    workspace.unpacked(new)
    workspace.forget_trees_except(frozenset({new}))
    assert {path.name for path in (workspace.root / "trees").iterdir()} == {new, f"{new}.tar"}


def test_two_commands_on_one_fleet_keep_out_of_each_other_s_way(workspace: Workspace) -> None:
    with workspace.locked(), pytest.raises(Busy, match="another build or deploy"), workspace.locked():
        raise AssertionError("two hold it")
