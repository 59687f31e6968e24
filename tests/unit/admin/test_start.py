"""Before a command has begun: Ctrl-C is no traceback, and somebody without a home gets what can be had."""

import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from unit.desk import Desk

from bento.cli import start
from bento.cli.main import bento
from bento.cli.top import main_of
from rig.world import PROGRAMS


@pytest.mark.parametrize("program", ["bento", "bento-agent"])
def test_ctrl_c_while_the_program_is_still_being_read_is_no_traceback(tmp_path: Path, program: str) -> None:
    (tmp_path / "click.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")  # a slow disk
    process = subprocess.Popen(
        [PROGRAMS / program, "status"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (-signal.SIGINT, b"")


def test_in_a_folder_that_is_gone_a_fleet_with_its_whole_path_is_found_and_else_that_is_said(
    desk: Desk, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def run(words: str) -> subprocess.CompletedProcess[str]:
        argv = ["sh", "-c", f'cd "$0" && rmdir "$0" && exec "$@" {words}', gone, PROGRAMS / "bento"]
        gone.mkdir(exist_ok=True)
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    found = run(f"--dir {desk.root} host list")
    assert (found.returncode, found.stdout.splitlines()[1].split()[0]) == (0, "web"), found.stderr
    for words in ("host list", "init here"):
        refused = run(words)
        assert refused.returncode != 0
        assert refused.stderr.startswith("error: the working folder is gone\nhint: go to "), refused.stderr


def test_where_ctrl_c_is_ignored_it_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("bento.cli.main.main", lambda: seen.append(signal.getsignal(signal.SIGINT)))
    before = signal.getsignal(signal.SIGINT)
    try:
        for handler in (signal.SIG_IGN, signal.default_int_handler):
            signal.signal(signal.SIGINT, handler)
            start.admin()
            assert seen.pop() is handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("words", "code"), [("host list", 0), ("--help", 0), ("status", 1), ("deploy", 1)])
def test_without_a_home_and_an_account_commands_do_what_they_can(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, code: int
) -> None:
    def unknown(user: int) -> pwd.struct_passwd:
        raise KeyError(user)

    desk.publish.rmdir()
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "so that it is put back")
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["bento", "--dir", str(desk.root), *words.split()])
    with pytest.raises(SystemExit) as ended:
        main_of(bento, "bento")()
    said = capsys.readouterr().err
    assert ended.value.code == code, said
    assert "has a bug" not in said
