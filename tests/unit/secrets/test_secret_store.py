"""The secret store: what a change writes, what it refuses, and that a cut leaves the old state or the new one."""

import errno
import hashlib
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bento_secrets import durable, staging
from bento_secrets.declared import Attributes, Declaration
from bento_secrets.errors import BentoError, InputError, StoreFailed
from bento_secrets.identities import Identity
from bento_secrets.limits import Limits
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, open_sealed
from bento_secrets.store import SecretStore, copy_path
from rig.cuts import at_step, kill_at

Make = Callable[..., Member]
WEB, NAME = Target("@web"), SecretName("tls/key")
NONE = Attributes()
PLAIN = b"hunter2-hunter2-hunter2"


@pytest.fixture
def fleet(member: Make) -> list[Member]:
    return [member("web2", "web"), member("web1", "web"), member("db")]


def add(
    store: SecretStore,
    fleet: list[Member],
    target: str = "@web",
    name: str = "tls/key",
    content: bytes = PLAIN,
    *,
    attributes: Attributes = NONE,
    replace: bool = False,
    now: int = 1000,
    admins: tuple[Recipient, ...] = (),
) -> tuple[HostName, ...]:
    return store.add(
        Target(target), SecretName(name), attributes, Plaintext(content), fleet, admins, replace=replace, now=now
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(store: SecretStore, identity: Identity) -> dict[str, bytes]:
    """What a reader sees: every copy of the lock, opened."""
    lock = store.read().lock
    return {f"{host}/{name}": open_sealed(store.ciphertext(host, name), [identity]).data for host, name in lock}


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

    monkeypatch.setattr("bento_secrets.store.LIMITS", Limits(LOCK_PATIENCE=0.1))
    with durable.folder(store.folder) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreFailed, match="another command"):
            add(store, fleet)
    assert add(store, fleet)


def cut_at_every_step(store: SecretStore, fleet: list[Member], identity: Identity, cut: Callable[[int], bool]) -> int:
    """Cut `add --replace` at each step in turn: a reader sees old or new, whole; and the next writer heals it."""
    old, new = (dict.fromkeys(("web1/tls/key", "web2/tls/key"), text) for text in (b"old", b"new"))
    seen = []
    for number in range(1, 200):
        add(store, fleet, content=b"old", replace=number > 1, attributes=Attributes.parse(mode="0400"))
        if not cut(number):
            break
        now = contents(store, identity)
        assert now in (old, new)
        assert store.read().declarations[0].mode == ("0400" if now == old else "0440")
        seen.append(now == new)
        store.create()  # the least a writer does: finish or drop
        assert contents(store, identity) == now
        assert sorted(tree(store.folder)) == [
            ".gitignore",
            "secrets.lock",
            "secrets.toml",
            "web1/tls/key.age",
            "web2/tls/key.age",
        ]
        assert not (store.folder / ".staged").exists()
    assert seen == sorted(seen)  # once committed, always new
    assert {False, True} == set(seen)
    return len(seen)


def test_sigkill_at_any_step_leaves_old_or_new_and_the_rerun_heals(
    store: SecretStore, fleet: list[Member], identity: Identity
) -> None:
    mode = Attributes.parse(mode="0440")

    def cut(number: int) -> bool:
        return kill_at(number, lambda: add(store, fleet, content=b"new", replace=True, attributes=mode))

    assert cut_at_every_step(store, fleet, identity, cut) > 30


def test_a_full_disk_at_any_step_leaves_old_or_new_and_a_clear_error(
    store: SecretStore, fleet: list[Member], identity: Identity
) -> None:
    messages: list[str] = []

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def cut(number: int) -> bool:
        with at_step(number, full):
            try:
                add(store, fleet, content=b"new", replace=True, attributes=Attributes.parse(mode="0440"))
            except StoreFailed as error:
                messages.append(str(error))
                return True
        return False

    assert cut_at_every_step(store, fleet, identity, cut) > 30
    assert all("no space left" in message for message in messages)


def test_a_reader_of_a_cut_change_writes_nothing(store: SecretStore, fleet: list[Member], identity: Identity) -> None:
    log: list[str] = []
    add(store, fleet, content=b"old")
    with at_step(1000, lambda: None, log):
        add(store, fleet, content=b"new", replace=True)
    committed = log.index("rename") + 3
    assert kill_at(committed, lambda: add(store, fleet, content=b"newer", replace=True))
    before = tree(store.folder)
    assert ".staged/plan" in before
    assert set(contents(store, identity).values()) == {b"newer"}
    assert tree(store.folder) == before


