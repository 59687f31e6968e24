"""A disk whose power can be cut: ext4 on a loop device. What wasn't synced is gone, as after a real cut."""

import fcntl
import os
import signal
import struct
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rig.cuts import at_step

_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2  # FS_IOC_SHUTDOWN; what is in the journal's memory is dropped
_SIZE = 8 << 20


class Disk:
    """`mount` shows what is on it. `keep` remembers what that is, and `restore` brings it back."""

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "disk"
        self.mount.mkdir()
        self._images = folder / "images"
        self._images.mkdir()
        self._image, self._kept = self._images / "0", self._images / "kept"
        self._number = 0
        self.clear()

    def clear(self) -> None:
        """Make it empty."""
        before = self._next()
        with self._image.open("wb") as file:
            file.truncate(_SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", str(self._image)], check=True)
        before.unlink(missing_ok=True)

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """With its content visible; whatever happened to it.

        Each time from another file: a process elsewhere with mounts of its own may still hold the one before, and write
        to it whenever that machine pleases. So what was written is in the file before it is let go, where it can be.
        """
        self._renew(self._image)
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.mount)], check=True)
        try:
            yield
        finally:
            subprocess.run(["sync", "-f", str(self.mount)], capture_output=True, check=False)  # not without power
            subprocess.run(["umount", str(self.mount)], check=True)

    def keep(self) -> None:
        """Remember its content, for `restore`. It must not be mounted."""
        _copy(self._image, self._kept)

    def restore(self) -> None:
        """Have the content of `keep` again. It must not be mounted."""
        self._renew(self._kept)

    def _renew(self, source: Path) -> None:
        before = self._next()
        _copy(source, self._image)
        before.unlink()

    def _next(self) -> Path:
        """Have another file for the image; the one before."""
        before, self._number = self._image, self._number + 1
        self._image = self._images / str(self._number)
        return before

    @contextmanager
    def switch(self) -> Iterator[Callable[[], None]]:
        """What cuts its power when it is called."""
        descriptor = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY)
        try:

            def cut() -> None:
                fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))

            yield cut
        finally:
            os.close(descriptor)


def _copy(source: Path, place: Path) -> None:
    subprocess.run(["cp", "--sparse=always", str(source), str(place)], check=True)


def steps_of(work: Callable[[], object]) -> list[str]:
    """The changing system calls of `work`, which is done."""
    log: list[str] = []
    with at_step(1 << 30, lambda: None, log):
        work()
    return log


def around_syncs(steps: list[str]) -> list[int]:
    """Before and after each fsync, and at the end: numbers for `cut_at`."""
    syncs = [number for number, name in enumerate(steps, 1) if name == "fsync"]
    return sorted({*syncs, *(number + 1 for number in syncs), len(steps) + 1})


def cut_at(disk: Disk, number: int, work: Callable[[], object], *, syncing: bool = True) -> bool:
    """Do `work` in a child that loses power before its `number`th changing call, or at its end; whether it got there.

    Without `syncing`, fsync does nothing: the control.
    """

    child = os.fork()
    if child == 0:
        code = 1
        try:
            with disk.switch() as cut, pytest.MonkeyPatch.context() as patch:
                if not syncing:
                    patch.setattr(os, "fsync", lambda _descriptor: None)

                def die() -> None:
                    cut()
                    os.kill(os.getpid(), signal.SIGKILL)

                with at_step(number, die):
                    work()
                cut()
            code = 0
        except BaseException:  # noqa: BLE001 — a forked child may leave by no other way
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), code
    return code == 0
