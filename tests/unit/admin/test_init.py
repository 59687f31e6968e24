"""`bento init` makes a whole fleet that every other command can read, and never touches one that is there."""

import stat
from pathlib import Path

import platformdirs
import pytest
from unit.samples import key_file, public

from bento.admin import discover
from bento.admin import init as module
from bento.admin.edit import add_host
from bento.admin.init import Answers, init
from bento.admin.inventory import load_fleet, load_trust
from bento.errors import EnvironmentFailed, InputError
from bento.names import HostName
from bento_secrets.ssh_keys import SshPublicKey


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and a machine without an SSH host key."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(module, "SERVER_KEY", tmp_path / "no-host-key.pub")
    return tmp_path / "home"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def answers(tmp_path: Path) -> Answers:
    return Answers(
        "acme", "/srv/chroot", "bento.example.org", 2222, public(3), key_file(tmp_path / "sign", 1, pub=True)
    )


def test_a_new_fleet_has_everything_and_reads_back(tmp_path: Path) -> None:
    made = init(tmp_path / "acme", answers(tmp_path))
    assert (made.todo, made.key_is_new, made.fleet) == ((), False, "acme")
    files = set(contents(made.root))
    assert files == {
        "bento.toml",
        "bento.local.toml",
        ".gitignore",
        "utils/trust.toml",
        "hosts/example/configuration.nix",
        "secrets/secrets.toml",
        "secrets/secrets.lock",
        "secrets/.gitignore",
    }
    fleet, trust = load_fleet(made.root), load_trust(made.root)
    assert fleet.signing_keys == (tmp_path / "sign",)
    assert fleet.publish_to == (Path("/srv/chroot"),)
    assert fleet.store.read().declarations == ()
    assert trust.fleet == "acme"
    assert [key.blob for key in trust.signers] == [public(1).blob]
    assert (trust.servers[0].address, trust.servers[0].port) == ("bento.example.org", 2222)
    assert trust.servers[0].host_keys[0].blob == public(3).blob
    assert "/bento.local.toml" in (made.root / ".gitignore").read_text().splitlines()


def test_the_admin_s_own_things_are_in_no_file_that_hosts_or_others_get(tmp_path: Path) -> None:
    made = init(tmp_path / "acme", answers(tmp_path))
    for name, data in contents(made.root).items():
        assert b"PRIVATE KEY" not in data
        assert name == "bento.local.toml" or str(tmp_path / "sign").encode() not in data


def test_without_a_named_key_one_is_made_in_the_home_and_found_the_next_time(tmp_path: Path, home: Path) -> None:
    made = init(tmp_path / "acme", Answers(address="x", server_key=public(3)))
    assert made.key_is_new
    assert made.signing_key == platformdirs.user_config_path("bento") / "acme_signing_ed25519"
    assert made.signing_key.is_relative_to(home)
    assert stat.S_IMODE(made.signing_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.signing_key.parent.stat().st_mode) == 0o700
    again = init(tmp_path / "other", Answers(fleet="acme", address="x", server_key=public(3)))
    assert (again.signing_key, again.key_is_new) == (made.signing_key, False)
    assert load_trust(tmp_path / "acme").signers[0].blob == load_trust(tmp_path / "other").signers[0].blob


def test_what_could_not_be_found_out_is_said(tmp_path: Path) -> None:
    made = init(tmp_path / "acme", Answers())
    assert len(made.todo) == 2
    assert any("address" in sentence for sentence in made.todo)
    assert any("host_keys" in sentence for sentence in made.todo)
    with pytest.raises(InputError, match="host_keys"):
        load_trust(made.root)


def test_the_machine_s_own_host_key_is_taken_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "no-host-key.pub").write_text(f"{public(4).line} root@here\n")
    made = init(tmp_path / "acme", Answers(address="x"))
    assert load_trust(made.root).servers[0].host_keys[0].blob == public(4).blob


@pytest.mark.parametrize("name", ["bento.toml", "bento.local.toml", "utils/trust.toml", "secrets/secrets.toml"])
def test_a_fleet_that_is_there_is_not_touched(tmp_path: Path, name: str) -> None:
    path = tmp_path / "acme" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(InputError, match=f"it has {name}"):
        init(tmp_path / "acme", Answers())
    assert contents(tmp_path / "acme") == {name: b"mine"}
    assert not (tmp_path / "home").exists()


