"""What is shown while a fleet is worked on: the more hosts, the less of each."""

import io
import sys
import threading

import pytest
from rich.console import Console

from bento.cli import progress as module
from bento.cli.build import failures
from bento.cli.progress import Progress, progress, show_results
from bento.errors import WorkFailed
from bento.names import HostName

HOSTS = tuple(HostName(f"host-{number}") for number in range(1000))
CHANGED, BROKEN = HOSTS[7], HOSTS[500]


def deploy(say: Progress, hosts: tuple[HostName, ...] = HOSTS) -> None:
    """What a deploy says when one host has changed and one is broken."""
    for host in hosts:
        if host in (CHANGED, BROKEN):
            say(host, "evaluating", "working")
        else:
            say(host, "needs no build", "ready")
    say(BROKEN, "evaluation failed", "failed")
    say(CHANGED, "building", "working")
    say(CHANGED, "built /nix/store/x", "ready")
    for host in hosts:
        if host == BROKEN:
            continue
        say(host, "publishing", "working")
        if host == CHANGED:
            say(host, "published 1 (configuration)")
        else:
            say(host, "unchanged", "same")


def test_in_a_pipe_a_thousand_hosts_are_a_line_for_what_changed_and_one_for_what_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress(len(HOSTS)) as say:
        deploy(say)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [f"{BROKEN}: evaluation failed", f"{CHANGED}: published 1 (configuration)"]


def test_verbose_says_each_step_of_each_host(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, verbose=True) as say:
        deploy(say, (HOSTS[0], CHANGED, BROKEN))
        say.output(CHANGED, "\x1b[31mred\x1b[0m\x07")
    said = capsys.readouterr().err.splitlines()
    assert f"{HOSTS[0]}: needs no build" in said
    assert f"{HOSTS[0]}: unchanged" in said
    assert f"{CHANGED}: building" in said
    assert said[-1] == f"{CHANGED}: red\\x07"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error is one of 24 lines and 60 columns, from now on."""
    screen = Terminal()
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def drawn(say: Progress) -> list[str]:
    """What stands on the terminal now, line by line."""
    assert isinstance(say, module._LiveProgress)
    console = Console(file=io.StringIO(), width=60, height=24)
    console.print(say._draw())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_terminal_shows_of_a_thousand_hosts_totals_what_runs_and_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with progress(len(HOSTS)) as say:
        for host in HOSTS[:10]:
            say(host, "needs no build", "same")
        for host in HOSTS[10:60]:
            say(host, "evaluating", "working")
        say(HOSTS[60], "evaluation failed", "failed")
        lines = drawn(say)
        assert len(lines) <= 24 - 1
        assert lines[0].startswith("host-10: evaluating")
        assert lines[-2] == "and 29 more"
        assert lines[-1] == "1,000 hosts: 10 unchanged, 1 failed, 50 under way, 939 wait…"
        deploy(say)
        assert drawn(say) == ["1,000 hosts: 1 done, 998 unchanged, 1 failed"]
    whole = screen.getvalue()
    assert whole.count("host-60: evaluation failed") == 1
    assert f"{BROKEN}: evaluation failed" in whole
    assert whole.rstrip("\x1b[?25h\n").endswith("1,000 hosts: 1 done, 998 unchanged, 1 failed")


def test_a_few_hosts_keep_a_line_each_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with progress(3) as say:
        deploy(say, (HOSTS[0], CHANGED, BROKEN))
        assert drawn(say) == [
            "host-0: unchanged",
            "host-7: published 1 (configuration)",
            "host-500: evaluation failed",
            "3 hosts: 1 done, 1 unchanged, 1 failed",
        ]
    assert screen.getvalue().count("host-500: evaluation failed") >= 1


def test_one_host_is_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    with progress(1) as say:
        say(HOSTS[0], "[bold]building", "working")
        assert drawn(say) == ["host-0: [bold]building", "1 host: 1 under way"]


def test_threads_may_speak_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    with progress(len(HOSTS)) as say:
        threads = [threading.Thread(target=deploy, args=(say,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert drawn(say) == ["1,000 hosts: 1 done, 998 unchanged, 1 failed"]


def test_results_are_whole_in_a_pipe_and_no_more_than_a_screen_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "24")
    show_results([f"{host} /nix/store/x" for host in HOSTS])
    assert len(capsys.readouterr().out.splitlines()) == 1000
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    show_results([f"{host} /nix/store/x" for host in HOSTS])
    lines = screen.getvalue().splitlines()
    assert len(lines) == 23
    assert lines[-1] == "and 978 more; in a pipe, or with --json, all are shown"
    show_results(["web /nix/store/x"])
    assert screen.getvalue().splitlines()[-1] == "web /nix/store/x"


def test_what_a_thousand_hosts_failed_of_alike_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    broken = {host: WorkFailed("undefined variable 'x'", "fix it") for host in HOSTS[1:]}
    assert failures({HOSTS[0]: WorkFailed("no room"), **broken}, len(HOSTS)) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: host-0: no room",
        "error: host-1, host-2, host-3, host-4, host-5 and 994 more: undefined variable 'x'",
        "hint: fix it",
    ]
