"""`bento status --watch`, on a real publish folder that real agents write into."""

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rig.world import PROGRAMS, World


class Reader:
    """Gathers what a program prints, and waits for it to have said something."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.said = b""
        self._read = read
        self._more = threading.Condition()
        self._ended = False
        threading.Thread(target=self._gather, daemon=True).start()

    def _gather(self) -> None:
        with suppress(OSError, ValueError):
            while chunk := self._read():
                with self._more:
                    self.said += chunk
                    self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def until(self, true: Callable[[bytes], bool]) -> None:
        with self._more:
            assert self._more.wait_for(lambda: true(self.said) or self._ended, timeout=60), self.said
            assert true(self.said), self.said


@contextmanager
def started(world: World, *words: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    argv = [PROGRAMS / "bento", "--dir", world.fleet, "status", "--watch", "--interval", "3600", *words]
    command = world.admin.popen(argv, stdout=stdout, env={"TERM": "xterm", "COLUMNS": "150"})
    try:
        yield command
    finally:
        command.send_signal(signal.SIGTERM)
        assert command.wait(30) == 0


def lines(said: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


def test_watch_as_json_has_a_line_for_each_change_as_it_happens(world: World) -> None:
    web, db = world.add("web"), world.add("db")
    with started(world, "--json") as command:
        assert command.stdout is not None
        reader = Reader(lambda: command.stdout.read1(65536))  # type: ignore[union-attr]

        def newest(name: str) -> str | None:
            found = [line["state"] for line in lines(reader.said) if line["host"] == name]
            return found[-1] if found else None

        reader.until(lambda _: newest(web.name) == newest(db.name) == "not published")
        world.bento("deploy")
        reader.until(lambda _: newest(web.name) == newest(db.name) == "new machine")
        db.run()
        reader.until(lambda _: newest(db.name) == "up to date")
        assert newest(web.name) == "new machine"


def test_on_a_terminal_the_table_is_drawn_anew_when_a_host_reports(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    ours, its = pty.openpty()
    try:
        with started(world, stdout=its):
            reader = Reader(lambda: os.read(ours, 65536))
            reader.until(lambda said: b"1 host: 1 new machine" in said)
            web.run()
            reader.until(lambda said: b"1 host: 1 up to date" in said)
            assert b"\x1b[32mup to date" in reader.said
    finally:
        os.close(its)
        os.close(ours)
