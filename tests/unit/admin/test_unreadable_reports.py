"""One host's reports can't be read: that is said of the host, and every other one is seen as ever."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from unit.admin.test_rollback_plan import Desk
from unit.samples import FLEET, WEB, bound_by_modes, key_file

from bento.adapters import signatures
from bento.adapters.folder import PublishFolder
from bento.adapters.protocol import SaidNo
from bento.admin.installed import read_reports
from bento.admin.inventory import load_trust
from bento.admin.status import HostStatus, status
from bento.models.report import Report
from bento.models.trust import NAMESPACE_REPORT
from bento.names import HostName

DB = HostName("db")
Hurt = Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[None]]


@pytest.fixture
def desk(fleet_root: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The host web has a release and db has reported."""
    monkeypatch.setenv("XDG_STATE_HOME", str(fleet_root.parent / "state"))
    (fleet_root.parent / "publish").mkdir()
    desk = Desk(fleet_root)
    desk.publish("one", token="a")
    reports = desk.folder.root / "db/reports"
    reports.mkdir(parents=True)
    (reports / f"{1:020}.report").write_bytes(said_by_db(fleet_root.parent))
    return desk


def said_by_db(folder: Path) -> bytes:
    report = Report(
        fleet=FLEET, host="db", counter=1, time=1, serial=None, digest=None, outcome="refused", reason="a reason",
        old_system=None, new_system=None, running=None, secrets=(), log_tail="",
    )  # fmt: skip
    return signatures.sign(report.line, [key_file(folder / "db_key", 12)], NAMESPACE_REPORT).raw


def closed(reports: Path, _: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    reports.chmod(0)
    return bound_by_modes()


def a_file(reports: Path, _: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    reports.rmdir()
    reports.write_text("x")
    return nullcontext()


def broken_disk(reports: Path, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    real, inode = os.listdir, reports.stat().st_ino

    def fails(path: Any = ".") -> list[str]:
        if isinstance(path, int) and os.fstat(path).st_ino == inode:
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(os, "listdir", fails)
    return nullcontext()


def a_server_that_says_no(_: Path, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    real = PublishFolder.read_words

    def fails(self: PublishFolder, host: HostName) -> Any:
        if host == WEB:
            raise SaidNo("can't read the reports: the server doesn't allow it")
        return real(self, host)

    monkeypatch.setattr(PublishFolder, "read_words", fails)
    return nullcontext()


def look(desk: Desk) -> dict[HostName, HostStatus]:
    return {one.host.name: one for one in status(desk.fleet, load_trust(desk.root), [WEB, DB])}


@pytest.mark.parametrize("hurt", [closed, a_file, broken_disk, a_server_that_says_no])
def test_a_host_whose_reports_cannot_be_read_is_said_to_be_so_and_the_others_are_seen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, hurt: Hurt
) -> None:
    assert [one.state.state for one in look(desk).values()] == ["new machine", "refused"]
    warned: list[str] = []
    with hurt(desk.folder.root / "web/reports", monkeypatch):
        found = look(desk)
        reports = read_reports(desk.fleet, [WEB, DB], warned.append)
    assert [one.state.state for one in found.values()] == ["unreadable", "refused"]
    (note,) = found[WEB].notes
    assert "can't read the reports" in note
    assert found[WEB].published is not None
    # `bento secret list` goes on in the same way
    assert (reports[WEB], reports[DB]) == (None, found[DB].state.report)
    assert warned == [f"what web has is unknown: {note}"]
