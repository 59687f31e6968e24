"""Changes in folders are noticed: every one by inotify, and without it by looking again."""

import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
from unit.samples import bound_by_modes

from bento.adapters.watch import polling, watching

LONG, SHORT = 20.0, 0.05


def put(folder: Path, name: str) -> None:
    """A file as Bento and sshd leave one: by rename."""
    (folder / ".new").write_text("x")
    (folder / ".new").rename(folder / name)


def test_silence_is_silence(tmp_path: Path) -> None:
    with watching({"web": (tmp_path,)}) as wait:
        assert wait(SHORT) == frozenset()


def test_a_change_says_whose_it_is(tmp_path: Path) -> None:
    for name in ("web", "db"):
        (tmp_path / name).mkdir()
    with watching({name: (tmp_path / name,) for name in ("web", "db")}) as wait:
        put(tmp_path / "db", "report")
        assert wait(LONG) == {"db"}
        assert wait(SHORT) == frozenset()
        put(tmp_path / "web", "report")
        put(tmp_path / "db", "report")
        assert wait(LONG) == {"web", "db"}
        (tmp_path / "web/report").unlink()
        assert wait(LONG) == {"web"}


def test_a_folder_that_comes_later_or_anew_is_watched(tmp_path: Path) -> None:
    host, reports = tmp_path / "web", tmp_path / "web/reports"
    with watching({"web": (tmp_path, host, reports)}) as wait:
        for _ in range(2):
            reports.mkdir(parents=True)
            assert wait(LONG) == {"web"}
            put(reports, "report")
            assert wait(LONG) == {"web"}
            shutil.rmtree(host)
            assert wait(LONG) == {"web"}


def test_a_link_that_a_host_made_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "reports").symlink_to("elsewhere")
    with watching({"web": (tmp_path / "reports",)}) as wait:
        put(tmp_path / "elsewhere", "x")
        assert wait(SHORT) == frozenset()


def test_a_host_that_writes_without_end_does_not_make_us_look_without_end(tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            put(tmp_path, "report")

    writer = threading.Thread(target=write)
    with watching({"web": (tmp_path,)}) as wait:
        writer.start()
        try:
            began = time.monotonic()
            looks = 0
            while time.monotonic() - began < 2:
                assert wait(LONG) == {"web"}
                looks += 1
        finally:
            stop.set()
            writer.join()
    assert looks < 10


def test_without_inotify_everybody_may_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with polling(["web", "db"]) as wait:
        assert wait(SHORT) == {"web", "db"}
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    with watching({"web": (tmp_path,)}) as wait:
        assert wait(SHORT) == {"web"}


def test_a_folder_that_may_not_be_watched_ends_no_watch_of_another(tmp_path: Path) -> None:
    db = tmp_path / "db"
    db.mkdir()
    with watching({"web": (tmp_path, tmp_path / "web"), "db": (db,)}) as wait, bound_by_modes():
        (tmp_path / "web").mkdir(mode=0)
        assert wait(LONG) == {"web"}
        put(db, "report")
        assert wait(LONG) == {"db"}
