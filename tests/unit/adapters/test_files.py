"""Files: locks that say who is busy, and reads of what others wrote that neither follow, hang nor swell."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bento.adapters.files import Busy, WaitingLock, busy_lock, holder, read_capped, read_capped_at, sign_lock
from bento.agent.turn import AgentBusy
from bento.errors import EnvironmentFailed, InputError


def test_a_lock_is_held_by_one_at_a_time_and_then_free_again(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with busy_lock(lock, "another run"):
        with pytest.raises(Busy, match="another run is under way already") as error, busy_lock(lock, "another run"):
            raise AssertionError("two hold it")
        assert error.value.hints
    with busy_lock(lock, "another run"):
        pass
    assert lock.stat().st_mode & 0o7777 == 0o600


def test_a_lock_is_free_again_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyError), busy_lock(tmp_path / "lock", "it"):
        raise KeyError
    with busy_lock(tmp_path / "lock", "it"):
        pass


def test_a_waiting_lock_waits_says_so_once_and_is_free_again(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    said: list[str] = []
    held = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", held, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(Busy, match="it doesn't end") as error, WaitingLock(lock, "it", 0.2, lambda _: None):
            raise AssertionError("two hold it")
        assert error.value.hints

        def let_go(line: str) -> None:
            said.append(line)
            other.communicate(b"\n")

        with WaitingLock(lock, "it", 60, let_go), pytest.raises(Busy), busy_lock(lock, "it"):
            raise AssertionError("two hold it")
    assert said == ["waiting for it"]
    with busy_lock(lock, "it"):
        pass


def test_a_waiting_lock_may_be_taken_again_by_its_holder_and_is_held_to_the_last(tmp_path: Path) -> None:
    lock = WaitingLock(tmp_path / "lock", "it", 0, lambda _: None)
    with lock:
        with lock:
            pass
        with pytest.raises(Busy), busy_lock(tmp_path / "lock", "it"):
            raise AssertionError("two hold it")
    with pytest.raises(KeyError), lock:
        raise KeyError
    with busy_lock(tmp_path / "lock", "it"):
        pass


def test_on_a_host_busy_is_the_exit_that_means_try_again() -> None:
    assert AgentBusy("it").exit_code == os.EX_TEMPFAIL == 75
    assert issubclass(AgentBusy, Busy)


def test_a_lock_says_who_holds_it_and_is_never_empty_meanwhile(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with busy_lock(lock, "it"):
        assert holder(lock) is None
        sign_lock(lock)
        assert holder(lock) == os.getpid()
        lock.write_bytes(b"4194304   \n")
        size = lock.stat().st_size
        sign_lock(lock)
    assert (holder(lock), lock.stat().st_size) == (os.getpid(), size)


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="can't lock"), busy_lock(tmp_path / "gone/lock", "it"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(EnvironmentFailed), busy_lock(tmp_path / "link", "it"):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_file_up_to_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"x" * 10)
    assert read_capped(tmp_path / "it", 10, "it") == b"x" * 10
    with pytest.raises(InputError, match="it is larger than 9 bytes"):
        read_capped(tmp_path / "it", 9, "it")


def test_no_file_is_none(tmp_path: Path) -> None:
    assert read_capped(tmp_path / "gone", 10, "it") is None
    assert read_capped(tmp_path / "no/folder", 10, "it") is None


@pytest.mark.timeout(60)
def test_anything_but_a_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/socket")
            for name in ("link", "dangling", "folder", "fifo", "socket"):
                with pytest.raises(InputError, match="the thing"):
                    read_capped(tmp_path / name, 100, "the thing")
                with pytest.raises(InputError, match="the thing"):
                    read_capped_at(folder, name, 100, "the thing")
            assert read_capped_at(folder, "file", 100, "it") == b"secret"
        finally:
            os.close(folder)
    with pytest.raises(InputError, match="not a plain file"):
        read_capped(Path("/dev/zero"), 100, "it")


def test_a_file_that_doesn_t_say_its_size_is_read_whole_and_no_further_than_the_limit() -> None:
    whole = Path("/proc/version").read_bytes()
    assert Path("/proc/version").stat().st_size == 0
    assert read_capped("/proc/version", 1000, "it") == whole
    assert read_capped("/proc/version", 5, "it") == whole[:5]
