"""A login that goes on beside other work: what is to be sent first goes with its last step, if that still comes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import pytest

from bento.adapters.sftp_login import Login
from bento.adapters.wire import Wire

WIRE = cast("Wire", object())


class Server:
    """What a server sees, and `gate`, before which a login stands."""

    def __init__(self, *, open_from_the_start: bool) -> None:
        self.saw: list[str] = []
        self.gate, self.over = threading.Event(), threading.Event()
        if open_from_the_start:
            self.gate.set()

    @contextmanager
    def log_in(self, first: Callable[[Wire], None]) -> Iterator[Wire]:
        """As sftp.logged_in."""
        self.gate.wait(10)
        first(WIRE)
        self.saw.append("greeting")
        yield WIRE
        self.saw.append("end")
        self.over.set()

    def lock(self, _: Wire) -> None:
        """To be sent first."""
        self.saw.append("lock")


def until(true: Callable[[], object]) -> None:
    """Wait for another thread."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_whoever_waits_for_the_login_has_his_first_request_sent_before_its_greeting() -> None:
    server = Server(open_from_the_start=False)
    login = Login(server.log_in)
    opener = threading.Thread(target=lambda: (until(lambda: login._first), server.gate.set()))
    opener.start()
    with login.taken(server.lock) as wire:
        assert wire is WIRE
        assert server.saw == ["lock", "greeting"]
    opener.join()
    assert server.saw == ["lock", "greeting", "end"]


def test_whoever_comes_after_it_sends_it_himself_and_once() -> None:
    server = Server(open_from_the_start=True)
    login = Login(server.log_in)
    until(login._come.done)
    with login.taken(server.lock):
        assert server.saw == ["greeting", "lock"]
    assert server.saw == ["greeting", "lock", "end"]


def test_a_lock_is_not_asked_for_once_nobody_wants_the_login_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C while it waits: a lock that nobody fills in and removes would be in the next deploy's way."""
    server = Server(open_from_the_start=False)
    login = Login(server.log_in)

    def interrupted() -> Wire:
        raise KeyboardInterrupt

    monkeypatch.setattr(login._come, "result", interrupted)
    with suppress(KeyboardInterrupt), login.taken(server.lock):
        pytest.fail("it was there")
    login.leave()
    server.gate.set()
    assert server.over.wait(10)
    assert server.saw == ["greeting", "end"]