def test_everything_is_on_the_disk_before_the_commit_and_before_the_plan_goes(
    store: SecretStore, fleet: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    dirty: set[str] = set()
    checked: list[str] = []
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "rename", "unlink")}

    def path(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())

    def make(name: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        # The plan's own temporary name may be lost; that of what it names may not.
        if flags & os.O_CREAT and dir_fd is not None and not name.endswith(".tmp"):
            dirty.add(path(dir_fd))
        return int(real["open"](name, flags, *args, dir_fd=dir_fd))

    def write(descriptor: int, data: bytes) -> int:
        dirty.add(path(descriptor))
        return int(real["write"](descriptor, data))

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        dirty.discard(path(descriptor))

    def rename(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if new == "plan":
            assert dirty == set(), "the plan is put in place over files that a power cut would lose"
            checked.append(new)
        real["rename"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        dirty.add(path(dst_dir_fd))

    def unlink(name: str, *, dir_fd: int) -> None:
        if name == "plan":
            assert dirty == set(), "the plan goes before the renames are on the disk"
            checked.append("gone")
        real["unlink"](name, dir_fd=dir_fd)

    for name, wrapped in {"open": make, "write": write, "fsync": fsync, "rename": rename, "unlink": unlink}.items():
        monkeypatch.setattr(os, name, wrapped)
    add(store, fleet)
    assert checked == ["plan", "gone"]


def test_a_killed_process_under_strace_leaves_old_or_new(
    store: SecretStore, fleet: list[Member], identity: Identity, tmp_path: Path
) -> None:
    """The same without patching Python: the kernel's own rename(2) is where it dies."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\nfrom bento_secrets import durable, staging\n"
        "with durable.folder(Path(sys.argv[1])) as fd:\n"
        "    staging.settle(fd)\n"
        "    staging.commit(fd, {'a/b.age': b'new', 'c/d.age': b'new', 'secrets.x': b'new'})\n"
    )
    python = str(Path(durable.__file__).parents[2] / ".venv/bin/python")
    folder = tmp_path / "plain"
    for number in range(1, 6):
        folder.mkdir(exist_ok=True)
        (folder / "a").mkdir(exist_ok=True)
        (folder / "a/b.age").write_bytes(b"old")
        inject = f"inject=rename,renameat,renameat2:signal=KILL:when={number}"
        done = subprocess.run(
            ["strace", "-qq", "-o", "/dev/null", "-e", inject, python, str(program), str(folder)], check=False
        )
        with durable.folder(folder) as descriptor:
            plan = staging.read_plan(descriptor)
            seen = staging.read(descriptor, "a/b.age", 100, plan), staging.read(descriptor, "secrets.x", 100, plan)
            # strace kills at the call's entry, so the first one is the plan's own rename, not yet done.
            assert seen == ((b"old", None) if number == 1 else (b"new", b"new"))
            staging.settle(descriptor)
        assert (done.returncode == 0) == (number == 5)
        assert not (folder / ".staged").exists()
        for path in folder.rglob("*.[ax]*"):
            path.unlink()


@pytest.mark.parametrize(
    "plan",
    [
        b"",
        b"[]",
        b'{"format":2,"files":{}}',
        b'{"format":1,"files":{"../x":"0"}}',
        b'{"format":1,"files":{"/etc/x":"0"}}',
        b'{"format":1,"files":{"a":"../0"}}',
        b'{"format":1,"files":{".staged/plan":"0"}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_plan_is_reported_and_touches_nothing(store: SecretStore, fleet: list[Member], plan: bytes) -> None:
    (store.folder / ".staged").mkdir()
    (store.folder / ".staged/0").write_bytes(b"x")
    (store.folder / ".staged/plan").write_bytes(plan)
    before = tree(store.folder.parent)
    for work in (store.read, store.create, lambda: add(store, fleet)):
        with pytest.raises(StoreFailed, match="damaged"):
            work()
    assert tree(store.folder.parent) == before


def test_an_atomic_write_replaces_a_symlink_sets_the_mode_and_leaves_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "file").symlink_to("target")
    durable.write_atomic(tmp_path / "file", b"new", 0o640)
    assert not (tmp_path / "file").is_symlink()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "first")

    for step in ("write", "fsync", "rename"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, step, broken)
            with pytest.raises(OSError, match="first"):
                durable.write_atomic(tmp_path / "other", b"new", 0o600)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        durable.write_atomic(tmp_path / "folder", b"new", 0o600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "target"]
    assert (tmp_path / "target").read_bytes() == b"old"
