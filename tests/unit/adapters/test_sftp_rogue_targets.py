"""A server that is published to and means ill: it may show nonsense, not hold the admin, nor fill his memory."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko.sftp import CMD_LSTAT, CMD_NAME, CMD_READ, CMD_READDIR, SFTP_FAILURE
from unit.samples import WEB, key_file, public

from bento.adapters import sftp_ahead, sftp_files, sftp_target
from bento.adapters.sftp import ServerAway, logged_in
from bento.adapters.sftp_keys import publisher
from bento.adapters.sftp_lock import Locking, Owner
from bento.adapters.sftp_target import SftpTarget
from bento.adapters.wire import Wire
from bento.demo import server as fake
from bento.errors import WorkFailed
from bento.models.limits import LIMITS
from bento.models.targets import SftpPlace
from bento.models.trust import Server
from bento.names import Digest, HostName

pytestmark = pytest.mark.timeout(60)  # a hang is a failure; honest work takes a second

REPORT = bytes(sftp_files.PIECE) + b"the end of a report"
MANIFEST = b"{}\n" * 20_000
DIGEST = Digest("a" * 64)
SILENCE = 1.0  # seconds


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SftpTarget]:
    """A publish target on the demo's server, which the tests below spoil."""
    base = tmp_path / "publish/pub" / WEB
    (base / "release/objects").mkdir(parents=True)
    (base / "reports").mkdir()
    (base / "reports" / f"{7:020}.report").write_bytes(REPORT)
    (base / "release/manifest").write_bytes(MANIFEST)
    (base / "release/objects" / DIGEST).write_bytes(b"object")
    key = key_file(tmp_path / "key", 1)
    with fake.serving(tmp_path / "publish", {"pub": [public(1)]}, key_file(tmp_path / "server", 9)) as running:
        server = Server(running.address, running.port, (public(9),), 5)
        locking = Locking(lambda: Owner("me", "mine"), lambda: int(time.time()))
        place = SftpPlace("pub", running.address, running.port, "/")
        yield SftpTarget(
            place, lambda first: logged_in(server, publisher("pub", "it", key), SILENCE, first=first), locking
        )


def looked(target: SftpTarget) -> object:
    target.look_ahead({WEB: (DIGEST,)}, 2)
    return target.read_manifest(WEB)


