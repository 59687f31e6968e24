"""stdout on a full disk, or into a pipe that nobody reads: one sentence at most, no traceback, and never exit 0."""

import os
import subprocess
from collections.abc import Sequence

import pytest

from rig.desk import Desk
from rig.world import PROGRAMS

PRINTING = [
    "host list",
    "status --json",
    "check",
    "secret add web - --name fresh",
    "secret show web big",
    "rollback --help",
]


@pytest.fixture
def opened(desk: Desk) -> Desk:
    """With an identity that opens a secret of 200 kB."""
    key = desk.folder / "keys/me"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    line = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    settings = desk.settings.read_text()
    assert "[secrets]\nadmins = []" in settings
    desk.settings.write_text(settings.replace("[secrets]\nadmins = []", f'[secrets]\nadmins = ["{line}"]'))
    with (desk.fleet / "bento.local.toml").open("a") as local:
        local.write(f'[secrets]\nidentities = ["{key}"]\n')
    added = desk.bento("secret", "add", "web", "-", "--name", "big", stdin=b"x" * 200_000)
    assert added.returncode == 0, added.stderr
    desk.publish.mkdir(exist_ok=True)
    return desk


def run(desk: Desk, words: Sequence[str], stdout: int, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    argv = [str(PROGRAMS / "bento"), *words]
    done = subprocess.run(
        argv, cwd=desk.fleet, env=desk.env, input=b"hunter2", stdout=stdout, stderr=stderr, timeout=200, check=False
    )
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.parametrize("line", PRINTING)
def test_a_full_disk_below_stdout_is_said_once_and_is_exit_1(opened: Desk, line: str) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 — a descriptor, as the shell gives it
        code, err = run(opened, line.split(), full.fileno())
    assert code == 1, err
    assert err.count("error: can't write the output: no space left on device\nhint: make room (df -h)") == 1
    assert err.lower().count("no space") == 1
    assert "Traceback" not in err
    assert "Exception" not in err


@pytest.mark.parametrize("line", PRINTING[-3:])
def test_a_reader_that_has_gone_ends_it_without_a_word_and_not_with_0(opened: Desk, line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, err = run(opened, line.split(), writer)
    finally:
        os.close(writer)
    assert code == 1, err
    assert not [one for one in err.splitlines() if not one.startswith("warning: ")], err


def test_a_secret_whose_adding_could_not_be_printed_is_there(opened: Desk) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 — a descriptor, as the shell gives it
        run(opened, ["secret", "add", "web", "-", "--name", "fresh"], full.fileno())
    assert opened.bento("secret", "show", "web", "fresh").stdout == b"hunter2"


@pytest.mark.parametrize(("line", "code"), [("host show nobody", 2), ("check", 1)])
def test_a_full_stderr_changes_no_exit_code(opened: Desk, line: str, code: int) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 — a descriptor, as the shell gives it
        assert run(opened, line.split(), subprocess.DEVNULL, full.fileno())[0] == code


def test_nothing_printed_is_nothing_to_complain_of(opened: Desk) -> None:
    """The other way round: with a disk that isn't full each of them goes well, so the tests above see the disk."""
    for line in PRINTING:
        code, err = run(opened, line.split(), subprocess.DEVNULL)
        assert code == (1 if line == "check" else 0), (line, err)
        assert "can't write" not in err
