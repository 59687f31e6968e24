"""What a folder of the bash Bento says is told without running any of it, and what can't be told is named."""

import json
import subprocess
from pathlib import Path

import pytest
from unit.samples import public

from bento.admin import discover, old_bento
from bento.admin.old_bento import OldFleet, parse_config, read_old
from bento.errors import InputError, WorkFailed


def settings(text: str) -> dict[str, str]:
    return dict(parse_config(text).values)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("CHROOT_DIR=/home/chroot", "/home/chroot"),
        ("export CHROOT_DIR=/home/chroot", "/home/chroot"),
        ("  CHROOT_DIR='/home/my chroot'  # where", "/home/my chroot"),
        ('CHROOT_DIR="/home/chroot";', "/home/chroot"),
        ("CHROOT_DIR=", ""),
        ("#CHROOT_DIR=/old\nCHROOT_DIR=/new", "/new"),
        ("CHROOT_DIR=/one\nCHROOT_DIR=/two", "/two"),
        ("CHROOT_DIR='$HOME'", "$HOME"),
        ("CHROOT_DIR=a.b:c@d%e+f,g=h-i", "a.b:c@d%e+f,g=h-i"),
    ],
)
def test_a_plain_assignment_means_what_the_shell_makes_of_it(line: str, value: str) -> None:
    assert parse_config(line).values == {"CHROOT_DIR": value}
    assert parse_config(line).unread == ()
    shell = subprocess.run(["sh", "-c", f'{line}\nprintf %s "$CHROOT_DIR"'], capture_output=True, check=True, text=True)
    assert shell.stdout == value


@pytest.mark.parametrize(
    "line",
    [
        "CHROOT_DIR=$HOME/chroot",
        'CHROOT_DIR="$(touch {0}/sprung; echo /x)"',
        "CHROOT_DIR=`touch {0}/sprung`",
        "CHROOT_DIR=~/chroot",
        "CHROOT_DIR=/a; touch {0}/sprung",
        "CHROOT_DIR=/a touch {0}/sprung",
        "CHROOT_DIR=/a\\ b",
        "CHROOT_DIR=/a#b",
        "CHROOT_DIR=/a'b'",
        "CHROOT_DIR='/a",
        "CHROOT_DIR+=/a",
        'eval "CHROOT_DIR=/a"',
        "if true; then CHROOT_DIR=/a; fi",
    ],
)
def test_what_only_a_shell_could_tell_is_named_and_never_run(line: str, tmp_path: Path) -> None:
    text = f"CHROOT_DIR=/before\n{line.format(tmp_path)}\n"
    found = parse_config(text)
    assert found.values == {}  # not the value before: this line may have changed it
    assert len(found.unread) == 1
    assert found.unread[0].startswith("config.sh:2: ")
    assert not (tmp_path / "sprung").exists()


def test_what_bento_does_not_know_is_named() -> None:
    found = parse_config(". ./other.sh\nMY_OWN=1\nREMOTE_IP=x\n\x1b[31m\n")
    assert found.values == {"REMOTE_IP": "x"}
    assert [line.partition(":")[2][:1] for line in found.unread[:2]] == ["1", "4"]
    assert "MY_OWN means nothing" in found.unread[2]
    assert all(line.isprintable() for line in found.unread)


