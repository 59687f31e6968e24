"""`add` cut anywhere leaves the old state or the new one; what the disk has when; and a plan that can't be trusted."""

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.secrets.storing import add, contents, tree

from bento_secrets import durable, staging
from bento_secrets.declared import Attributes
from bento_secrets.errors import StoreFailed
from bento_secrets.identities import Identity
from bento_secrets.members import Member
from bento_secrets.store import SecretStore
from rig.cuts import at_step, kill_at

Make = Callable[..., Member]


@pytest.fixture
def fleet(member: Make) -> list[Member]:
    return [member("web2", "web"), member("web1", "web"), member("db")]


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
