"""A host's memory that was damaged: it is said, never taken for "nothing yet"."""

import json
import os
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import FLOOR, JOURNAL, quick

from bento.agent.state import Damaged, State
from bento.core.journal import Journal, Point
from bento.core.trust_rules import Floor
from bento.names import Serial


def read_all(state: State) -> None:
    state.floor()
    state.journal()
    state.last_counter()


DAMAGES = [
    b"",
    b"\x00" * 100,
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"serial":' + b"9" * 5000 + b"}",
    b'{"unknown":1}',
]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
@pytest.mark.parametrize("name", ["floor.json", "journal.json", "counter.json"])
def test_a_damaged_file_is_said_never_taken_for_nothing(state: State, name: str, damage: bytes) -> None:
    state.write_floor(FLOOR)
    state.write_journal(JOURNAL)
    state.next_counter()
    read_all(state)
    (state.root / name).write_bytes(damage)
    with pytest.raises(Damaged, match=name) as error:
        read_all(state)
    assert error.value.hints
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("serial", 0),
        ("serial", "5"),
        ("serial", 5.0),
        ("serial", 2**53),
        ("serial", True),
        ("line", "x"),
        ("line", 1),
        ("over", 0),
        ("over", None),
        ("over", "5"),
        ("progress", "done"),
        ("tries", -1),
        ("tries", None),
        ("until", "x"),
        ("until", None),
        ("extra", 1),
    ],
)
def test_a_floor_with_one_wrong_field_is_damaged(state: State, key: str, value: object) -> None:
    state.write_floor(FLOOR)
    path = state.root / "floor.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(Damaged):
        state.floor()


@pytest.mark.parametrize("key", ["serial", "line", "progress", "tries"])
def test_a_floor_without_one_of_its_fields_is_damaged(state: State, key: str) -> None:
    state.write_floor(FLOOR)
    path = state.root / "floor.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != key}))
    with pytest.raises(Damaged):
        state.floor()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("phase", "asleep"),
        ("committed", None),
        ("committed", {"system": 1, "serial": 1}),
        ("committed", {"system": "/a", "serial": "1"}),
        ("committed", {"system": "/a", "serial": 0}),
        ("committed", {"system": "/a", "serial": 1, "x": 1}),
        ("old", []),
        ("new", "x"),
        ("old_profile", 1),
        ("systems", {"/a": "1"}),
        ("systems", {"/a": None}),
        ("systems", []),
        ("extra", 1),
    ],
)
def test_a_journal_with_one_wrong_field_is_damaged(state: State, key: str, value: object) -> None:
    state.write_journal(JOURNAL)
    path = state.root / "journal.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(Damaged):
        state.journal()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder", "huge"])
def test_what_is_no_plain_small_file_is_damaged(state: State, kind: str) -> None:
    path = state.root / "floor.json"
    if kind == "symlink":
        path.symlink_to("/nonexistent")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(10**9)
    with pytest.raises(Damaged):
        state.floor()


@quick
@given(st.binary(max_size=60))
def test_any_bytes_in_any_file_are_damaged_or_a_whole_value(lasting: State, data: bytes) -> None:
    for name, read in (("floor.json", lasting.floor), ("journal.json", lasting.journal)):
        (lasting.root / name).write_bytes(data)
        with pytest.raises(Damaged):
            read()
    (lasting.root / "floor.json").unlink()
    (lasting.root / "journal.json").unlink()


def test_a_floor_that_is_gone_or_below_what_is_installed_is_damaged_and_no_fresh_start(state: State) -> None:
    """Either would let a server take the host back to any older release."""
    state.write_journal(Journal(committed=Point("/a", Serial(5)), systems={"/a": Serial(5)}))
    with pytest.raises(Damaged, match="it is gone, but this host has known release 5") as error:
        state.floor()
    assert "go on from there: bento-agent trust --floor" in error.value.hints
    state.write_floor(replace(FLOOR, serial=Serial(4)))
    with pytest.raises(Damaged, match="it says 4, but this host has known release 5"):
        state.floor()
    state.write_floor(FLOOR)
    assert state.floor() == FLOOR


@pytest.mark.parametrize(
    "journal",
    [
        Journal(committed=Point("/b", Serial(1)), systems={"/a": Serial(9)}),
        Journal("switching", Point("/a", Serial(1)), Point("/a", Serial(1)), Point("/b", Serial(9))),
        Journal("switching", Point("/a", Serial(1)), Point("/a", Serial(9)), Point("/b", Serial(2))),
    ],
    ids=["an older system's", "the one switched to", "the one before it"],
)
def test_a_floor_below_any_release_that_the_journal_names_is_damaged(state: State, journal: Journal) -> None:
    state.write_journal(journal)
    state.write_floor(replace(FLOOR, serial=Serial(8)))
    with pytest.raises(Damaged, match="release 9"):
        state.floor()
    state.write_floor(replace(FLOOR, serial=Serial(9)))
    assert state.floor() is not None


def test_a_floor_below_a_stored_manifest_is_damaged_also_where_floor_and_journal_are_both_gone(state: State) -> None:
    """One is stored only once the floor is that high."""
    for name in ("9", "10", "0", "007", "x", "99999999999999999999", "٣"):
        (state.manifests / name).write_bytes(b"x")
    with pytest.raises(Damaged, match="it is gone, but this host has known release 10"):
        state.floor()
    state.write_floor(replace(FLOOR, serial=Serial(9)))
    with pytest.raises(Damaged, match="release 10"):
        state.floor()
    state.write_floor(replace(FLOOR, serial=Serial(10)))
    assert state.floor() is not None


def test_a_floor_that_a_person_lowered_is_whole_up_to_what_he_knew_of(state: State) -> None:
    state.write_journal(Journal(committed=Point("/a", Serial(5)), systems={"/a": Serial(5)}))
    lowered = Floor(Serial(3), None, "accepted", over=Serial(5))
    state.write_floor(lowered)
    assert state.floor() == lowered
    state.keep_manifest(Serial(6), b"x")
    with pytest.raises(Damaged, match="release 6"):
        state.floor()


def test_a_journal_that_is_gone_after_a_release_was_installed_is_damaged_and_no_fresh_start(state: State) -> None:
    """Else the host would say that nothing is new, and boot without its secrets."""
    state.write_floor(replace(FLOOR, progress="finished"))
    for read in (state.journal, state.floor):
        with pytest.raises(Damaged, match=r"journal\.json is damaged: it is gone, but release 5 was installed"):
            read()
    state.write_floor(replace(FLOOR, progress="accepted"))  # the first release, under way
    assert state.journal() == Journal()


@pytest.mark.parametrize("name", ["counter.json", "told.json", "suspended.json", "rebooted.json", "links.json"])
def test_what_is_no_matter_of_trust_is_put_aside_as_its_hint_says(state: State, name: str) -> None:
    (state.root / name).write_bytes(b"{")
    readers = (state.last_counter, state.last_told, state.suspended_until, state.rebooted_for, state.links)

    def read() -> None:
        for one in readers:
            one()

    with pytest.raises(Damaged, match=name) as error:
        read()
    (hint,) = error.value.hints
    subprocess.run(["sh", "-c", hint.rpartition(": ")[2]], check=True)
    read()
