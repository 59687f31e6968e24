"""`bento check` of the fleet folder and this machine: what Nix would copy, what isn't sealed, what git has."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from unit.samples import key_file, public

from bento.admin import check_keys, check_machine
from bento.admin.check import check
from bento.admin.check_fleet import check_git, check_roots, check_sealed, check_sources
from bento.admin.check_found import Finding, Found
from bento.admin.check_machine import GIB, Room, check_memory, check_nix, check_room
from bento.admin.inventory import load_fleet, load_trust
from bento.errors import EnvironmentFailed

SEALED = b"age-encryption.org/v1\n-> X25519 abc\n"


def told(found: Iterable[Found], severity: str | None = None) -> list[str]:
    findings = [one for one in found if isinstance(one, Finding)]
    return [one.message for one in findings if severity in (None, one.severity)]


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_flake_that_would_take_the_sealed_files_into_the_store_is_an_error(tmp_path: Path, above: int) -> None:
    root = tmp_path / "one/two/fleet"
    root.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert told(check_roots(root)) == []
    flake = [root, *root.parents][above] / "flake.nix"
    flake.write_text("{ }")
    [message] = told(check_roots(root), "error")
    assert str(flake) in message


def test_a_flake_above_the_fleet_s_own_repository_takes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "fleet"
    (root / ".git").mkdir(parents=True)
    (tmp_path / "flake.nix").write_text("{ }")
    assert told(check_roots(root)) == []


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("web/token.age", SEALED, None),
        ("web/deep/token.age", b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl", None),
        ("secrets.toml", b"", None),
        (".staged/plan", b"x", None),
        ("web/token", b"plain", "secrets/web/token is no sealed file"),
        ("web/secrets.toml", b"plain", "secrets/web/secrets.toml is no sealed file"),
        ("token.txt", b"plain", "secrets/token.txt is no sealed file"),
        ("web/token.age", b"plain", "secrets/web/token.age isn't sealed, whatever its name says"),
        ("web/\x1b[31m.age", b"plain", "isn't sealed"),
    ],
)
def test_whatever_is_not_sealed_in_the_secret_store_is_an_error(
    tmp_path: Path, name: str, content: bytes, wrong: str | None
) -> None:
    path = tmp_path / "secrets" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    messages = told(check_sealed(tmp_path), "error")
    assert len(messages) == (wrong is not None)
    assert wrong is None or wrong in messages[0]
    assert "\x1b" not in "".join(messages)


def test_a_link_in_the_secret_store_is_no_sealed_file(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "sealed.age").write_bytes(SEALED)
    (tmp_path / "secrets/x.age").symlink_to(tmp_path / "sealed.age")
    assert len(told(check_sealed(tmp_path), "error")) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{ boot.initrd.secrets."/key" = ./key; }', "configuration.nix:1 sets boot.initrd.secrets"),
        ("{\n  boot.initrd = {\n    network.enable = true;\n    secrets = { };\n  };\n}", "configuration.nix:2 sets"),
        ("{\n  boot.resumeDevice = config.x;\n}", "configuration.nix:2 sets boot.resumeDevice"),
        ("{\n  # boot.initrd.secrets would leak\n  /* boot.resumeDevice\n */ }", None),
        ("{ boot.initrd.availableKernelModules = [ ]; bento.secrets.x = { }; }", None),
    ],
)
def test_what_leaves_bento_s_protection_on_a_host_is_warned_of_where_it_is_mentioned(
    fleet_root: Path, text: str, said: str | None
) -> None:
    (fleet_root / "hosts/web/configuration.nix").write_text(text)
    fleet = load_fleet(fleet_root)
    found = [one for one in check_sources(fleet, list(fleet.hosts.values())) if isinstance(one, Finding)]
    assert [(one.severity, one.hosts) for one in found] == ([("warning", ("web",))] if said else [])
    assert said is None or said in found[0].message


def test_a_source_that_can_t_be_packed_is_an_error_of_its_hosts_only(fleet_root: Path) -> None:
    (fleet_root / "hosts/web/configuration.nix").unlink()
    (fleet_root / "hosts/web/flake.nix").write_text('{ inputs.x.url = "path:/x"; }')
    (fleet_root / "hosts/example").mkdir()
    (fleet_root / "hosts/old").mkdir()
    fleet = load_fleet(fleet_root)
    found = [one for one in check_sources(fleet, list(fleet.hosts.values())) if isinstance(one, Finding)]
    assert [(one.severity, one.hosts) for one in found] == [("error", ("web",)), ("note", ())]
    assert "no flake.lock" in found[0].message
    assert "hosts/old" in found[1].message


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "secrets/web").mkdir(parents=True)
    (tmp_path / "secrets/web/token.age").write_bytes(SEALED)
    return tmp_path


def commit(repository: Path) -> None:
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@x.x"]
    subprocess.run([*git, "add", "-f", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)


def test_what_git_has_and_should_not_is_told_and_git_s_files_stay_as_they_are(repository: Path) -> None:
    commit(repository)
    assert told(check_git(repository)) == []
    (repository / "secrets/web/token").write_text("plain")
    (repository / "bento.local.toml").write_text("")
    [note] = told(check_git(repository))
    assert "2 changes" in note
    commit(repository)
    before = {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")}
    (repository / "secrets/web/token.age").touch()
    assert told(check_git(repository), "error") == ["secrets/web/token is in git, and isn't sealed"]
    assert told(check_git(repository), "warning") == ["bento.local.toml is in git, and is meant for one admin only"]
    assert {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")} == before


def test_without_git_the_rest_is_checked_all_the_same(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    [one] = check_git(repository)
    assert not isinstance(one, Finding)
    assert "git is not installed" in one.why


@pytest.mark.parametrize(
    ("swap", "states", "masked", "said"),
    [
        ("", "freeze mem disk", "", []),
        ("/dev/zram0 partition 1 0 100\n", "freeze mem disk", "", []),
        ("/dev/sda2 partition 1 0 -2\n", "freeze mem disk", "", ["this machine can hibernate to /dev/sda2"]),
        ("/dev/sda2 partition 1 0 -2\n", "freeze mem disk", "/dev/null", []),
        ("/dev/sda2 partition 1 0 -2\n", "freeze mem", "", []),
    ],
)
def test_hibernation_is_warned_of_where_it_is_possible(
    tmp_path: Path, swap: str, states: str, masked: str, said: list[str]
) -> None:
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n" + swap)
    (tmp_path / "state").write_text(states)
    if masked:
        (tmp_path / "target").symlink_to(masked)
    found = told(check_memory(tmp_path / "swaps", tmp_path / "state", tmp_path / "target"), "warning")
    assert [message.partition(":")[0] for message in found] == said


def test_swap_alone_is_a_note_for_whoever_is_not_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swaps").write_text("Filename\n/swapfile file 1 0 -2\n")
    for uid, notes in ((0, 0), (1000, 1)):
        monkeypatch.setattr(check_machine.os, "geteuid", lambda uid=uid: uid)
        assert len(told(check_memory(tmp_path / "swaps", tmp_path / "none", tmp_path / "none"), "note")) == notes


@pytest.mark.parametrize(("little", "some", "severity"), [(0, 0, None), (0, 2**80, "warning"), (2**80, 2**81, "error")])
def test_room_is_told_before_it_runs_out_even_for_a_folder_that_is_not_there_yet(
    tmp_path: Path, little: int, some: int, severity: str | None
) -> None:
    found = list(check_room(tmp_path / "not/there", Room(little, some), "releases", "make room"))
    assert [one.severity for one in found if isinstance(one, Finding)] == ([severity] if severity else [])
    assert GIB == 2**30


def test_nix_is_needed_and_an_old_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nix", "nix-build", "nix-instantiate", "nix-store"):
        (tmp_path / name).write_text("#!/bin/sh\n[ $1 = --version ] && echo 'nix (Nix) 2.3.16' || exit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    found = list(check_nix(["flake", "channel"]))
    assert [one.severity for one in found if isinstance(one, Finding)] == ["warning", "error", "error"]
    assert "2.3.16" in told(found)[0]
    assert "with flakes" in told(found)[1]
    assert "<nixpkgs>" in told(found)[2]
    assert told(check_nix([])) == told(found)[:1]
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentFailed, match="nix is not installed"):
        list(check_nix([]))


def signing(fleet_root: Path) -> list[tuple[str, str]]:
    fleet, trust = load_fleet(fleet_root), load_trust(fleet_root)
    return [(one.severity, one.message) for one in check_keys.check_signing(fleet, trust) if isinstance(one, Finding)]


def test_a_signing_key_is_tried_and_found_good(fleet_root: Path) -> None:
    assert signing(fleet_root) == []


def test_a_signing_key_whose_public_half_is_another_s_is_an_error(fleet_root: Path, tmp_path: Path) -> None:
    key_file(tmp_path / "signing", 5)
    key = tmp_path / "signing"
    assert signing(fleet_root) == [("error", f"{key}.pub is not the public half of {key}")]


def test_a_key_with_a_passphrase_that_no_agent_holds_is_warned_of_without_asking(
    fleet_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", tmp_path / "signing"], check=True)
    [(severity, message)] = signing(fleet_root)
    assert severity == "warning"
    assert "in no ssh-agent" in message


def test_a_missing_signing_key_is_an_error(fleet_root: Path, tmp_path: Path) -> None:
    (tmp_path / "signing").unlink()
    assert [severity for severity, _ in signing(fleet_root)] == ["error"]


def test_an_identity_that_others_may_read_is_an_error_and_a_missing_one_a_warning(
    fleet_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "me").write_text("x")
    (fleet_root / "bento.local.toml").write_text(f'[secrets]\nidentities = ["{tmp_path}/me", "{tmp_path}/gone"]\n')
    fleet = load_fleet(fleet_root)
    for mode, severities in ((0o640, ["error", "warning"]), (0o600, ["warning"])):
        (tmp_path / "me").chmod(mode)
        found = check_keys.check_identities(fleet)
        assert [one.severity for one in found if isinstance(one, Finding)] == severities


def test_a_broken_bento_toml_is_a_finding_and_the_folder_is_looked_at_all_the_same(fleet_root: Path) -> None:
    (fleet_root / "bento.toml").write_text("[hosts")
    (fleet_root / "secrets/plain").write_text("x")
    done = check(fleet_root, lambda fleet: tuple(fleet.hosts), 0)
    assert [one.message.partition(":")[0] for one in done.findings if one.severity == "error"] == [
        "secrets/plain is no sealed file, and lies in the secret store",
        "bento.toml",
    ]
    assert [one.what for one in done.unchecked] == ["all that follows from bento.toml"]
    assert done.count("error") == 2


def test_a_secret_s_finding_counts_for_the_chosen_hosts_only(fleet_root: Path) -> None:
    (fleet_root / "secrets/secrets.toml").write_text('[[secret]]\ntarget = "db"\nname = "token"\n')
    wanted = "db has no copy of token for db"
    for name, there in (("db", True), ("web", False)):
        done = check(fleet_root, lambda fleet, name=name: tuple(host for host in fleet.hosts if host == name), 0)
        assert (wanted in [one.message for one in done.findings if one.severity == "error"]) is there


def test_a_publish_server_must_be_pinned_and_is_logged_in_to(fleet_root: Path) -> None:
    settings = fleet_root / "bento.toml"
    text = settings.read_text().replace(f'to = "{fleet_root.parent}/publish"', 'to = "sftp://me@127.0.0.1:1/srv"')
    settings.write_text(text)
    done = check(fleet_root, lambda fleet: tuple(fleet.hosts), 0)
    assert [one.message for one in done.findings if one.area == "server"] == [
        "the host key of sftp://me@127.0.0.1:1/srv isn't known"
    ]
    settings.write_text(text.replace('1/srv"', f'1/srv"\nhost_keys = ["{public(3).line}"]', 1))
    done = check(fleet_root, lambda fleet: tuple(fleet.hosts), 0)
    assert [one.message for one in done.findings if one.area == "server"] == []
    there = [
        one for one in done.unchecked if one.what == "whether releases can be published to sftp://me@127.0.0.1:1/srv"
    ]
    assert len(there) == 1
    assert "can't reach the server 127.0.0.1:1" in there[0].why
