"""add_many, rekey and remove, cut at every step: the old state or the new one, no plaintext, and a rerun heals."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bento_secrets.check import check
from bento_secrets.declared import Attributes
from bento_secrets.errors import InputError, StoreFailed
from bento_secrets.identities import Identity, load_ssh_identity
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, TagName, Target
from bento_secrets.sealing import Plaintext, open_sealed
from bento_secrets.store import NewSecret, SecretStore
from rig.cuts import at_step, kill_at, stride

OLD, NEW = b"plain-old-ce9a1b77", b"plain-new-4411e0d2"
Contents = dict[str, bytes]


@dataclass
class Change:
    """One command, on a fleet of web1 and web2 (@web) and an admin, whose store holds `tls/key` for @web."""

    store: SecretStore
    members: list[Member]
    admin: Identity
    later: list[Member]  # after a new key for web1

    def add_many(self) -> None:
        """Two secrets for a tag, and one that a host has for itself."""
        items = [NewSecret(Target("@web"), SecretName(name), Attributes(), Plaintext(NEW)) for name in ("a", "b/c")]
        items.append(NewSecret(Target("web2"), SecretName("tls/key"), Attributes(), Plaintext(NEW)))
        self.store.add_many(items, self.members, [self.admin.recipient], replace=False, now=2)

    def rekey(self) -> None:
        self.store.rekey(self.later, [self.admin.recipient], [self.admin])

    def remove(self) -> None:
        self.store.remove(Target("@web"), SecretName("tls/key"), self.members, [self.admin.recipient])

    def wanted(self, command: str) -> list[Member]:
        """The fleet for which the store is in order after the command."""
        return self.later if command == "rekey" else self.members

    def findings(self, members: list[Member]) -> list[str]:
        state, found = self.store.survey([self.admin])
        found_ = check(state.declarations, state.lock, found, members, [self.admin.recipient], 3)
        return [one.kind for one in found_ if one.kind != "must rotate"]

    def contents(self) -> Contents:
        """What a reader sees, and who reads it."""
        lock = self.store.read().lock
        found = {}
        for (host, name), copy in lock.items():
            opened = open_sealed(self.store.ciphertext(host, name), [self.admin]).data
            found[f"{host}/{name}"] = opened + " ".join(copy.recipients).encode()
        return found


@pytest.fixture
def change(store: SecretStore, identity: Identity, other_identity: Identity, key_folder: Path) -> Change:
    def member(name: str, key: Identity) -> Member:
        return Member(HostName(name), key.recipient, frozenset([TagName("web")]))

    admin = load_ssh_identity(key_folder / "pem")
    members = [member("web1", identity), member("web2", identity)]
    change = Change(store, members, admin, [member("web1", other_identity), member("web2", identity)])
    store.add(
        *(Target("@web"), SecretName("tls/key"), Attributes(), Plaintext(OLD), members, [admin.recipient]),
        replace=False,
        now=1,
    )
    return change


COMMANDS = ("add_many", "rekey", "remove")


def plaintexts(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(plain in path.read_bytes() for plain in (OLD, NEW))]


def cut_at_every_step(change: Change, command: str, cut: Callable[[int], bool]) -> None:
    folder = change.store.folder
    saved = folder.parent / "saved"
    shutil.copytree(folder, saved)
    before = change.contents()
    getattr(change, command)()
    after = change.contents()
    assert before.keys() != after.keys() or before != after
    seen = []
    for number in range(1, 400, stride(5)):
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        if not cut(number):
            break
        now = change.contents()
        assert now in (before, after)
        assert not plaintexts(folder.parent)
        seen.append(now == after)
        with suppress(InputError):  # it exists already, or is gone already: the first run came through
            getattr(change, command)()
        assert change.contents() == after
        assert change.findings(change.wanted(command)) == []
        assert not (folder / ".staged").exists()
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.age")}
        assert files == {f"{name}.age" for name in after}
    assert seen == sorted(seen)
    assert {False, True} == set(seen)
    (folder / "control").write_bytes(b"x" + OLD)
    assert plaintexts(folder.parent) == [folder / "control"]


@pytest.mark.parametrize("command", COMMANDS)
def test_sigkill_at_any_step_leaves_old_or_new_and_a_rerun_heals(change: Change, command: str) -> None:
    cut_at_every_step(change, command, lambda number: kill_at(number, getattr(change, command)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_at_any_step_leaves_old_or_new_and_a_rerun_heals(change: Change, command: str) -> None:
    messages: list[str] = []

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def cut(number: int) -> bool:
        try:
            with at_step(number, full):
                getattr(change, command)()
        except StoreFailed as error:
            messages.append(error.message)
            return True
        return False

    cut_at_every_step(change, command, cut)
    assert all("no space left" in message for message in messages)


@pytest.mark.parametrize("command", ["add_many", "rekey", "remove"])
def test_each_name_that_changed_is_on_the_disk_before_the_plan_goes(
    change: Change, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsynced: set[int] = set()  # folders, by inode
    seen: list[set[int]] = []
    real = {name: getattr(os, name) for name in ("rename", "unlink", "mkdir", "fsync")}

    def rename(src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        real["rename"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        unsynced.add(os.fstat(dst_dir_fd).st_ino)

    def unlink(name: str, *, dir_fd: int) -> None:
        if name == "plan":
            seen.append(set(unsynced))
        real["unlink"](name, dir_fd=dir_fd)
        unsynced.add(os.fstat(dir_fd).st_ino)

    def mkdir(name: str, mode: int, *, dir_fd: int) -> None:
        real["mkdir"](name, mode, dir_fd=dir_fd)
        unsynced.add(os.fstat(dir_fd).st_ino)

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        unsynced.discard(os.fstat(descriptor).st_ino)

    for name, function in (("rename", rename), ("unlink", unlink), ("mkdir", mkdir), ("fsync", fsync)):
        monkeypatch.setattr(os, name, function)
    getattr(change, command)()
    assert seen == [set()]
