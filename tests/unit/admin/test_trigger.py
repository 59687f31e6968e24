"""What answers at a trigger socket may be anybody: it is bounded, and steers neither the command nor the terminal."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from unit.samples import ESC

from bento.adapters import trigger_socket
from bento.admin.trigger import trigger_by_socket
from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.trigger import TriggerPlace, parse_trigger

GREETING = b"bento-trigger 1\n"


@contextmanager
def saying(serve: Callable[[socket.socket], None], address: str = "127.0.0.1") -> Iterator[TriggerPlace]:
    """A listener that handles one connection."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:

        def work() -> None:
            with suppress(OSError):
                connection = listener.accept()[0]
                with connection:
                    serve(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield TriggerPlace(address, listener.getsockname()[1])
    thread.join(5)


def called(text: bytes, address: str = "127.0.0.1") -> tuple[int, str, list[str]]:
    told: list[str] = []
    with saying(lambda connection: connection.sendall(text), address) as place:
        return *trigger_by_socket(place, told.append), told


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_exit_code_is_the_agents_and_signs_of_life_are_not_shown(address: str) -> None:
    said = GREETING + b"polling\nrunning\nrunning\nended 5: anything\nmore\n"
    assert called(said, address) == (5, "rolled back", ["polling"])


@pytest.mark.parametrize("ending", [b"", b"ended 0", b"ended 3: x\n", b"ended 0x\n", b"ended -1\n", b"not started\n"])
def test_without_a_known_end_there_is_none(ending: bytes) -> None:
    with pytest.raises(WorkFailed, match="didn't say how the poll ended") as error:
        called(GREETING + b"polling\n" + ending)
    assert "bento status" in error.value.hints[0]


def test_somebody_who_is_hung_up_on_is_told_why() -> None:
    with pytest.raises(WorkFailed, match="polls for somebody else, or did less than ten seconds ago"):
        called(b"")


def test_another_program_is_none_of_bentos() -> None:
    with pytest.raises(WorkFailed, match="no trigger socket"):
        called(f"HTTP/1.1 400 {ESC}\n".encode())


def test_one_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    got = 0

    def flood(connection: socket.socket) -> None:
        connection.sendall(GREETING)
        while True:
            connection.sendall(b"x" * 999 + b"\n")

    def tell(line: str) -> None:
        nonlocal got
        got += len(line)

    with saying(flood) as place, pytest.raises(WorkFailed, match="didn't say"):
        trigger_by_socket(place, tell)
    assert 0 < got <= LIMITS.trigger


def test_one_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_socket, "LIMITS", replace(LIMITS, trigger_silence=0.2))
    over = threading.Event()
    with saying(lambda _: over.wait(10) and None) as place:
        with pytest.raises(EnvironmentFailed, match="doesn't answer"):
            trigger_by_socket(place, print)
        over.set()


def test_one_that_drips_is_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_socket, "LIMITS", replace(LIMITS, trigger_time=0.3))
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(GREETING)
        while not over.wait(0.05):
            connection.sendall(b"x")

    with saying(drip) as place:
        with pytest.raises((WorkFailed, EnvironmentFailed)):
            trigger_by_socket(place, print)
        over.set()


def test_where_nobody_listens_the_option_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = TriggerPlace("127.0.0.1", unused.getsockname()[1])
        with pytest.raises(EnvironmentFailed, match=f"can't reach {place}: Connection refused") as error:
            trigger_by_socket(place, print)
    assert "services.bento.trigger" in error.value.hints[0]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tcp://10.0.0.7", TriggerPlace("10.0.0.7", 7374)),
        ("tcp://web.example.org:99", TriggerPlace("web.example.org", 99)),
        ("tcp://[::1]", TriggerPlace("::1", 7374)),
        ("tcp://[2001:db8::7]:99", TriggerPlace("2001:db8::7", 99)),
    ],
)
def test_a_place_is_an_address_and_perhaps_a_port(text: str, place: TriggerPlace) -> None:
    assert parse_trigger(text) == place
    assert parse_trigger(str(place)) == place


@pytest.mark.parametrize(
    "text", ["", "10.0.0.7", "tcp://", "tcp://::1", "tcp://a:0", "tcp://a:99999", "tcp://a/x", "tcp://u@a", "udp://a"]
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_trigger(text)
    assert error.value.hints
