"""The rig that cuts work at a step counts the work's own steps."""

import threading
from pathlib import Path

import pytest

from rig.cuts import at_step


class Cut(Exception):
    """At this step."""


def cut() -> None:
    raise Cut


def steps(folder: Path, first: threading.Event | None = None) -> None:
    if first is not None:
        assert first.wait(20)
    for number in range(5):
        (folder / str(number)).mkdir()


def test_a_step_is_one_of_the_work_s_own_and_none_of_a_thread_left_over_from_before(tmp_path: Path) -> None:
    go, over = threading.Event(), threading.Event()

    def left_over() -> None:
        go.wait(20)
        for number in range(50):
            (tmp_path / f"other-{number}").mkdir()
        over.set()

    thread = threading.Thread(target=left_over)
    thread.start()
    mine = tmp_path / "mine"
    mine.mkdir()
    with at_step(4, cut):
        go.set()
        with pytest.raises(Cut):
            steps(mine, over)
    thread.join()
    assert len(list(mine.iterdir())) == 3
    assert len(list(tmp_path.glob("other-*"))) == 50


def test_a_thread_that_the_work_starts_is_cut_as_the_work_is(tmp_path: Path) -> None:
    log: list[str] = []
    with at_step(100, cut, log):
        thread = threading.Thread(target=steps, args=(tmp_path,))
        thread.start()
        thread.join()
    assert log == ["mkdir"] * 5
