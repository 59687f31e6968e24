"""Power cuts on a real file system, before and after each fsync: nothing is relied on that isn't on the disk yet.

Here at a few of them; at all by `make faults` (README.md beside this file).
"""

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from unit.admin.test_publish import Place

from bento.adapters.folder import PublishFolder
from bento.admin.at_once import each
from bento.agent import run
from bento.errors import BentoError
from bento.models.signed import sha256
from bento_secrets.declared import Attributes
from bento_secrets.drafts import NewSecret
from bento_secrets.identities import load_ssh_identity
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.sealing import Plaintext, open_sealed
from bento_secrets.store import SecretStore
from rig.disk import Disk, around_syncs, cut_at, steps_of
from rig.faulty import FaultyHost, breakable, published
from rig.keys import make_ssh_key
from rig.whole import check_after, check_at_once

ALL = os.environ.get("BENTO_FAULTS") == "all"
pytestmark = [
    pytest.mark.root,
    pytest.mark.programs("mkfs.ext4", "mount", "ssh-keygen"),
    pytest.mark.timeout(900 if ALL else 240),
]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHost]:
    made = FaultyHost(tmp_path)
    with breakable(made, monkeypatch):
        yield made


def power_cuts(
    disk: Disk,
    begin: Callable[[], object],
    work: Callable[[], object],
    check: Callable[[bool], object],
    *,
    syncing: bool = True,
) -> tuple[int, list[str]]:
    """Cut `work` around each fsync; `check`, told whether it had ended, looks at the disk. Cuts, and what was wrong."""
    disk.restore()
    with disk.mounted():
        begin()
        numbers = around_syncs(steps_of(work))
    if not ALL:
        numbers = [*numbers[5:-1:12], numbers[-1]]
    wrong = []
    for number in numbers:
        disk.restore()
        with disk.mounted():
            begin()
            ended = cut_at(disk, number, work, syncing=syncing)
        with disk.mounted():
            try:
                check(ended)
            except (AssertionError, BentoError, OSError) as error:
                wrong.append(f"before call {number}: {error!r:.600}")
    print(f"{len(numbers)} power cuts, {len(wrong)} wrong")  # noqa: T201
    return len(numbers), wrong


def prepared(disk: Disk, folders: dict[str, Path]) -> None:
    """Have these folders on the disk, under their names."""
    disk.clear()
    with disk.mounted():
        for name, folder in folders.items():
            shutil.copytree(folder, disk.mount / name, symlinks=True)
    disk.keep()


def cut_runs(disk: Disk, host: FaultyHost, end: str, *, syncing: bool = True) -> tuple[int, list[str]]:
    """The agent's state is on the disk; profile, boot loader and server are elsewhere, and lose nothing."""
    prepared(disk, {"state": host.folder / "state-old"})
    state = host.made.state.root
    shutil.rmtree(state)
    state.symlink_to(disk.mount / "state")

    def begin() -> None:
        host.start()
        if end == "old":
            host.fault("new", "test", "exit 2", when="after")

    def check(ended: bool) -> None:  # noqa: FBT001 — all checks are asked alike
        host.reboot()
        assert host.content().decode().split()[1] == host.check_boot()
        assert not ended or host.made.state.journal().phase == "idle"
        check_at_once(host)
        check_after(host, end)

    return power_cuts(disk, begin, lambda: run.run(host.made), check, syncing=syncing)


def cut_publications(disk: Disk, host: FaultyHost, *, syncing: bool = True) -> tuple[int, list[str]]:
    """A reader finds the old release or the new one, whole; the new one once `publish` said so."""
    prepared(disk, {"target": host.folder / "published-old"})
    target = disk.mount / "target"

    def word() -> str:
        return host.word_of(published(host.trust(), target, host.name))

    def check(ended: bool) -> None:  # noqa: FBT001
        assert word() in (("new",) if ended else ("old", "new"))
        host.publish("new", target)
        assert word() == "new"

    return power_cuts(disk, lambda: None, lambda: host.publish("new", target), check, syncing=syncing)


