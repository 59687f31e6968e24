"""What is pushed is read once, forwards, and bounded: in size, in parts, in time."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import digest, quick

from bento.adapters.sftp import NotThere, ServerAway
from bento.agent.receive import Pushed
from bento.errors import BentoError, EnvironmentFailed, InputError, Refused
from bento.models.limits import LIMITS
from bento.models.push import OPENING, head, parse_head

ONE, TWO = digest("one"), digest("two")
MANIFEST = "release/manifest"


@contextmanager
def pushed(data: bytes, *, ends: bool = True, silence: float = 5) -> Iterator[Pushed]:
    read, write = os.pipe()

    def feed() -> None:
        try:
            with os.fdopen(write, "wb", closefd=ends) as pipe:
                pipe.write(data)
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield Pushed(read, silence)
    finally:
        os.close(read)
        thread.join()
        if not ends:
            os.close(write)


def part(name: str, data: bytes) -> bytes:
    return head(name, len(data)) + data


def test_parts_are_read_in_their_order_and_those_not_asked_for_are_passed_over() -> None:
    data = OPENING + part("manifest", b"m\n") + part(ONE, b"1" * 100_000) + part(TWO, b"") + b"and more"
    with pushed(data) as stream:
        assert stream.read(MANIFEST, 100) == b"m\n"
        assert stream.read(f"release/objects/{TWO}", 0) == b""
    with pushed(OPENING + part("manifest", b"m\n") + part(ONE, b"1")) as stream:
        assert stream.read(f"release/objects/{ONE}", 1) == b"1"
        with pytest.raises(NotThere):
            stream.read(f"release/objects/{TWO}", 1)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ServerAway),
        (OPENING[:5], ServerAway),
        (b"GET / HTTP/1.1\r\n\r\n", Refused),
        (b"bento-push 2\n" + part("manifest", b"m"), Refused),
        (OPENING, NotThere),
        (OPENING + b"manif", ServerAway),
        (OPENING + b"manifest 5\nabc", ServerAway),
        (OPENING + b"manifest 101\n" + b"x" * 101, Refused),
        (OPENING + b"manifest 05\nabcde", Refused),
        (OPENING + b"manifest -1\n", Refused),
        (OPENING + b"manifest 99999999999999999999\n", Refused),
        (OPENING + b"../../etc/passwd 5\nabcde", Refused),
        (OPENING + b"x" * 5000, Refused),
        (OPENING + head(ONE, LIMITS.config + 1), Refused),
        (OPENING + head(ONE, 0) * (LIMITS.secrets + 3), Refused),
    ],
)
def test_any_other_stream_is_an_error_of_its_kind(data: bytes, error: type[BentoError]) -> None:
    with pushed(data) as stream, pytest.raises(error):
        stream.read(MANIFEST, 100)


def test_a_stream_that_stands_still_is_given_up() -> None:
    for data in (b"", OPENING, OPENING + b"manifest 5\nab"):
        with pushed(data, ends=False, silence=0.05) as stream, pytest.raises(ServerAway, match="stood still"):
            stream.read(MANIFEST, 100)


def test_a_report_is_not_sent_this_way_and_so_stays_in_the_spool() -> None:
    with pushed(b"") as stream, pytest.raises(EnvironmentFailed):
        stream.put("reports/1.report", b"x")


@quick
@given(st.binary(max_size=200))
def test_no_line_but_a_head_is_read_as_one(line: bytes) -> None:
    try:
        name, size = parse_head(line)
    except InputError:
        return
    assert head(name, size) == line


@quick
@given(st.binary(max_size=300), st.booleans())
def test_no_stream_does_anything_but_give_bytes_or_a_named_error(data: bytes, opened: Any) -> None:
    with pushed(OPENING + data if opened else data) as stream, suppress(BentoError):
        assert len(stream.read(MANIFEST, 100)) <= 100
