"""The secret store: what a change writes, and what it refuses."""

import hashlib
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.secrets.storing import PLAIN, add, contents, tree

from bento_secrets import durable
from bento_secrets.declared import Attributes, Declaration
from bento_secrets.errors import BentoError, InputError, StoreFailed
from bento_secrets.identities import Identity
from bento_secrets.limits import Limits
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import open_sealed
from bento_secrets.store import SecretStore, copy_path

Make = Callable[..., Member]
WEB, NAME = Target("@web"), SecretName("tls/key")


@pytest.fixture
def fleet(member: Make) -> list[Member]:
    return [member("web2", "web"), member("web1", "web"), member("db")]


def test_a_new_store_is_empty_and_creating_it_again_changes_nothing(store: SecretStore) -> None:
    assert (store.read().declarations, store.read().lock) == ((), {})
    assert sorted(tree(store.folder)) == [".gitignore", "secrets.lock", "secrets.toml"]
    (store.folder / "secrets.toml").write_text("# mine\n")
    store.create()
    assert (store.folder / "secrets.toml").read_text() == "# mine\n"
    assert not (store.folder / ".staged").exists()


def test_git_takes_sealed_files_and_lists_and_nothing_else(store: SecretStore, fleet: list[Member]) -> None:
    add(store, fleet)
    for stray in ("web1/tls/key", "plain.txt", ".staged/0", "web1/secrets.toml"):
        (store.folder / stray).parent.mkdir(exist_ok=True)
        (store.folder / stray).write_bytes(PLAIN)
    git = ["git", "-C", str(store.folder.parent)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    kept = subprocess.run([*git, "ls-files"], check=True, capture_output=True, text=True).stdout.split()
    expected = {".gitignore", "secrets.lock", "secrets.toml", "web1/tls/key.age", "web2/tls/key.age"}
    assert set(kept) == {f"secrets/{path}" for path in expected}


def test_adding_seals_one_file_for_each_host_of_the_target(
    store: SecretStore, fleet: list[Member], identity: Identity, other_identity: Identity
) -> None:
    assert add(store, fleet, admins=(other_identity.recipient,)) == ("web1", "web2")
    state = store.read()
    assert state.declarations == (Declaration(WEB, NAME),)
    assert {key: copy.sealed for key, copy in state.lock.items()} == {("web1", NAME): 1000, ("web2", NAME): 1000}
    for host in ("web1", "web2"):
        file = store.folder / host / "tls" / "key.age"
        sealed = store.ciphertext(HostName(host), NAME)
        copy = state.lock[HostName(host), NAME]
        assert (sealed, copy.sha256) == (file.read_bytes(), hashlib.sha256(sealed).hexdigest())
        assert copy.recipients == tuple(sorted([identity.recipient.text, other_identity.recipient.text]))
        for reader in (identity, other_identity):
            assert open_sealed(sealed, [reader]).data == PLAIN
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755
    assert not (store.folder / ".staged").exists()


def test_plaintext_is_in_no_file_of_the_store(store: SecretStore, fleet: list[Member]) -> None:
    add(store, fleet)
    assert [path for path, content in tree(store.folder.parent).items() if PLAIN in content] == []
    (store.folder / "control").write_bytes(b"x" + PLAIN)
    assert [path for path, content in tree(store.folder).items() if PLAIN in content] == ["control"]


def test_what_exists_is_replaced_only_when_asked(store: SecretStore, fleet: list[Member], identity: Identity) -> None:
    add(store, fleet, attributes=Attributes.parse(owner="nginx", mode="0440", restart=["nginx.service"]))
    before = tree(store.folder)
    with pytest.raises(InputError, match="exists already") as caught:
        add(store, fleet, content=b"new")
    assert "--replace" in caught.value.hints[0]
    assert tree(store.folder) == before
    assert add(store, fleet, content=b"new", replace=True, attributes=Attributes.parse(mode="0400"), now=2000)
    (declared,) = store.read().declarations
    assert (declared.owner, declared.mode, declared.restart) == ("nginx", "0400", ("nginx.service",))
    assert contents(store, identity) == {"web1/tls/key": b"new", "web2/tls/key": b"new"}
    assert store.read().lock[HostName("web1"), NAME].sealed == 2000


def test_replacing_what_doesnt_exist_is_refused(store: SecretStore, fleet: list[Member]) -> None:
    add(store, fleet)
    with pytest.raises(InputError, match="no secret tls/kye") as caught:
        add(store, fleet, name="tls/kye", replace=True)
    assert caught.value.hints[0] == "did you mean tls/key?"


def test_a_tags_secret_leaves_out_hosts_with_their_own(
    store: SecretStore, fleet: list[Member], identity: Identity
) -> None:
    assert add(store, fleet, "web1", content=b"own") == ("web1",)
    assert add(store, fleet, "@web", content=b"tag") == ("web2",)
    assert contents(store, identity) == {"web1/tls/key": b"own", "web2/tls/key": b"tag"}
    assert add(store, fleet, "web2", content=b"own2") == ("web2",)
    assert contents(store, identity) == {"web1/tls/key": b"own", "web2/tls/key": b"own2"}
    with pytest.raises(InputError, match="every host of @web has its own"):
        add(store, fleet, "@web", replace=True)


@pytest.mark.parametrize(
    ("target", "name"), [("nohost", "a"), ("@notag", "a"), ("web1", "TLS/KEY"), ("db", "tls.age/key"), ("web1", "tls")]
)
def test_what_breaks_a_rule_writes_nothing(store: SecretStore, fleet: list[Member], target: str, name: str) -> None:
    add(store, fleet)
    before = tree(store.folder)
    with pytest.raises(InputError):
        add(store, fleet, target, name)
    assert tree(store.folder) == before


def test_one_bad_recipient_leaves_nothing_behind(store: SecretStore, fleet: list[Member]) -> None:
    before = tree(store.folder)
    fleet.append(Member(HostName("zz"), Recipient("age1bad"), fleet[0].tags))
    with pytest.raises(InputError, match="age1bad"):
        add(store, fleet)
    assert tree(store.folder) == before


def test_a_copy_that_is_missing_or_differs_from_the_lock_is_refused(store: SecretStore, fleet: list[Member]) -> None:
    add(store, fleet)
    file = store.folder / copy_path(HostName("web1"), NAME)
    sealed = file.read_bytes()
    file.write_bytes(sealed + b"x")
    with pytest.raises(InputError, match="isn't the file that"):
        store.ciphertext(HostName("web1"), NAME)
    file.unlink()
    with pytest.raises(InputError, match="is missing"):
        store.ciphertext(HostName("web1"), NAME)
    file.symlink_to("../../web2/tls/key.age")
    with pytest.raises(BentoError):
        store.ciphertext(HostName("web1"), NAME)
    with pytest.raises(InputError, match="no copy"):
        store.ciphertext(HostName("db"), NAME)


def test_no_symlink_inside_the_store_is_followed(store: SecretStore, fleet: list[Member], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.folder / "web1").symlink_to(outside)
    with pytest.raises(StoreFailed):
        add(store, fleet)
    assert list(outside.iterdir()) == []
    (store.folder / "web1").unlink()
    (store.folder / "secrets.toml").unlink()
    (store.folder / "secrets.toml").symlink_to(tmp_path / "passwd")
    (tmp_path / "passwd").write_text("")
    with pytest.raises(StoreFailed):
        store.read()


def test_a_missing_store_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no secret store"):
        SecretStore(tmp_path / "none").read()
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_waits_and_then_gives_up(
    store: SecretStore, fleet: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr("bento_secrets.opened.LIMITS", Limits(LOCK_PATIENCE=0.1))
    with durable.folder(store.folder) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreFailed, match="another command"):
            add(store, fleet)
    assert add(store, fleet)


def test_a_lock_that_is_lost_and_in_no_git_is_begun_anew_by_its_hint(tmp_path: Path, member: Make) -> None:
    store = SecretStore(tmp_path / "my fleet/secrets")
    store.folder.parent.mkdir()
    store.create()
    add(store, [member("db")], target="db")
    (store.folder / "secrets.lock").unlink()
    with pytest.raises(InputError) as error:
        store.read()
    elsewhere, anew = error.value.hints
    assert "git" not in elsewhere.removesuffix("not in git")
    subprocess.run(["sh", "-euc", anew[anew.index("echo ") :]], cwd=tmp_path, check=True)
    assert not store.read().lock
    add(store, [member("db")], target="db", replace=True)
    store.ciphertext(HostName("db"), NAME)


@pytest.mark.parametrize("lost", ["secrets", "secrets/secrets.toml", "secrets/secrets.lock", "secrets/db"])
def test_the_hint_for_what_is_missing_brings_it_back_from_any_folder(tmp_path: Path, member: Make, lost: str) -> None:
    fleet = tmp_path / "my fleet"
    fleet.mkdir()
    store = SecretStore(fleet / "secrets")
    store.create()
    add(store, [member("db")], target="db")

    def read() -> None:
        store.read()
        store.ciphertext(HostName("db"), NAME)

    def sh(command: str) -> None:
        subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True, capture_output=True)

    sh("cd 'my fleet' && git init -q && git add . && git -c user.name=a -c user.email=a commit -qm a")
    read()
    sh(f"rm -r 'my fleet/{lost}'")
    with pytest.raises(InputError) as error:
        read()
    sh(error.value.hints[0].removeprefix("take it from git: "))
    read()
