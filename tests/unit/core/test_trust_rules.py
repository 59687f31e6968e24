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
    judge,
    retried,
)
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
