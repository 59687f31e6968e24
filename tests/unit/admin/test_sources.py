"""A configuration may lie in any folder. Of a git work tree of its own hosts get what git tracks; git isn't changed."""

import os
import subprocess
from pathlib import Path

import pytest
from unit.samples import bound_by_modes

from bento.admin.inventory import load_fleet
from bento.admin.pack import Tree, collect
from bento.errors import InputError
from bento.names import HostName

FLAKE = "{ outputs = _: { }; }\n"


@pytest.fixture(autouse=True)
def _git_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own git settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a person")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "person@example.org")


def git(folder: Path, *args: str) -> None:
    subprocess.run(
        ["git", "-C", folder, "-c", "protocol.file.allow=always", *args], check=True, capture_output=True, timeout=30
    )


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    """A repository beside the fleet, with a flake, a folder and an ignored file."""
    made = tmp_path / "my flake"
    (made / "mod").mkdir(parents=True)
    (made / "flake.nix").write_text(FLAKE)
    (made / "mod/a.nix").write_text("1")
    (made / ".gitignore").write_text("ignored.nix\n")
    git(made, "init", "-q")
    git(made, "add", ".")
    git(made, "commit", "-qm", "first")
    (made / "ignored.nix").write_text("2")
    return made


def names(tree: Tree) -> set[str]:
    return {entry.name for entry in tree.entries}


def packed(source: Path, fleet_root: Path) -> Tree:
    return collect(source, fleet_root, "web")


def complaint(source: Path, fleet_root: Path) -> InputError:
    with pytest.raises(InputError) as error:
        packed(source, fleet_root)
    return error.value


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("given", ["../my flake", "~/my flake", "{0}/my flake", "../x/../my flake/"])
def test_a_source_is_absolute_or_from_the_home_or_from_the_fleet(
    fleet_root: Path, flake: Path, tmp_path: Path, given: str
) -> None:
    text = (fleet_root / "bento.toml").read_text()
    line = f'source = "{given.format(tmp_path)}"'
    (fleet_root / "bento.toml").write_text(text.replace("[hosts.web]", f"[hosts.web]\n{line}"))
    fleet = load_fleet(fleet_root)
    assert fleet.hosts[HostName("web")].source == flake
    assert fleet.hosts[HostName("db")].source == fleet_root / "hosts/db"
    (fleet_root / "bento.toml").write_text(text.replace("[hosts.web]", f"[defaults]\n{line}\n[hosts.web]"))
    assert {host.source for host in load_fleet(fleet_root).hosts.values()} == {flake}


@pytest.mark.parametrize("given", [".", "..", "/", "hosts/..", "~nobody-of-that-name/x"])
def test_a_source_that_holds_the_fleet_or_is_in_nobodys_home_is_refused(fleet_root: Path, given: str) -> None:
    text = (fleet_root / "bento.toml").read_text()
    (fleet_root / "bento.toml").write_text(text.replace("[hosts.web]", f'[hosts.web]\nsource = "{given}"'))
    with pytest.raises(InputError, match=r"holds the fleet itself|home of nobody") as error:
        load_fleet(fleet_root)
    assert error.value.message.startswith("bento.toml")


