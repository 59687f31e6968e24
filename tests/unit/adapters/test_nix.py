"""What can be said of Nix without building: where links lead, and what its errors become."""

from pathlib import Path

import pytest
from unit.samples import SYSTEM

from bento.adapters import nix
from bento.adapters.nix import BuildFailed, BuildInput, profile_systems, read_system
from bento.errors import EnvironmentFailed, WorkFailed


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """A program of that name, alone on the PATH with a shell's own words."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_link_is_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "store-system").mkdir()
    (tmp_path / "system-7-link").symlink_to("store-system")
    (tmp_path / "system").symlink_to("system-7-link")
    assert read_system(tmp_path / "system") == str(tmp_path / "store-system")


def test_a_link_to_nothing_or_none_or_a_circle_is_none(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("gone")
    assert read_system(tmp_path / "dangling") is None
    assert read_system(tmp_path / "none") is None


def test_all_generations_of_this_profile_count_and_no_other_s(tmp_path: Path) -> None:
    for system in ("one", "two", "other"):
        (tmp_path / system).mkdir()
    for link, system in {
        "system-1-link": "one",
        "system-12-link": "two",
        "system-3-link": "collected",
        "system": "system-12-link",
        "channels-1-link": "other",
    }.items():
        (tmp_path / link).symlink_to(system)
    assert profile_systems(tmp_path / "system") == {str(tmp_path / "one"), str(tmp_path / "two")}
    assert profile_systems(tmp_path / "system", ("/running",)) >= {"/running", str(tmp_path / "one")}
    assert profile_systems(tmp_path / "no/profile") == frozenset()


def test_a_failed_build_says_nix_s_last_error_and_keeps_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(
        tmp_path / "bin",
        monkeypatch,
        "nix",
        'printf "warning: x\\nerror: first\\nerror: it \\033[31mbroke\\n" >&2; exit 1',
    )
    with pytest.raises(BuildFailed) as error:
        nix.build(BuildInput(tmp_path, "flake", "web"), tmp_path / "root")
    assert error.value.message == "the build failed: error: it [31mbroke"
    assert "warning: x" in error.value.log


def test_an_attribute_that_is_no_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "bin", monkeypatch, "nix", f"ln -s /nix/store/not-a-system {tmp_path}/root")
    with pytest.raises(BuildFailed, match="no path of a system"):
        nix.build(BuildInput(tmp_path, "flake", "web"), tmp_path / "root")


def test_nix_is_asked_for_the_quoted_attribute_and_never_to_update_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(
        tmp_path / "bin", monkeypatch, "nix", f'printf "%s\\n" "$@" >{tmp_path}/argv; ln -sfn {SYSTEM} {tmp_path}/root'
    )
    source = BuildInput(tmp_path, "flake", "web.1", ("--fallback",))
    assert nix.build(source, tmp_path / "root") == SYSTEM
    argv = (tmp_path / "argv").read_text().splitlines()
    assert f'path:{tmp_path}#nixosConfigurations."web.1".config.system.build.toplevel' in argv
    assert "--no-write-lock-file" in argv
    assert argv[-1] == "--fallback"
    (tmp_path / "flake.lock").write_text("{}")
    nix.build(source, tmp_path / "root")
    assert "--no-update-lock-file" in (tmp_path / "argv").read_text().splitlines()


def test_a_profile_that_was_not_set_is_noticed_whatever_nix_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", monkeypatch, "nix-env", "exit 0")
    with pytest.raises(WorkFailed, match="doesn't point to"):
        nix.set_profile(tmp_path / "system", SYSTEM)


def test_a_nix_that_doesn_t_work_is_an_environment_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "bin", monkeypatch, "nix-instantiate", "echo cannot open the store >&2; exit 1")
    with pytest.raises(EnvironmentFailed, match="cannot open the store"):
        nix.version()


@pytest.mark.parametrize(
    ("said", "inputs", "argv"),
    [
        ("nix (Nix) 2.8.0", (), ["flake", "update", "path:{}"]),
        ("nix (Nix) 2.8.0", ("a", "b"), ["flake", "lock", "path:{}", "--update-input", "a", "--update-input", "b"]),
        ("nix (Nix) 2.18.9", ("a",), ["flake", "lock", "path:{}", "--update-input", "a"]),
        ("nix (Nix) 2.19.2", ("a",), ["flake", "update", "--flake", "path:{}", "a"]),
        ("nix (Nix) 2.34.8", (), ["flake", "update", "--flake", "path:{}"]),
        ("nix (Lix, like Nix) 2.91.1", ("a", "b"), ["flake", "update", "--flake", "path:{}", "a", "b"]),
        ("nix of tomorrow", (), ["flake", "update", "path:{}"]),
    ],
)
def test_inputs_are_updated_in_the_words_of_this_nix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, inputs: tuple[str, ...], argv: list[str]
) -> None:
    asked = f'if [ "$1" = --version ]; then echo "{said}"; else printf "%s\\n" "$@" >{tmp_path}/argv; fi'
    fake(tmp_path / "bin", monkeypatch, "nix", asked)
    nix.update_flake(tmp_path, inputs)
    assert (tmp_path / "argv").read_text().splitlines()[2:] == [word.format(tmp_path) for word in argv]