def cut_many_publications(disk: Disk, folder: Path, *, syncing: bool = True) -> tuple[int, list[str]]:
    """Hosts written at once: of each a reader finds the old release or the new one, whole."""
    folder.mkdir()
    place, names = Place(folder), [HostName.parse(f"host-{number}") for number in range(6)]
    times = count(1_700_000_000)

    def publish(word: str, target: Path) -> None:
        contents = [place.content(f"{word} {name}", f"sealed {word} {name}", host=name) for name in names]
        each(lambda one: place.publish(one, next(times), to=[PublishFolder(target)]), contents, 16)

    publish("old", place.folder.root)
    prepared(disk, {"target": place.folder.root})
    target = disk.mount / "target"

    def words() -> set[str]:
        said = {sha256(f"{word} {name}".encode()): word for word in ("old", "new") for name in names}
        return {said[published(place.trust, target, name).config.digest] for name in names}

    def check(ended: bool) -> None:  # noqa: FBT001
        assert words() <= ({"new"} if ended else {"old", "new"})
        publish("new", target)
        assert words() == {"new"}

    return power_cuts(disk, lambda: None, lambda: publish("new", target), check, syncing=syncing)


def cut_secrets(disk: Disk, folder: Path, *, syncing: bool = True) -> tuple[int, list[str]]:
    """Two secrets are replaced: both or none of them, and both once it said so; and each opens."""
    identity = load_ssh_identity(make_ssh_key(folder / "key").path)
    members = [Member(HostName.parse("web"), identity.recipient, frozenset())]
    names = [SecretName.parse("one"), SecretName.parse("two")]

    def add(store: SecretStore, content: bytes, *, replace: bool = True) -> None:
        items = [NewSecret(Target.parse("web"), name, Attributes(), Plaintext(content)) for name in names]
        store.add_many(items, members, (), replace=replace, now=1000)

    first = SecretStore(folder / "secrets")
    first.create()
    add(first, b"old", replace=False)
    prepared(disk, {"secrets": first.folder})
    store = SecretStore(disk.mount / "secrets")

    def contents() -> set[bytes]:
        copies = store.read().lock
        assert len(copies) == len(names)
        return {open_sealed(store.ciphertext(host, name), [identity]).data for host, name in copies}

    def check(ended: bool) -> None:  # noqa: FBT001
        assert contents() in ([{b"new"}] if ended else [{b"old"}, {b"new"}])
        add(store, b"newer")
        assert contents() == {b"newer"}

    return power_cuts(disk, lambda: None, lambda: add(store, b"new"), check, syncing=syncing)


@pytest.mark.parametrize("end", ["new", "old"])
def test_a_host_that_loses_power_around_any_fsync_of_a_run_boots_one_release_converges_and_reports(
    disk: Disk, host: FaultyHost, end: str
) -> None:
    cuts, wrong = cut_runs(disk, host, end)
    assert wrong == []
    assert cuts > (25 if ALL else 1)


def test_a_publish_target_that_loses_power_around_any_fsync_shows_one_whole_release(
    disk: Disk, host: FaultyHost
) -> None:
    cuts, wrong = cut_publications(disk, host)
    assert wrong == []
    assert cuts > (10 if ALL else 1)


def test_hosts_that_are_published_at_once_each_have_one_whole_release_after_a_power_cut(
    disk: Disk, tmp_path: Path
) -> None:
    cuts, wrong = cut_many_publications(disk, tmp_path / "many")
    assert wrong == []
    assert cuts > (60 if ALL else 4)


def test_a_secret_store_that_loses_power_around_any_fsync_has_all_of_a_change_or_none(
    disk: Disk, tmp_path: Path
) -> None:
    cuts, wrong = cut_secrets(disk, tmp_path)
    assert wrong == []
    assert cuts > (10 if ALL else 1)


def test_without_fsync_each_of_these_fails(disk: Disk, host: FaultyHost, tmp_path: Path) -> None:
    """The control: it is fsync that keeps the promises above, and the cuts are real ones."""
    store = tmp_path / "store"
    store.mkdir()
    for wrong in (
        cut_publications(disk, host, syncing=False)[1],
        # What several threads leave unwritten is chance: two tries of five find nothing.
        next(filter(None, (cut_many_publications(disk, tmp_path / str(n), syncing=False)[1] for n in range(12))), []),
        cut_secrets(disk, store, syncing=False)[1],
        cut_runs(disk, host, "new", syncing=False)[1],
    ):
        assert wrong != []