def test_a_link_to_a_folder_that_holds_the_fleet_is_refused_as_source_too(fleet_root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(fleet_root)
    assert "holds the fleet itself" in complaint(tmp_path / "elsewhere", fleet_root).message


def test_of_a_git_work_tree_hosts_get_the_tracked_files_as_they_are_now(fleet_root: Path, flake: Path) -> None:
    (flake / "untracked").mkdir()
    (flake / "untracked/key.pem").write_text("not for hosts")
    (flake / "mod/a.nix").write_text("changed, not committed")
    (flake / "staged.nix").write_text("added, not committed")
    git(flake, "add", "staged.nix")
    before = everything(flake)
    tree = packed(flake, fleet_root)
    assert names(tree) == {".gitignore", "flake.nix", "mod", "mod/a.nix", "staged.nix"}
    assert next(e for e in tree.entries if e.name == "mod/a.nix").source.read_text() == "changed, not committed"
    assert tree.warnings == ()
    assert everything(flake) == before


def test_a_tracked_file_that_is_gone_is_left_out(fleet_root: Path, flake: Path) -> None:
    (flake / "mod/a.nix").unlink()
    assert names(packed(flake, fleet_root)) == {".gitignore", "flake.nix", "mod"}


def test_untracked_nix_files_are_named_and_ignored_ones_are_not(fleet_root: Path, flake: Path) -> None:
    (flake / "mod/new.nix").write_text("3")
    (flake / "notes.txt").write_text("3")
    (warning,) = packed(flake, fleet_root).warnings
    assert warning.startswith(f"{flake}: git doesn't track mod/new.nix, so that no host gets it; to add it: ")
    subprocess.run(["sh", "-c", warning.partition("to add it: ")[2]], check=True)
    assert "mod/new.nix" in names(packed(flake, fleet_root))


def test_a_submodule_is_left_out_and_named(fleet_root: Path, flake: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.nix").write_text("x")
    git(other, "init", "-q")
    git(other, "add", ".")
    git(other, "commit", "-qm", "first")
    git(flake, "submodule", "add", "-q", str(other), "sub")
    tree = packed(flake, fleet_root)
    assert not any(name.startswith("sub") for name in names(tree))
    assert any("git submodule sub" in warning for warning in tree.warnings)
    # one that is a source itself is a work tree of its own: its .git is a file
    (flake / "sub/configuration.nix").write_text("{ }")
    git(flake / "sub", "add", "configuration.nix")
    (flake / "sub/untracked").write_text("x")
    assert names(packed(flake / "sub", fleet_root)) == {"configuration.nix", "x.nix"}


def test_a_folder_of_a_work_tree_is_a_source_too(fleet_root: Path, flake: Path) -> None:
    (flake / "mod/configuration.nix").write_text("{ }")
    (flake / "mod/untracked").write_text("x")
    git(flake, "add", "mod/configuration.nix")
    assert names(packed(flake / "mod", fleet_root)) == {"a.nix", "configuration.nix"}


def test_of_the_fleets_own_work_tree_hosts_get_untracked_files_too(fleet_root: Path) -> None:
    git(fleet_root, "init", "-q")
    assert names(packed(fleet_root / "hosts/web", fleet_root)) == {"configuration.nix"}


def test_a_repository_inside_the_fleet_is_a_work_tree_of_its_own(fleet_root: Path) -> None:
    git(fleet_root, "init", "-q")
    web = fleet_root / "hosts/web"
    git(web, "init", "-q")
    assert "isn't tracked by git" in complaint(web, fleet_root).message
    git(web, "add", "configuration.nix")
    (web / "untracked").write_text("x")
    assert names(packed(web, fleet_root)) == {"configuration.nix"}


@pytest.mark.parametrize("name", ["flake.nix", "flake.lock"])
def test_an_untracked_flake_or_lock_is_as_good_as_missing_and_the_hint_adds_it(
    fleet_root: Path, flake: Path, name: str
) -> None:
    (flake / "flake.nix").write_text("{ outputs = { self, nixpkgs }: { }; }")
    (flake / "flake.lock").write_text("{}")
    git(flake, "add", ".")
    git(flake, "rm", "-q", "--cached", name)
    error = complaint(flake, fleet_root)
    assert error.message == f"{flake}/{name} isn't tracked by git, so that no host gets it"
    subprocess.run(["sh", "-c", error.hints[0]], check=True)
    assert packed(flake, fleet_root).kind == "flake"


def test_links_are_followed_inside_the_source_and_the_fleet_only(fleet_root: Path, flake: Path) -> None:
    (fleet_root / "utils/common.nix").write_text("shared")
    (flake / "in.nix").symlink_to("mod/a.nix")
    (flake / "mods").symlink_to("mod")
    (flake / "common.nix").symlink_to(fleet_root / "utils/common.nix")
    git(flake, "add", ".")
    tree = packed(flake, fleet_root)
    assert {"in.nix", "mods", "mods/a.nix", "common.nix"} < names(tree)
    assert not any(entry.source.is_symlink() for entry in tree.entries)
    for target, said in (
        ("/etc/shadow", "leads out of the source, to /etc/shadow"),
        ("../elsewhere", "leads out of the source"),
        (str(fleet_root / "secrets"), "leads into secrets/"),
        (str(fleet_root / "bento.toml"), "which is the admin's side"),
        ("ignored.nix", "which git doesn't track"),
        (".git/config", "which git doesn't track"),
    ):
        (flake / "leak").symlink_to(target)
        git(flake, "add", "leak")
        (flake.parent / "elsewhere").touch()
        error = complaint(flake, fleet_root)
        assert error.message.startswith(f"{flake}/leak ")
        assert said in error.message
        (flake / "leak").unlink()


def test_a_link_in_the_fleet_needs_its_goal_named_in_the_settings(fleet_root: Path, flake: Path) -> None:
    (fleet_root / "hosts/web/configuration.nix").unlink()
    (fleet_root / "hosts/web").rmdir()
    (fleet_root / "hosts/web").symlink_to(flake)
    error = complaint(fleet_root / "hosts/web", fleet_root)
    assert error.message.startswith("hosts/web is a symlink that leads out of the fleet")
    assert error.hints == (f'if hosts are to get that folder, name it in bento.toml: source = "{flake}"',)


def test_a_repository_of_somebody_else_is_named_with_what_to_do(fleet_root: Path, flake: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root: it gives a folder to another user")
    for path in (flake, flake / ".git"):
        os.chown(path, 65534, 65534)
    error = complaint(flake, fleet_root)
    assert "somebody else's" in error.message
    (hint,) = (one.partition(": ")[2] for one in error.hints)
    subprocess.run(["sh", "-c", hint], check=True)
    assert packed(flake, fleet_root).kind == "flake"


def test_no_program_that_a_repository_names_is_started(fleet_root: Path, flake: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    git(flake, "config", "core.fsmonitor", str(trap))
    git(flake, "config", "core.hooksPath", str(tmp_path))
    packed(flake, fleet_root)
    assert not (tmp_path / "sprung").exists()
    git(flake, "status")
    assert (tmp_path / "sprung").exists()  # the trap works


def test_a_hook_s_own_git_environment_does_not_mislead(
    fleet_root: Path, flake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    assert "flake.nix" in names(packed(flake, fleet_root))


def test_a_merge_under_way_is_refused(fleet_root: Path, flake: Path) -> None:
    git(flake, "checkout", "-qb", "other")
    (flake / "mod/a.nix").write_text("theirs")
    git(flake, "commit", "-qam", "theirs")
    git(flake, "checkout", "-q", "-")
    (flake / "mod/a.nix").write_text("ours")
    git(flake, "commit", "-qam", "ours")
    subprocess.run(["git", "-C", flake, "merge", "other"], capture_output=True, check=False)
    assert "is in the middle of a merge: mod/a.nix" in complaint(flake, fleet_root).message


def test_without_git_a_work_tree_is_refused_and_a_plain_folder_is_not(
    fleet_root: Path, flake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bento.errors import EnvironmentFailed

    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(EnvironmentFailed, match="git is not installed"):
        packed(flake, fleet_root)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "configuration.nix").write_text("{ }")
    assert names(packed(plain, fleet_root)) == {"configuration.nix"}


def test_what_can_t_be_read_in_a_source_outside_is_named_whole(fleet_root: Path, flake: Path) -> None:
    (flake / "mod/a.nix").chmod(0)
    with bound_by_modes():
        assert complaint(flake, fleet_root).message == f"can't read {flake}/mod/a.nix: Permission denied"