READS: dict[str, Callable[[SftpTarget], object]] = {
    "a manifest": lambda target: target.read_manifest(WEB),
    "reports": lambda target: list(target.read_words(WEB)),
    "old reports": lambda target: target.drop_reports_but(WEB, 1),
    "looking ahead": looked,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_honest_server_is_read(
    target: SftpTarget, monkeypatch: pytest.MonkeyPatch, read: Callable[[SftpTarget], object]
) -> None:
    """The control of all that follows."""
    monkeypatch.setitem(globals(), "SILENCE", 30)  # on a busy machine too
    with target.opened():
        assert read(target) in (MANIFEST, [None, REPORT], None)


class Dripping(paramiko.SFTPServer):
    """Each answer well within the silence that is borne, of files a byte, and of folders a name, without end."""

    asked = 0

    def _process(self, t: int, request_number: int, msg: paramiko.Message) -> None:
        if t in (CMD_READ, CMD_READDIR):
            type(self).asked += 1
            time.sleep(SILENCE / 10)
        if t == CMD_READDIR:
            name = f"{type(self).asked:020}.report"
            self._response(request_number, CMD_NAME, 1, name, name, paramiko.SFTPAttributes())  # type: ignore[attr-defined]
        else:
            super()._process(t, request_number, msg)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_server_that_drips_doesn_t_hold_the_admin_and_is_then_asked_no_more(
    target: SftpTarget, monkeypatch: pytest.MonkeyPatch, read: Callable[[SftpTarget], object]
) -> None:
    monkeypatch.setattr(paramiko, "SFTPServer", Dripping)
    monkeypatch.setattr(fake._File, "read", lambda *_: b"x")
    with target.opened():
        with pytest.raises(ServerAway, match="takes too long"):
            read(target)
        asked = Dripping.asked
        with pytest.raises(ServerAway, match="takes too long"):
            target.read_manifest(WEB)
        assert Dripping.asked <= asked + LIMITS.reads


def test_answers_that_come_one_at_a_time_in_time_don_t_hold_the_admin_either(
    target: SftpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked at ahead is asked for many hosts at once; so slowly it would take days."""

    class Slow(paramiko.SFTPServer):
        def _process(self, t: int, request_number: int, msg: paramiko.Message) -> None:
            if t == CMD_LSTAT:
                time.sleep(SILENCE / 4)
            super()._process(t, request_number, msg)

    monkeypatch.setattr(paramiko, "SFTPServer", Slow)
    monkeypatch.setattr("bento.adapters.wire.LIMITS", replace(LIMITS, slowest=10**9))
    objects = [Digest(f"{number:064x}") for number in range(1000)]
    with target.opened():
        target.look_ahead({WEB: objects}, 2)
        with pytest.raises(ServerAway, match="takes too long"):
            target.read_manifest(WEB)


@pytest.mark.parametrize("name", [".", "again", ""], ids=["itself", "the same again", "nothing"])
def test_a_folder_that_has_no_end_ends(target: SftpTarget, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """However quick the answers are: each counts as a name."""
    asked = 0

    class Endless(paramiko.SFTPServer):
        def _process(self, t: int, request_number: int, msg: paramiko.Message) -> None:
            nonlocal asked
            if t == CMD_READDIR:
                asked += 1
                entry = (name, name, paramiko.SFTPAttributes())
                self._response(request_number, CMD_NAME, *((1, *entry) if name else (0,)))  # type: ignore[attr-defined]
            else:
                super()._process(t, request_number, msg)

    monkeypatch.setattr(paramiko, "SFTPServer", Endless)
    monkeypatch.setattr(sftp_target, "LIMITS", replace(LIMITS, entries=8))
    monkeypatch.setattr(sftp_ahead, "_NAMES", 8)
    with target.opened():
        target.look_ahead({WEB: ()}, 2)
        assert list(target.read_words(WEB)) == [None]
        target.drop_reports_but(WEB, 1)
    assert asked <= 4 * 2 * 8


def test_names_of_many_hosts_don_t_fill_the_memory_and_what_is_left_out_is_asked_for_by_itself(
    target: SftpTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand hosts with five thousand names each would be gigabytes."""
    names = [HostName(f"h{number}") for number in range(8)]
    for name in names:
        folder = tmp_path / "publish/pub" / name / "reports"
        folder.mkdir(parents=True)
        for number in range(10):
            (folder / f"{number:020}.report").write_bytes(b"it")
    monkeypatch.setattr(sftp_ahead, "_ALL_NAMES", 35)
    with target.opened():
        target.look_ahead(dict.fromkeys(names, ()), 2)
        assert sum(len(of or ()) for its in target._ahead.values() for of in its.folders.values()) < 35
        assert [len(list(target.read_words(name))[1:]) for name in names] == [10] * 8


def test_names_that_no_file_can_have_are_not_kept(target: SftpTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand of them, of 200 KB each, would be 20 GB."""
    asked = 0

    class Wordy(paramiko.SFTPServer):
        def _process(self, t: int, request_number: int, msg: paramiko.Message) -> None:
            nonlocal asked
            if t == CMD_READDIR:
                asked += 1
                self._response(request_number, CMD_NAME, 1, f"{asked:0200000}", "", paramiko.SFTPAttributes())  # type: ignore[attr-defined]
            else:
                super()._process(t, request_number, msg)

    monkeypatch.setattr(paramiko, "SFTPServer", Wordy)
    with target.opened(), pytest.raises(ServerAway, match="a file's name is too long"):
        list(target.read_words(WEB))
    assert asked <= 2


@pytest.mark.parametrize("how", ["signs of life", "reports"])
def test_a_server_that_opens_few_files_at_once_is_read_all_the_same(
    target: SftpTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    names = [HostName(f"host-{number}") for number in range(10)]
    for name in names:
        reports = tmp_path / "publish/pub" / name / "reports"
        reports.mkdir(parents=True)
        (reports / "heartbeat").write_bytes(name.encode())
        for number in range(10):
            (reports / f"{number:020}.report").write_bytes(b"%d" % number)
    opened, refused = 0, 0
    real_open, real_close = fake._Files.open, fake._File.close

    def open_(self: fake._Files, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        nonlocal opened, refused
        if opened == 3:
            refused += 1
            return SFTP_FAILURE
        opened += 1
        return real_open(self, path, flags, attr)

    def close(self: fake._File) -> None:
        nonlocal opened
        opened -= 1
        real_close(self)

    monkeypatch.setattr(fake._Files, "open", open_)
    monkeypatch.setattr(fake._File, "close", close)
    with target.opened():
        if how == "reports":
            assert list(target.read_words(names[0]))[1:] == [b"%d" % number for number in range(9, -1, -1)]
        else:
            target.hear(names)
            assert [next(target.read_words(name)) for name in names] == [name.encode() for name in names]
    assert refused > 0


def test_a_login_goes_on_beside_other_work_and_what_becomes_of_it_is_said_where_it_is_needed(
    target: SftpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    with target.approached():
        time.sleep(SILENCE / 2)
        monkeypatch.setattr(target, "_log_in", None)  # there is no second one
        with target.opened():
            assert target.read_manifest(WEB) == MANIFEST

    @contextmanager
    def no(_: Callable[[Wire], None]) -> Iterator[Wire]:
        raise WorkFailed("it doesn't let you in")
        yield

    monkeypatch.setattr(target, "_log_in", no)
    with target.approached():
        time.sleep(SILENCE / 10)
        with pytest.raises(WorkFailed, match="let you in"), target.opened():
            pass


@pytest.mark.parametrize("seconds", [0.0, SILENCE / 2])
def test_a_login_that_nobody_needs_is_ended_be_it_under_way_or_there(
    target: SftpTarget, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    real, open_now = target._log_in, list[str]()

    @contextmanager
    def watched(first: Callable[[Wire], None]) -> Iterator[Wire]:
        with real(first) as wire:
            open_now.append("it")
            yield wire
        open_now.clear()
        ended.set()

    ended = threading.Event()
    monkeypatch.setattr(target, "_log_in", watched)
    with target.approached():
        time.sleep(seconds)
    assert ended.wait(10)
    assert open_now == []