def accounts(*users: tuple[str, str]) -> str:
    rows = "".join(f'  {{ login = "{name}"; ssh = "{key}"; }}\n' for name, key in users)
    return f"""\
{{ lib, pkgs, ... }}: let
  # every host is a user
  people = [
{rows}  ];
  make = one: {{
    users.users."${{one.login}}" = {{ shell = pkgs.nologin; openssh.authorizedKeys.keys = [ one.ssh ]; }};
  }};
in {{
  imports = map make people ++ [ ./elsewhere.nix ];
  users.groups.sftp_users = {{ }};
  services.openssh.extraConfig = throw "not for us";
}}
"""


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One channel host and a flake with two, without Nix but for fleet.nix."""
    root = tmp_path / "old"
    for name in ("router", "all", "example"):
        (root / "hosts" / name).mkdir(parents=True)
    (root / "hosts/example/configuration.nix").write_text("")
    (root / "hosts/router/configuration.nix").write_text("{ }")
    (root / "hosts/all/flake.nix").write_text("{ outputs = _: { }; }")
    (root / "config.sh").write_text("CHROOT_DIR=/srv\nREMOTE_IP=x\n")
    users = [(name, public(number).line) for number, name in enumerate(("router", "one", "two"), 11)]
    (root / "fleet.nix").write_text(accounts(*users))
    monkeypatch.setattr(discover, "configurations", lambda _tree: ("one", "two"))
    return root


def left(fleet: OldFleet) -> dict[str, str]:
    return {one.what: one.why for one in fleet.left}


def test_hosts_are_the_folders_and_what_flakes_name_with_the_keys_of_fleet_nix(old: Path) -> None:
    fleet = read_old(old)
    assert [(host.name, host.folder, host.keys[0].blob) for host in fleet.hosts] == [
        ("one", "all", public(12).blob),
        ("two", "all", public(13).blob),
        ("router", "router", public(11).blob),
    ]
    assert fleet.left == ()


@pytest.mark.parametrize("place", ["utils/fleet.nix", "utils/deep/fleet.nix", "hosts/router/fleet.nix"])
def test_fleet_nix_is_found_where_how_to_and_readme_put_it(old: Path, place: str) -> None:
    (old / place).parent.mkdir(parents=True, exist_ok=True)
    (old / "fleet.nix").rename(old / place)
    assert read_old(old).files == ((old / place),)
    assert len(read_old(old).hosts) == 3


def test_fleet_nix_can_be_named_and_one_that_nix_cannot_read_is_said(old: Path, tmp_path: Path) -> None:
    (old / "fleet.nix").rename(tmp_path / "mine.nix")
    with pytest.raises(InputError, match=r"has no fleet\.nix"):
        read_old(old)
    assert len(read_old(old, tmp_path / "mine.nix").hosts) == 3
    (tmp_path / "mine.nix").write_text("{ lib, ... }: { imports = lib.nonsense; }")
    with pytest.raises(WorkFailed, match=r"Nix can't read .*mine\.nix"):
        read_old(old, tmp_path / "mine.nix")


def test_accounts_written_without_imports_count_too(old: Path) -> None:
    (old / "fleet.nix").write_text(
        f"{{ config, ... }}: {{ users.users = {{ root = {{ }}; router.openssh.authorizedKeys.keys = "
        f'[ "{public(11).line}" "{public(14).line}" ]; }}; }}'
    )
    (host,) = read_old(old).hosts
    assert [key.blob for key in host.keys] == [public(11).blob, public(14).blob]


def test_what_cannot_be_taken_over_is_named_and_the_others_are(old: Path) -> None:
    ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA=="
    for name in ("Upper", "unkeyed", "twin", "weak", "same"):
        (old / "hosts" / name).mkdir()
        (old / "hosts" / name / "configuration.nix").write_text("{ }")
    (old / "hosts/one").mkdir()
    (old / "hosts/one/configuration.nix").write_text("{ }")
    (old / "hosts/nothing").mkdir()
    (old / "hosts/unlocked").mkdir()
    (old / "hosts/unlocked/flake.nix").write_text("{ outputs = { self, nixpkgs }: { }; }")
    users = [
        ("router", public(11)),
        ("one", public(12)),
        ("two", public(13)),
        ("Upper", public(14)),
        ("gone", public(15)),
    ]
    rows = [(name, key.line) for name, key in users]
    (old / "fleet.nix").write_text(accounts(*rows, ("weak", ecdsa), ("same", public(11).line)))
    fleet = read_old(old)
    assert {host.name for host in fleet.hosts} == {"router", "one", "two"}
    said = left(fleet)
    assert set(said) == {"Upper", "unkeyed", "twin", "weak", "same", "one", "hosts/unlocked", "gone", "nothing"}
    assert "no host name" in said["Upper"]
    assert "no key" in said["unkeyed"]
    assert "hosts/all too" in said["one"]
    assert "same key as router" in said["same"]
    assert "no flake.lock" in said["hosts/unlocked"]
    assert "no configuration" in said["gone"]
    assert all(one.hints for one in fleet.left if one.what != "gone")


def test_marker_files_become_settings(old: Path) -> None:
    (old / "hosts/router/REBOOT").write_text("")
    (old / "hosts/router/SELF_UPDATE").write_text("")  # did nothing without a flake
    (old / "hosts/all/SELF_UPDATE").write_text("")
    nodes = {"root": {"inputs": {"nixpkgs": "nixpkgs_2", "home": ["x", "y"]}}, "nixpkgs_2": {}}
    (old / "hosts/all/flake.lock").write_text(json.dumps({"nodes": nodes, "root": "root", "version": 7}))
    assert {host.name: dict(host.settings) for host in read_old(old).hosts} == {
        "router": {"reboot": "when-needed"},
        "one": {"self_update": ["home", "nixpkgs"]},
        "two": {"self_update": ["home", "nixpkgs"]},
    }


def test_a_folder_of_another_sort_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of the bash Bento"):
        read_old(tmp_path)


def test_the_patterns_end_on_hostile_lines() -> None:
    old_bento.parse_config("A=" + "a" * 50_000 + "\n" + "export " * 20_000 + "\nA='" + "x" * 50_000)