def test_a_flake_at_the_root_is_refused_for_what_nix_would_copy(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/flake.nix").write_text("{ }")
    with pytest.raises(InputError, match=r"flake\.nix"):
        init(tmp_path / "acme", Answers())
    assert contents(tmp_path / "acme") == {"flake.nix": b"{ }"}


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/.gitignore").write_text("mine")
    (tmp_path / "acme/README").write_text("mine")
    init(tmp_path / "acme", answers(tmp_path))
    assert (tmp_path / "acme/.gitignore").read_text() == (tmp_path / "acme/README").read_text() == "mine"


def test_a_bad_name_or_key_leaves_nothing_behind(tmp_path: Path) -> None:
    for bad in (Answers(fleet="a b"), Answers(signing_key=tmp_path / "gone")):
        with pytest.raises(InputError):
            init(tmp_path / "acme", bad)
    assert list(tmp_path.iterdir()) == []


def test_quotes_in_what_a_person_names_do_not_break_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key = key_file(tmp_path / "k", 1)
    (tmp_path / "k.pub").write_text(public(1).line + ' my "laptop"\n')
    made = tmp_path / "acme"
    init(made, Answers(address="x", server_key=public(3), signing_key=key, publish='/a "b"'))
    load_trust(made)
    assert load_fleet(made).file.publish.to == ('/a "b"',)


def test_an_address_that_no_host_could_use_writes_nothing(tmp_path: Path) -> None:
    key = key_file(tmp_path / "k", 1)
    with pytest.raises(InputError, match="a b"):
        init(tmp_path / "acme", Answers(address="a b", server_key=public(3), signing_key=key))
    assert not (tmp_path / "acme").exists()


def test_a_fleet_that_is_published_by_sftp_knows_that_server_and_not_this_machine_s_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / "own.pub"
    own.write_text(public(5).line)
    monkeypatch.setattr("bento.admin.init.SERVER_KEY", own)
    key, url = key_file(tmp_path / "k", 1, pub=True), "sftp://bento@server.example.org:2222/srv"
    made = init(tmp_path / "one", Answers(publish=url, signing_key=key))
    assert any("host_keys" in sentence for sentence in made.todo)
    assert public(5).line not in (tmp_path / "one/utils/trust.toml").read_text()
    init(tmp_path / "two", Answers(publish=url, signing_key=key, server_key=public(3)))
    server = load_trust(tmp_path / "two").servers[0]
    assert (server.address, server.port, server.host_keys) == ("server.example.org", 2222, (public(3),))
    assert [str(target) for target in load_fleet(tmp_path / "two").publish_to] == [url]
    with pytest.raises(InputError, match="names no user"):
        init(tmp_path / "three", Answers(publish="sftp://server/srv", signing_key=key))
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize("server_key", [None, public(3)])
def test_a_refused_answer_leaves_no_key_behind(tmp_path: Path, home: Path, server_key: SshPublicKey | None) -> None:
    for answers in (
        Answers(address="a b", server_key=server_key),
        Answers(address="", server_key=server_key),
        Answers(address="x", server_key=server_key, source=str(tmp_path / "gone")),
    ):
        with pytest.raises(InputError):
            init(tmp_path / "acme", answers)
        assert not (tmp_path / "acme").exists()
        assert not home.exists()


def test_a_new_key_goes_with_a_fleet_that_can_t_be_written(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(EnvironmentFailed, match="No space left"):
        init(tmp_path / "acme", Answers(address="x", server_key=public(3)))
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_a_key_that_was_there_stays_when_the_fleet_can_t_be_written(tmp_path: Path, home: Path) -> None:
    made = init(tmp_path / "acme", Answers(address="x", server_key=public(3)))
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailed):
        init(tmp_path / "file/acme", Answers(address="x", server_key=public(3)))
    assert made.signing_key.is_file()


def test_a_source_is_written_as_seen_from_the_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (tmp_path / "flake").mkdir()
    (tmp_path / "flake/flake.nix").write_text("{ outputs = _: { nixosConfigurations = { }; }; }")
    monkeypatch.setattr(discover, "configurations", lambda _tree: ("web",))
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    for given, name in (("../flake", "one"), (str(tmp_path / "flake"), "two")):
        made = init(tmp_path / name, Answers(address="x", server_key=public(3), source=given))
        assert made.found.attributes == ("web",)
        add_host(made.root, HostName("web"), (public(11),), ())
        assert load_fleet(made.root).hosts[HostName("web")].source == tmp_path / "flake"
        assert not (made.root / "hosts/example").exists()
