"""What `bento migrate` would make of an old folder, and that it makes all of it or nothing."""

import subprocess
from pathlib import Path

import pytest
from unit.samples import key_file, public

from bento.admin import migrate as module
from bento.admin.inventory import load_fleet, load_trust
from bento.admin.migrate import Choices, Plan, identities_of, migrate, plan_migration
from bento.admin.old_bento import OldHost
from bento.errors import EnvironmentFailed, InputError
from bento.names import HostName
from bento_secrets.ssh_keys import SshPublicKey


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    root = tmp_path / "old"
    (root / "hosts/router").mkdir(parents=True)
    (root / "hosts/router/configuration.nix").write_text("{ }")
    (root / "fleet.nix").write_text(
        f'{{ ... }}: {{ users.users.router.openssh.authorizedKeys.keys = [ "{public(11).line}" ]; }}'
    )
    (root / "config.sh").write_text("CHROOT_DIR=/srv/chroot\nREMOTE_IP=192.0.2.1\n")
    return root


def planned(old: Path, **choices: object) -> Plan:
    return plan_migration(old, old.with_name("new"), Choices(server_key=public(3), **choices))  # type: ignore[arg-type]


def add(old: Path, text: str) -> None:
    with (old / "config.sh").open("a") as file:
        file.write(text + "\n")


def test_the_new_fleet_reads_back(old: Path, tmp_path: Path) -> None:
    add(old, "REMOTE_PORT=2222\nTIMEOUT=30\nNOLOCALBUILD=1")
    (old / ".gitignore").write_text("mine\n")
    made = migrate(planned(old, fleet="acme", signing_key=key_file(tmp_path / "sign", 1, pub=True)))
    fleet, trust = load_fleet(made.root), load_trust(made.root)
    assert made.root == tmp_path / "new"
    assert list(fleet.hosts) == ["router"]
    assert fleet.hosts[HostName("router")].source == made.root / "hosts/router"
    assert fleet.file.build.mode == "dry-build"
    assert (trust.fleet, trust.servers[0].address, trust.servers[0].port) == ("acme", "192.0.2.1", 2222)
    assert trust.servers[0].timeout == 30
    lines = (made.root / ".gitignore").read_text().splitlines()
    assert lines[0] == "mine"
    assert "/bento.local.toml" in lines
    assert sorted(path.name for path in made.root.iterdir() if path.is_dir()) == ["agents", "hosts", "secrets", "utils"]


@pytest.mark.parametrize(
    ("line", "named", "option"),
    [
        ("REMOTE_IP=$(hostname)", "REMOTE_IP", "--address"),
        ("CHROOT_DIR=$HOME", "CHROOT_DIR", "--publish-to"),
        ("CHROOT_DIR=chroot", "CHROOT_DIR", "--publish-to"),
        ("REMOTE_PORT=$PORT", "REMOTE_PORT", "--port"),
        ("REMOTE_PORT=0", "REMOTE_PORT", "--port"),
        ("REMOTE_PORT=99999999999999999999", "REMOTE_PORT", "--port"),
        ("REMOTE_IP='a b'", "a b", "--address"),
    ],
)
def test_what_config_sh_leaves_open_is_asked_for(old: Path, line: str, named: str, option: str) -> None:
    add(old, line)
    with pytest.raises(InputError) as error:
        planned(old)
    assert named in error.value.message
    assert option in error.value.hints[0]
    plan = planned(old, address="192.0.2.2", publish="/x", port=2222)
    assert (plan.answers.address, plan.answers.publish, plan.answers.port) == ("192.0.2.2", "/x", 2222)


def test_what_is_not_as_before_is_said(old: Path) -> None:
    add(old, "TIMEOUT=0\nFOO=1")
    for name in (".git", "secrets"):
        (old / name).mkdir()
    (old / "secrets/plain.txt").write_text("hunter2")
    (old / "flake.nix").write_text("{ }")
    plan = planned(old)
    for words in (
        "TIMEOUT = 0",
        "FOO means nothing",
        ".git is not copied",
        "secrets is not copied",
        "flake.nix is not",
    ):
        assert any(words in note for note in plan.notes), words
    made = migrate(plan)
    assert not (made.root / "secrets/plain.txt").exists()
    assert not (made.root / "flake.nix").exists()
    assert not (made.root / ".git").exists()


def test_a_place_that_is_taken_is_refused(old: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine").write_text("")
    for new in (tmp_path / "taken", old, old / "new", tmp_path, tmp_path / "gone/new"):
        with pytest.raises(InputError):
            plan_migration(old, new, Choices(server_key=public(3)))
    (tmp_path / "empty").mkdir()
    assert migrate(plan_migration(old, tmp_path / "empty", Choices(server_key=public(3)))).root == tmp_path / "empty"


def test_a_failure_at_the_end_takes_the_new_signing_key_with_it(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_complete_gitignore", full)
    with pytest.raises(EnvironmentFailed, match="No space left"):
        migrate(planned(old))
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "old"]


def test_an_identity_is_named_by_the_kind_of_its_key(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", tmp_path / "rsa"], check=True)
    rsa = SshPublicKey.parse((tmp_path / "rsa.pub").read_text())
    host = OldHost(HostName("web"), "web", None, (public(1), public(2), rsa), {})
    assert identities_of(host) == ("/root/.ssh/id_ed25519", "/root/.ssh/id_rsa")
