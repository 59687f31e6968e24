"""A conversation with a program: fed, heard line by line, bounded; and what ssh is handed."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bento.adapters.process import converse
from bento.adapters.ssh import Remote, ssh_options
from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento.models.fleet import parse_address

Heard = list[tuple[str, str]]


def talk(script: str, *feed: bytes) -> tuple[int, Heard]:
    heard: Heard = []
    code = converse([sys.executable, "-c", script], feed, lambda stream, line: heard.append((stream, line)))
    return code, heard


def test_a_program_is_fed_and_heard_on_both_streams_and_its_code_kept() -> None:
    script = "import sys; n = len(sys.stdin.buffer.read()); print(n); print('no', file=sys.stderr); sys.exit(6)"
    code, heard = talk(script, b"x" * 300_000, b"y" * 300_000)
    assert code == 6
    assert sorted(heard) == [("err", "no"), ("out", "600000")]


def test_lines_come_as_they_are_said_not_at_the_end() -> None:
    said = threading.Event()

    def feed() -> Iterator[bytes]:
        yield b"first\n"
        assert said.wait(20)
        yield b"second\n"

    heard: list[str] = []

    def on_line(_stream: str, line: str) -> None:
        heard.append(line)
        said.set()

    script = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    assert converse([sys.executable, "-u", "-c", script], feed(), on_line) == 0
    assert heard == ["first", "second"]


def test_a_program_that_stops_reading_is_no_error() -> None:
    assert talk("pass", *[b"x" * 100_000] * 100) == (0, [])


def test_a_line_without_an_end_comes_in_pieces() -> None:
    _, heard = talk("import sys; sys.stdout.write('x' * 1_000_000)")
    assert sum(len(line) for _, line in heard) == 1_000_000
    assert max(len(line) for _, line in heard) < 200_000


def test_what_cannot_be_fed_ends_the_program_and_is_raised_here() -> None:
    def feed() -> Iterator[bytes]:
        yield b"begin"
        raise WorkFailed("an object is gone")

    with pytest.raises(WorkFailed, match="an object is gone"):
        converse([sys.executable, "-c", "import time; time.sleep(60)"], feed(), lambda *_: None)


def test_a_listener_that_fails_ends_the_program() -> None:
    def on_line(_stream: str, line: str) -> None:
        os.kill(int(line), 0)  # it is there
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converse([sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"], (), on_line)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(EnvironmentFailed, match="no-such-program"):
        converse(["no-such-program"], (), lambda *_: None)


def test_ssh_gets_the_person_s_options_first_and_one_quoted_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ssh").write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    heard: list[str] = []
    remote = Remote("root@web", ("-p", "2222"), ("sudo", "bento agent"))
    assert remote.call(["confirm", "5; reboot"], (), lambda _, line: heard.append(line)) == 0
    assert heard[:3] == ["-T", "-p", "2222"]
    assert heard[-2:] == ["root@web", "sudo 'bento agent' confirm '5; reboot'"]


@pytest.mark.parametrize(
    ("text", "options"),
    [("", ()), ("-p 2222", ("-p", "2222")), ("-i '/a b/key' -o X=\"y z\"", ("-i", "/a b/key", "-o", "X=y z"))],
)
def test_the_old_variable_is_split_as_a_shell_does(text: str, options: tuple[str, ...]) -> None:
    assert ssh_options({"NIX_SSHOPTS": text}) == options
    assert ssh_options({}) == ()


def test_an_open_quote_in_it_is_said() -> None:
    with pytest.raises(InputError, match="NIX_SSHOPTS"):
        ssh_options({"NIX_SSHOPTS": "-i 'key"})


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("192.0.2.7", "root@192.0.2.7"),
        ("web.example.org", "root@web.example.org"),
        ("deploy@web", "deploy@web"),
        ("fe80::1%eth0", "root@fe80::1%eth0"),
        ("[2001:db8::1]", "root@2001:db8::1"),
    ],
)
def test_an_address_is_root_s_unless_it_says_whose(text: str, login: str) -> None:
    assert parse_address(text) == login
    assert parse_address(login) == login


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web:22",
        "[::1]:22",
        "-oProxyCommand=sh",
        "root@-x",
        "-x@web",
        "a b",
        "web;reboot",
        "@web",
        "root@",
        "web\n",
        "a@b@c d",
    ],
)
def test_what_ssh_could_take_for_something_else_is_no_address(text: str) -> None:
    with pytest.raises(InputError):
        parse_address(text)
