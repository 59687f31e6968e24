"""`bento status --watch`, on a real publish folder that real agents write into, and through a real sshd."""

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from rig import HostUser, make_ssh_key
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
            assert self._more.wait_for(lambda: true(self.said) or self._ended, timeout=200), self.said
            assert true(self.said), self.said


@contextmanager
def started(
    world: World, *words: str, stdout: int = subprocess.PIPE, stderr: int | None = None, interval: str = "3600"
) -> Iterator[subprocess.Popen[bytes]]:
    argv = [PROGRAMS / "bento", "--dir", world.fleet, "status", "--watch", "--interval", interval, *words]
    command = world.admin.popen(argv, stdout=stdout, stderr=stderr, env={"TERM": "xterm", "COLUMNS": "150"})
    try:
        yield command
    finally:
        command.send_signal(signal.SIGTERM)
        assert command.wait(120) == 0


def reader_of(stream: IO[bytes] | None) -> Reader:
    assert stream is not None
    return Reader(lambda: stream.read1(65536))  # type: ignore[attr-defined] # it is a BufferedReader


def newest(said: bytes, name: str) -> str | None:
    """The host's state in the last whole line that is its own."""
    whole: list[dict[str, Any]] = [json.loads(line) for line in said[: said.rfind(b"\n") + 1].splitlines()]
    return next((line["state"] for line in reversed(whole) if line["host"] == name), None)


def test_watch_as_json_has_a_line_for_each_change_as_it_happens(world: World) -> None:
    web, db = world.add("web"), world.add("db")
    with started(world, "--json") as command:
        reader = reader_of(command.stdout)
        reader.until(lambda said: newest(said, web.name) == newest(said, db.name) == "not published")
        world.bento("deploy")
        reader.until(lambda said: newest(said, web.name) == newest(said, db.name) == "new machine")
        db.run()
        reader.until(lambda said: newest(said, db.name) == "up to date")
        assert newest(reader.said, web.name) == "new machine"


def test_through_sftp_it_is_asked_again_and_outlasts_a_server_that_goes_away(world: World, host_user: HostUser) -> None:
    web, user, key = world.add("web"), host_user("pub"), make_ssh_key(world.folder / "publisher")
    url = world.sshd.add_publisher(user, [key.line])
    world.sshd.give_host(web.name, user)
    settings = world.fleet / "bento.toml"
    to = f'to = "{world.sshd.publish}"'
    assert to in settings.read_text()
    settings.write_text(settings.read_text().replace(to, f'to = "{url}"\nidentity = "{key.path}"'))
    with started(world, "--json", stderr=subprocess.PIPE, interval="0.5") as command:
        out, err = reader_of(command.stdout), reader_of(command.stderr)
        out.until(lambda said: newest(said, web.name) == "not published")
        world.bento("deploy")
        out.until(lambda said: newest(said, web.name) == "new machine")
        world.sshd.stop()
        err.until(lambda said: b"shown is what was known before" in said)
        world.sshd.start()
        web.run()
        out.until(lambda said: newest(said, web.name) == "up to date")


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
            # The table is drawn a line at a time: its summary says nothing of when the cells come.
            reader.until(lambda said: b"\x1b[32mup to date" in said)
    finally:
        os.close(its)
        os.close(ours)
