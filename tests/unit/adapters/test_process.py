"""Programs: argv as it is, output kept, and every way not to start or to end is one of our errors."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bento.adapters.process import Done, probe, require, run, run_keeping_tail
from bento.errors import EnvironmentFailed
from rig.processes import ended


def test_arguments_reach_the_program_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "$(touch x)", "; true", "a b", "*"]
    monkeypatch.chdir(tmp_path)
    done = run(argv)
    assert done.out.decode().strip() == str(argv[3:])
    assert list(tmp_path.iterdir()) == []


def test_both_outputs_and_the_exit_are_kept() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert done == Done(7, b"out\n", b"err\n")
    assert run(["sh", "-c", "kill -9 $$"]).code == -9


@pytest.fixture
def typed_ahead() -> Iterator[None]:
    """This process's own standard input has something waiting in it."""
    reader, writer = os.pipe()
    os.write(writer, b"not for programs")
    os.close(writer)
    before = os.dup(0)
    os.dup2(reader, 0)
    yield
    os.dup2(before, 0)
    for descriptor in (reader, before):
        os.close(descriptor)


def test_without_input_the_program_finds_none_and_does_not_wait(typed_ahead: None) -> None:
    assert run(["cat"], timeout=200).out == b""
    assert run(["cat"], stdin=b"given").out == b"given"
    assert run_keeping_tail(["cat"], tail=10).err == b""


def test_the_environment_given_replaces_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    out = run(["/usr/bin/env"], env={"ONLY": "this"}).out
    assert out == b"ONLY=this\n"


@pytest.mark.parametrize("starter", [run, lambda argv: run_keeping_tail(argv, tail=10)])
def test_a_missing_program_is_named_with_what_to_install(starter: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # a folder on the PATH that may not be read says EACCES instead
    with pytest.raises(EnvironmentFailed, match="no-such-program-at-all") as error:
        starter(["no-such-program-at-all"])  # type: ignore[operator]
    assert error.value.hints


@pytest.mark.parametrize("starter", [run, lambda argv: run_keeping_tail(argv, tail=10)])
def test_a_program_that_may_not_run_is_named(tmp_path: Path, starter: object) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    with pytest.raises(EnvironmentFailed, match="can't run"):
        starter([str(tmp_path / "plain")])  # type: ignore[operator]


def test_a_known_program_is_answered_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for program, package in (("nix", "nix-bin"), ("ssh-keygen", "openssh-client")):
        with pytest.raises(EnvironmentFailed) as error:
            require(program)
        assert package in " ".join(error.value.hints)
    with pytest.raises(EnvironmentFailed, match="nix-env"):
        run(["nix-env"])


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(EnvironmentFailed, match="sleep didn't end within 0 seconds"):
        run(["sleep", "60"], timeout=0.1)


@pytest.mark.timeout(120)
def test_a_probe_ends_with_all_that_it_started_and_says_only_how(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert probe(["sh", "-c", "echo said; echo said >&2; exit 3"], 60) == 3
    # the child of a check that hangs, holding its output open
    child = tmp_path / "child"
    hangs = f"(sleep 1000; touch {tmp_path}/woke) & echo $! >{child}.new; mv {child}.new {child}; wait"
    for seconds in (0.5, 4, 30):  # as much as its start takes on this machine
        assert probe(["sh", "-c", hangs], seconds) is None
        if child.exists():
            break
    assert ended(int(child.read_text())), "it still runs"
    with pytest.raises(EnvironmentFailed, match="no-such-program"):
        probe(["no-such-program"], 60)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("tail", [1, 10, 1000, 100_000])
def test_of_a_long_output_exactly_the_end_is_kept(tail: int) -> None:
    code = "import sys\nfor n in range(30000): sys.stdout.write('%07d\\n' % n)\nsys.exit(3)"
    done = run_keeping_tail([sys.executable, "-c", code], tail=tail)
    whole = b"".join(b"%07d\n" % number for number in range(30000))
    assert done.code == 3
    assert done.err == whole[-tail:]


def test_a_short_output_is_kept_whole_both_streams_in_order() -> None:
    assert run_keeping_tail(["sh", "-c", "echo a; echo b >&2; echo c"], tail=1000).err == b"a\nb\nc\n"


def test_words_are_one_clean_line_with_the_end_kept() -> None:
    assert Done(1, b"", b"a\n  b\tc\n").words() == "a b c"
    assert Done(1, b"only out\n", b"").words() == "only out"
    assert Done(1, b"", b"\x1b[31mred\xff").words().isprintable()
    assert Done(1, b"", b"x" * 1000 + b"end").words(10) == "…xxxxxxxend"


def test_stdout_kept_apart_is_whole_and_not_among_the_lines() -> None:
    lines: list[str] = []
    code = "import sys; print('x' * 300000); print('said', file=sys.stderr); sys.exit(3)"
    done = run_keeping_tail([sys.executable, "-c", code], tail=10, on_line=lines.append, apart=True)
    assert (done.code, done.out, done.err, lines) == (3, b"x" * 300000 + b"\n", b"said\n", ["said"])


def test_the_most_memory_that_a_program_had_is_measured() -> None:
    # In a process of its own: what this one has had counts for its children, too.
    code = (
        "import sys; from bento.adapters.process import run_keeping_tail as run\n"
        "for size in (1, 300 * 2**20): print(run([sys.executable, '-c', f'bytearray({size})'], tail=10).peak)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    small, large = map(int, done.stdout.split())
    assert small > 2**20
    assert large - small > 100 * 2**20  # what this process had itself may count for the small one
