"""The journal: after a crash at any point the way leads to one release, and each system has its own secrets."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick

from bento.core.journal import (
    PHASES,
    TABLE,
    Action,
    Event,
    Journal,
    Point,
    abandon,
    begin_commit,
    begin_switch,
    commit,
    forget_systems,
    go_back,
    recovery,
    serial_for,
    serials_in_use,
)
from bento.errors import WorkFailed
from bento.names import Serial

ROOT = Path(__file__).parents[3]
ALL = frozenset(Serial(number) for number in range(1, 30))
OLD, NEW = Point("/old", Serial(1)), Point("/new", Serial(2))
IDLE = Journal(committed=OLD, systems={"/old": Serial(1), "/older": Serial(9)})
SWITCHING = begin_switch(IDLE, OLD, NEW, "/old")
COMMITTING = begin_commit(SWITCHING)
# The secrets that were live when the switch began are older than what was last committed with that path.
CAPTURED = begin_switch(IDLE, Point("/older", Serial(7)), NEW, "/old")
BEFORE_ANY = begin_switch(Journal(), Point("/old", None), NEW, None)


def test_a_system_that_is_both_gets_the_new_secrets_on_the_way_there_and_the_old_ones_on_the_way_back() -> None:
    """A release that changes secrets only, which users' passwords follow by activating the same system again."""
    there = begin_switch(IDLE, OLD, Point("/old", Serial(2)), "/old")
    assert serial_for(there, "/old", ALL) == 2
    back = go_back(there)
    assert serial_for(back, "/old", ALL) == 1
    assert serial_for(go_back(SWITCHING), "/new", ALL) == 2
    assert serial_for(abandon(back), "/old", ALL) == 1
    assert (go_back(IDLE), abandon(back)) == (IDLE, IDLE)


def test_what_was_being_undone_is_undone_also_where_it_was_confirmed() -> None:
    for journal in (SWITCHING, COMMITTING):
        for running in ("/new", "/old", "/other", None):
            assert recovery(go_back(journal), running) == "go back"


@pytest.mark.parametrize(
    ("journal", "running", "way"),
    [
        (Journal(), "/old", "nothing"),
        (IDLE, "/old", "nothing"),
        (IDLE, "/new", "nothing"),
        (IDLE, None, "nothing"),
        (SWITCHING, "/old", "go back"),
        (SWITCHING, "/new", "go back"),
        (SWITCHING, "/other", "go back"),
        (SWITCHING, None, "go back"),
        (COMMITTING, "/new", "go forward"),
        (COMMITTING, "/old", "go back"),
        (COMMITTING, "/other", "go back"),
        (COMMITTING, None, "go back"),
        (commit(COMMITTING), "/new", "nothing"),
        (abandon(SWITCHING), "/old", "nothing"),
    ],
)
def test_a_run_that_died_is_undone_unless_it_was_confirmed_and_still_runs(
    journal: Journal, running: str | None, way: Action
) -> None:
    assert recovery(journal, running) == way


def test_only_secrets_changed_and_the_power_went_while_committing() -> None:
    same = begin_commit(begin_switch(IDLE, OLD, Point("/old", Serial(2)), "/old"))
    assert recovery(same, "/old") == "go forward"
    assert recovery(begin_switch(IDLE, OLD, Point("/old", Serial(2)), "/old"), "/old") == "go back"


@pytest.mark.parametrize(
    ("journal", "system", "serial"),
    [
        (IDLE, "/old", 1),
        (IDLE, "/older", 9),
        (IDLE, "/unknown", 1),
        (IDLE, None, 1),
        (SWITCHING, "/new", 2),
        (SWITCHING, "/old", 1),
        (SWITCHING, "/older", 9),
        (SWITCHING, "/unknown", 1),
        (COMMITTING, "/new", 2),
        (COMMITTING, "/old", 1),
        (commit(COMMITTING), "/new", 2),
        (commit(COMMITTING), "/old", 1),
        (commit(COMMITTING), "/unknown", 2),
        (abandon(SWITCHING), "/new", 1),
        (CAPTURED, "/older", 7),
        (abandon(CAPTURED), "/older", 9),
        (BEFORE_ANY, "/old", None),
        (BEFORE_ANY, "/new", 2),
        (BEFORE_ANY, "/unknown", None),
        (Journal(), "/any", None),
    ],
)
def test_each_system_gets_the_secrets_of_its_own_release(
    journal: Journal, system: str | None, serial: int | None
) -> None:
    assert serial_for(journal, system, ALL) == serial


def test_a_candidate_on_an_old_path_beats_what_was_committed_with_that_path() -> None:
    back_to_older = begin_switch(IDLE, OLD, Point("/older", Serial(12)), "/old")
    assert serial_for(back_to_older, "/older", ALL) == 12
    assert serial_for(abandon(back_to_older), "/older", ALL) == 9
    assert serial_for(commit(begin_commit(back_to_older)), "/older", ALL) == 12


def test_a_system_whose_release_is_not_stored_any_more_gets_the_committed_one() -> None:
    assert serial_for(IDLE, "/older", {Serial(9)}) == 9
    assert serial_for(IDLE, "/older", {Serial(1)}) == 1
    # what is under way is never looked for: it is kept until it is over
    assert serial_for(SWITCHING, "/new", frozenset()) == 2
    assert serial_for(CAPTURED, "/older", frozenset()) == 7


