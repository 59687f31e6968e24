"""The trust rules as a table: what a host takes, leaves and refuses, whatever it is offered and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import FLEET, WEB, digest, quick

from bento.core.trust_rules import (
    MAX_TRIES,
    Floor,
    NothingNew,
    Offer,
    Refuse,
    Take,
    Verdict,
    again,
    failed,
    finished,
    highest,
    judge,
    mended,
    retried,
)
from bento.errors import InputError
from bento.names import Digest, HostName, Serial

A, B = digest("a"), digest("b")


def offer(serial: int = 100, line: Digest = A, fleet: str = FLEET, host: str = WEB) -> Offer:
    return Offer(fleet, HostName(host), Serial(serial), line)


def floor(serial: int = 100, progress: str = "accepted", tries: int = 0) -> Floor:
    return Floor(Serial(serial), A, progress, tries)  # type: ignore[arg-type]


def asked(one: Offer, before: Floor | None) -> Verdict | NothingNew:
    """As a run asks: first, without any signature, whether it is the release that this host has.

    A run knows it by its line alone, a digest of all the rest; here lines are short of their meaning.
    """
    same = before is not None and one == Offer(FLEET, WEB, before.serial, before.line)
    known = again(before) if before is not None and same else None
    return known if isinstance(known, NothingNew) else judge(one, FLEET, WEB, before)


@pytest.mark.parametrize(
    ("one", "before", "verdict"),
    [
        (offer(1), None, Take(Floor(Serial(1), A, "accepted"))),
        (offer(101), floor(100, "finished"), Take(Floor(Serial(101), A, "accepted"))),
        (offer(101), floor(100, "failed", 3), Take(Floor(Serial(101), A, "accepted", 0))),
        (offer(100), floor(100, "finished"), NothingNew()),
        (offer(100), floor(100, "accepted"), Take(floor(100, "accepted"))),
        (offer(100), floor(100, "accepted", 1), Take(floor(100, "accepted", 1))),
        (offer(100), floor(100, "failed", 1), Take(floor(100, "accepted", 1))),
        (offer(100), floor(100, "failed", MAX_TRIES - 1), Take(floor(100, "accepted", MAX_TRIES - 1))),
        (offer(100), floor(100, "failed", MAX_TRIES), NothingNew("failed too often")),
        (offer(100), floor(100, "failed", MAX_TRIES + 9), NothingNew("failed too often")),
    ],
    ids=[
        "first",
        "higher",
        "higher after a failure starts afresh",
        "finished",
        "resumed",
        "resumed in its second try",
        "second try",
        "last try",
        "exhausted",
        "beyond",
    ],
)
def test_a_release_is_taken_or_left(one: Offer, before: Floor | None, verdict: Verdict | NothingNew) -> None:
    assert asked(one, before) == verdict


@pytest.mark.parametrize("progress", ["accepted", "failed", "finished"])
@pytest.mark.parametrize(
    ("one", "words"),
    [
        (offer(99), "older"),
        (offer(1), "older"),
        (offer(100, B), "two different"),
        (offer(101, fleet="other"), "fleet 'other'"),
        (offer(101, host="db"), "host 'db'"),
        (offer(100, fleet="other"), "fleet 'other'"),
        (offer(100, host="db"), "host 'db'"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(one: Offer, words: str, progress: str) -> None:
    verdict = asked(one, floor(100, progress))
    assert isinstance(verdict, Refuse)
    assert words in verdict.reason


def test_a_first_release_for_somebody_else_is_refused_too() -> None:
    assert isinstance(asked(offer(fleet="other"), None), Refuse)
    assert isinstance(asked(offer(host="db"), None), Refuse)


def test_three_tries_that_fail_are_the_last() -> None:
    now: Floor = floor()
    tries = 0
    while isinstance(verdict := again(now), Take):
        now = failed(verdict.floor)
        tries += 1
    assert tries == MAX_TRIES == 3
    assert again(now) == NothingNew("failed too often")


def test_what_failed_waits_for_other_circumstances_and_never_for_more_than_its_tries() -> None:
    waiting = failed(floor(), until=A)
    assert again(waiting, A) == NothingNew("nothing changed")
    assert again(waiting, B) == Take(floor(tries=1))
    assert again(failed(floor()), A) == Take(floor(tries=1))
    assert again(failed(floor(tries=MAX_TRIES - 1), until=A), B) == NothingNew("failed too often")
    # what a recovery says of a try that was counted: how the host is now
    assert failed(waiting, until=B) == failed(floor(), until=B)
    assert finished(waiting) == floor(progress="finished")


def test_what_disturbs_nobody_is_tried_for_ever_with_longer_and_longer_pauses() -> None:
    now, clock, pauses = floor(), 1_700_000_000, []
    for _ in range(10):
        now = failed(now, clock=clock)
        pause = 0
        while isinstance(verdict := again(now, None, clock + pause), NothingNew):
            assert verdict.why == "failed too often"
            pause += 1800
        pauses.append(pause // 3600)
        now, clock = verdict.floor, clock + pause
        assert isinstance(again(now, None, clock), Take), "one that is cut off in mid-try is taken up again"
    assert pauses == [0, 0, 1, 2, 4, 8, 16, 24, 24, 24]
    waiting = failed(floor(tries=MAX_TRIES), clock=clock)
    assert isinstance(again(waiting, None, clock - 10**6), Take), "a clock that was wrong holds nobody up for longer"
    assert retried(waiting) == floor()
    assert finished(waiting) == floor(progress="finished")


def test_a_person_may_have_a_failed_release_tried_again_and_no_other() -> None:
    for one in (failed(floor(), until=A), failed(floor(tries=MAX_TRIES - 1))):
        assert retried(one) == floor()
        assert isinstance(again(retried(one), A), Take)
    for one in (floor(progress="finished"), floor(tries=1)):
        assert retried(one) == one


def test_a_failure_that_was_not_its_own_is_not_counted() -> None:
    assert failed(floor(tries=2), counts=False) == floor(progress="failed", tries=2)
    assert isinstance(again(failed(floor(tries=2), counts=False)), Take)


def test_a_try_that_failed_and_whose_rollback_was_left_to_a_recovery_counts_once() -> None:
    ended = failed(floor(tries=1))
    assert failed(ended) == ended == floor(progress="failed", tries=2)
    # one that was cut off has counted nothing yet
    assert failed(floor(tries=1)).tries == 2


def test_a_finished_release_has_no_tries_left_over() -> None:
    assert finished(floor(progress="failed", tries=2)) == floor(progress="finished")


offers = st.builds(
    Offer,
    fleet=st.sampled_from([FLEET, FLEET, FLEET, "other"]),
    host=st.sampled_from([WEB, WEB, WEB, HostName("db")]),
    serial=st.integers(1, 6).map(Serial),
    line=st.sampled_from([A, B]),
)
ends = st.sampled_from(["cut off", "finished", "failed", "unconfirmed"])


@quick
@given(st.lists(st.tuples(offers, ends), max_size=30))
def test_along_any_sequence_of_offers_the_floor_only_rises(sequence: list[tuple[Offer, str]]) -> None:
    now: Floor | None = None
    lines: dict[Serial, str] = {}
    for one, end in sequence:
        verdict = asked(one, now)
        if not isinstance(verdict, Take):
            continue
        assert verdict.floor.progress == "accepted"
        assert (one.fleet, one.host) == (FLEET, WEB)
        assert now is None or verdict.floor.serial >= now.serial
        assert (verdict.floor.serial, verdict.floor.line) == (one.serial, one.line)
        # One serial never means two releases.
        assert lines.setdefault(one.serial, one.line) == one.line
        assert now is None or now.serial != one.serial or now.progress != "finished"
        now = verdict.floor
        if end == "finished":
            now = finished(now)
        elif end != "cut off":
            now = failed(now, counts=end == "failed")
        assert now.tries <= MAX_TRIES


def test_a_floor_whose_line_is_unknown_takes_its_own_serial_once_and_then_no_other() -> None:
    first = judge(offer(100, B), FLEET, WEB, Floor(Serial(100), None, "accepted"))
    assert first == Take(Floor(Serial(100), B, "accepted"))
    assert isinstance(first, Take)
    assert isinstance(judge(offer(100, A), FLEET, WEB, first.floor), Refuse)
    assert isinstance(judge(offer(99), FLEET, WEB, Floor(Serial(100), None, "accepted")), Refuse)


def test_a_lowered_floor_stays_known_as_lowered_while_releases_are_taken() -> None:
    taken = judge(offer(101), FLEET, WEB, Floor(Serial(100), None, "accepted", over=Serial(200)))
    assert taken == Take(Floor(Serial(101), A, "accepted", over=Serial(200)))
    assert isinstance(taken, Take)
    for now in (finished(taken.floor), failed(taken.floor), retried(failed(taken.floor))):
        assert now.over == 200


def test_what_a_person_accepts_is_the_highest_serial_that_anything_tells_of() -> None:
    assert highest(None, []) is None
    assert highest(floor(5), []) == 5
    assert highest(None, [Serial(3), Serial(7)]) == 7
    assert highest(floor(5), [Serial(3), Serial(7)]) == 7
    lowered = Floor(Serial(5), A, "accepted", over=Serial(7))
    assert highest(lowered, [Serial(6), Serial(7)]) == 5
    assert highest(lowered, [Serial(7), Serial(8)]) == 8


def test_a_floor_is_mended_at_what_is_known_and_its_release_taken_once_more() -> None:
    assert mended(None, Serial(7), {Serial(7): B}, None) == Floor(Serial(7), B, "accepted")
    assert mended(None, Serial(7), {Serial(6): B}, None) == Floor(Serial(7), None, "accepted")
    assert mended(floor(5, "finished"), Serial(7), {}, None) == Floor(Serial(7), None, "accepted")
    assert mended(floor(7, "finished", 2), Serial(7), {Serial(7): B}, None) == Floor(Serial(7), A, "accepted")
    assert mended(None, None, {}, Serial(1)) == Floor(Serial(1), None, "accepted")
    assert mended(floor(5), Serial(5), {}, Serial(9)) == Floor(Serial(9), None, "accepted")


def test_where_nothing_is_known_a_person_must_say_it() -> None:
    with pytest.raises(InputError, match="nothing on this host") as error:
        mended(None, None, {}, None)
    assert "trust --floor 1" in error.value.hints[-1]


def test_no_floor_is_set_below_what_is_known_but_by_a_person_who_says_so() -> None:
    with pytest.raises(InputError, match="has known release 7") as error:
        mended(floor(7), Serial(7), {}, Serial(6))
    assert "trust --floor 6 --lower" in error.value.hints[0]
    once = mended(floor(7), Serial(7), {}, Serial(6), lower=True)
    assert once == Floor(Serial(6), None, "accepted", over=Serial(7))
    # lowered once more, it is still over all that was known before
    assert mended(once, Serial(6), {}, Serial(5), lower=True) == Floor(Serial(5), None, "accepted", over=Serial(7))


known_serials = st.lists(st.integers(1, 9).map(Serial), max_size=4)


@quick
@given(st.none() | st.integers(1, 9), known_serials, st.none() | st.integers(1, 9).map(Serial), st.booleans())
def test_a_mended_floor_is_whole_and_never_below_the_evidence_unasked(
    now: int | None,
    others: list[Serial],
    wanted: Serial | None,
    lower: bool,  # noqa: FBT001 — drawn
) -> None:
    before = None if now is None else floor(now)
    known = highest(before, others)
    try:
        after = mended(before, known, {}, wanted, lower=lower)
    except InputError:
        assert known is None or (wanted is not None and wanted < known and not lower)
        return
    assert highest(after, others) == after.serial  # as State.floor() asks
    assert known is None or after.serial >= known or (lower and after.serial == wanted)