@pytest.mark.parametrize("journal", [SWITCHING, COMMITTING])
def test_the_way_back_of_a_switch_that_was_cut_off_is_never_replaced(journal: Journal) -> None:
    with pytest.raises(WorkFailed, match="not undone yet") as error:
        begin_switch(journal, NEW, Point("/third", Serial(3)), "/new")
    assert error.value.hints


def test_systems_that_cannot_be_booted_any_more_are_forgotten() -> None:
    known = begin_switch(
        Journal(committed=OLD, systems={f"/{name}": Serial(1) for name in ("old", "new", "kept", "gone", "captured")}),
        Point("/captured", Serial(1)),
        NEW,
        "/old",
    )
    assert set(forget_systems(known, frozenset({"/kept", "/unknown"})).systems) == {
        "/old",
        "/new",
        "/kept",
        "/captured",
    }
    assert forget_systems(IDLE, frozenset({"/old", "/older"})) == IDLE
    assert forget_systems(IDLE, frozenset()).systems == {"/old": 1}


def test_committing_makes_the_new_point_the_host_s_place() -> None:
    done = commit(COMMITTING)
    assert done == Journal(committed=NEW, systems={"/old": Serial(1), "/older": Serial(9), "/new": Serial(2)})
    assert done.phase == "idle"


def test_committing_the_same_path_again_notes_its_newest_release() -> None:
    assert commit(begin_commit(begin_switch(IDLE, OLD, Point("/old", Serial(5)), "/old"))).systems["/old"] == 5


def test_abandoning_leaves_everything_as_it_was_before() -> None:
    assert abandon(SWITCHING) == IDLE
    assert abandon(COMMITTING) == IDLE


def test_there_is_nothing_to_commit_without_a_switch() -> None:
    for step in (commit, abandon, begin_commit):
        with pytest.raises(WorkFailed, match="no switch"):
            step(IDLE)
    # what was not confirmed is never committed
    with pytest.raises(WorkFailed, match="not undone yet"):
        commit(SWITCHING)


EVENTS: tuple[Event, ...] = get_args(Event)


def cells(text: str) -> list[list[str]]:
    """The rows of the page's first table, without its head."""
    first = next(block for block in text.split("\n\n") if block.startswith("|"))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in first.splitlines()]


def test_the_page_on_recovery_shows_the_very_table_that_the_code_is() -> None:
    head, _, *rows = cells((ROOT / "docs/recovery.md").read_text("utf-8"))
    assert head == ["what happens", *PHASES]
    assert [row[0] for row in rows] == list(EVENTS)
    shown = {(phase, event): cell for event, *row in rows for phase, cell in zip(PHASES, row, strict=True)}
    wanted = {
        (phase, event): action if after == phase else f"{action} → {after}"
        for (phase, event), (action, after) in TABLE.items()
    }
    assert shown == wanted


def test_the_table_has_a_way_for_everything_and_every_state_leads_to_idle() -> None:
    assert set(TABLE) == {(phase, event) for phase in PHASES for event in EVENTS}
    for phase in PHASES:
        for event in ("found, and the new system runs", "found, and another system runs"):
            action, _ = TABLE[phase, event]
            ends: dict[Action, Event] = {
                "go forward": "the new system is the boot default",
                "go back": "the old one is in force again",
            }
            assert (action == "nothing") == (phase == "idle")
            if action != "nothing":
                assert TABLE[phase, ends[action]] in (("commit", "idle"), ("abandon", "idle"))


@quick
@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_the_functions_do_what_the_table_says_whatever_comes_in_which_order(events: list[Event]) -> None:
    journal = IDLE
    for event in events:
        action, after = TABLE[journal.phase, event]
        if event.startswith("found"):
            assert recovery(journal, "/new" if "the new" in event else "/old") == action or journal.phase == "idle"
            continue
        step = {
            "a release is to be switched to": lambda one: begin_switch(one, OLD, NEW, "/old"),
            "the new system is confirmed": begin_commit,
            "the new system is the boot default": commit,
            "the old one is in force again": abandon,
        }[event]
        if action == "refuse":
            with pytest.raises(WorkFailed):
                step(journal)
            continue
        journal = step(journal)
        assert journal.phase == after
        assert (journal.old is None) == (journal.new is None) == (after == "idle")


def test_a_release_stays_as_long_as_something_may_need_it() -> None:
    assert serials_in_use(IDLE, frozenset()) == {1}
    assert serials_in_use(SWITCHING, frozenset()) == {1, 2}
    assert serials_in_use(CAPTURED, frozenset()) == {1, 2, 7}
    assert serials_in_use(IDLE, frozenset({"/older", "/unknown"})) == {1, 9}
    assert serials_in_use(Journal(), frozenset({"/old"})) == frozenset()


points = st.builds(Point, st.sampled_from(["/a", "/b", "/c"]), st.integers(1, 20).map(Serial))


@quick
@given(st.lists(st.tuples(points, st.sampled_from(["commit", "abandon", "cut"])), max_size=12))
def test_whatever_happened_the_secrets_of_every_known_system_are_kept(steps: list[tuple[Point, str]]) -> None:
    journal = Journal()
    for new, end in steps:
        before = journal
        journal = begin_switch(journal, journal.committed, new, journal.committed.system)
        known = frozenset(journal.systems)
        for system in {new.system, journal.committed.system, *known}:
            serial = serial_for(journal, system, ALL)
            assert serial is None or serial in serials_in_use(journal, known)
        if end == "commit":
            journal = commit(begin_commit(journal))
            assert serial_for(journal, new.system, ALL) == new.serial
        else:
            journal = abandon(journal)
            assert journal == before
