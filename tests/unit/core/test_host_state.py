"""A host's state follows from serials and reports, each state and the ways between them."""

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import OTHER_SYSTEM, SYSTEM, digest, manifest, quick, report

from bento.core.host_state import _BY_OUTCOME, TROUBLE, State, derive, enough, is_first
from bento.core.self_update import OVER, about
from bento.models.manifest import ConfigRef, Manifest, Settings
from bento.models.report import Heartbeat, Report
from bento.models.signed import sha256
from bento.names import Serial

PUBLISHED = manifest(1000)
CHANNEL = manifest(1000, system=None, config=ConfigRef(digest=digest("config"), size=1, kind="channel", attribute=None))


def beat(after: int = 1, running: str | None = SYSTEM, time: int = 3000) -> Heartbeat:
    return Heartbeat(fleet="acme", host="web", after=after, time=time, serial=1000, running=running)


def refusal(counter: int, *, serial: int | None = 1000, line: bytes = b"forged") -> Report:
    return report(counter, outcome="refused", serial=serial, digest=sha256(line), reason="not signed")


def state(published: Manifest | None, reports: list[Report], heartbeat: Heartbeat | None = None) -> State:
    return derive(published, reports, heartbeat).state


def test_a_host_without_a_release_is_not_published() -> None:
    assert state(None, []) == "not published"
    assert state(None, [report()], beat()) == "not published"


def test_a_host_that_never_reported_is_a_new_machine() -> None:
    assert state(PUBLISHED, []) == "new machine"
    assert state(PUBLISHED, [], beat(after=0)) == "new machine"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("succeeded", "up to date"),
        ("auto-updated", "auto updated"),
        ("degraded", "degraded"),
        ("reboot-needed", "reboot needed"),
        ("failed", "failing"),
        ("rolled-back", "rolled back"),
        ("unconfirmed", "unconfirmed"),
        ("refused", "refused"),
    ],
)
@pytest.mark.parametrize("published", [PUBLISHED, CHANNEL])
def test_a_report_on_the_published_release_gives_its_state(published: Manifest, outcome: str, expected: State) -> None:
    assert state(published, [report(outcome=outcome)]) == expected


def test_another_running_system_than_the_published_is_a_rebuild_pending() -> None:
    old = report(serial=900, running=OTHER_SYSTEM)
    assert state(PUBLISHED, [old]) == "rebuild pending"
    assert state(PUBLISHED, [old], beat(running=OTHER_SYSTEM)) == "rebuild pending"
    assert state(PUBLISHED, [report(serial=900, running=None)]) == "rebuild pending"


def test_the_published_system_running_without_a_report_is_a_sync_pending() -> None:
    assert state(PUBLISHED, [report(serial=900, running=SYSTEM)]) == "sync pending"
    # The heartbeat's word on what runs is newer.
    assert state(PUBLISHED, [report(serial=900, running=OTHER_SYSTEM)], beat(running=SYSTEM)) == "sync pending"
    # A heartbeat from before the report isn't.
    assert state(PUBLISHED, [report(5, serial=900, running=OTHER_SYSTEM)], beat(4)) == "rebuild pending"


def test_a_channel_host_is_known_by_its_serial_alone() -> None:
    assert state(CHANNEL, [report(serial=900, running=OTHER_SYSTEM)]) == "sync pending"
    assert state(CHANNEL, [report(serial=1000, running=OTHER_SYSTEM)]) == "up to date"


def test_another_system_than_the_last_report_named_is_drifted() -> None:
    assert state(PUBLISHED, [report()], beat(running=SYSTEM)) == "up to date"
    assert state(PUBLISHED, [report()], beat(running=OTHER_SYSTEM)) == "drifted"
    assert state(CHANNEL, [report()], beat(running=OTHER_SYSTEM)) == "drifted"
    assert state(PUBLISHED, [report(outcome="auto-updated", running=OTHER_SYSTEM)], beat(running=SYSTEM)) == "drifted"
    # Known to be elsewhere already: no drift but the reported state.
    assert state(PUBLISHED, [report(outcome="failed", running=OTHER_SYSTEM)], beat(running=SYSTEM)) == "failing"
    # An older heartbeat says nothing about now.
    assert state(PUBLISHED, [report(3)], beat(2, running=OTHER_SYSTEM)) == "up to date"


def test_the_newest_report_counts_in_whatever_order_they_come() -> None:
    reports = [report(2, outcome="failed"), report(10), report(9, outcome="rolled-back")]
    assert state(PUBLISHED, reports) == "up to date"
    assert derive(PUBLISHED, reports[::-1], None).report == report(10)


def test_a_forged_release_in_its_place_is_refused_until_a_poll_goes_well_again() -> None:
    reports = [report(1), refusal(2)]
    assert state(PUBLISHED, reports) == "refused"
    assert state(PUBLISHED, reports, beat(after=1)) == "refused"
    assert state(PUBLISHED, reports, beat(after=2)) == "up to date"
    assert derive(PUBLISHED, reports, beat(after=2)).report == report(1)


def test_a_new_release_after_a_refusal_is_pending_again() -> None:
    newer = manifest(1001, system=OTHER_SYSTEM)
    assert state(newer, [report(1), refusal(2)]) == "rebuild pending"


def test_an_older_release_put_back_is_refused() -> None:
    # The host has seen 1000; on the server lies 900 again, properly signed.
    back = manifest(900)
    assert state(back, [report(1), refusal(2, line=back.line)]) == "refused"
    assert state(back, [report(1), refusal(2, line=b"another")]) == "refused"


def test_a_first_release_that_was_refused_is_refused_not_new() -> None:
    assert state(PUBLISHED, [refusal(1, serial=None, line=PUBLISHED.line)]) == "refused"


def test_a_refusal_is_seen_even_where_nothing_readable_is_published() -> None:
    assert state(None, [refusal(1)]) == "refused"
    assert state(None, [refusal(1)], beat(after=1)) == "not published"


def test_last_seen_is_the_newest_word_of_any_kind() -> None:
    assert derive(PUBLISHED, [], None).last_seen is None
    assert derive(PUBLISHED, [], None).running is None
    assert derive(PUBLISHED, [report(1), report(2)], None).last_seen == 2002
    assert derive(PUBLISHED, [report(1)], beat(time=9000)).last_seen == 9000
    # by counters: after a time ten years ahead, what a clock that was set right says is the newer word
    assert derive(PUBLISHED, [report(1, time=9500)], beat(time=9000)).last_seen == 9000
    assert derive(PUBLISHED, [report(1, time=9500), report(2, time=9000)], None).last_seen == 9000
    assert derive(PUBLISHED, [report(5, time=9000)], beat(time=9500)).last_seen == 9000


def test_a_host_that_tells_of_a_release_before_it_could_be_signed_has_a_clock_that_is_behind() -> None:
    def told(time: int) -> Heartbeat:
        return beat(time=time).model_copy(update={"serial": Serial(7000)})

    assert derive(PUBLISHED, [report(1, serial=7000, time=6000)], None).behind
    assert not derive(PUBLISHED, [report(1, serial=7000, time=6500)], None).behind
    assert derive(PUBLISHED, [report(1, serial=7000, time=7000)], told(5)).behind
    assert not derive(PUBLISHED, [report(1, serial=7000, time=5)], told(7000)).behind
    assert not derive(PUBLISHED, [], None).behind


def test_a_host_that_can_take_no_release_at_all_is_failing_until_it_took_one() -> None:
    stuck = report(2, outcome="failed", serial=None)
    assert state(PUBLISHED, [report(1), stuck], beat(after=2)) == "failing"
    assert state(PUBLISHED, [report(1), stuck, report(3)]) == "up to date"


def test_every_state_has_its_place_among_the_troubles() -> None:
    assert sorted(TROUBLE) == sorted(get_args(State))


def test_extra_runs_are_reports_on_the_published_release_beyond_the_first() -> None:
    def extra(published: Manifest | None, *reports: Report) -> int:
        return derive(published, list(reports), None).extra_runs

    assert extra(PUBLISHED) == 0
    assert extra(PUBLISHED, report(1)) == 0
    assert extra(PUBLISHED, report(1), report(2, outcome="failed"), report(3)) == 2
    assert extra(PUBLISHED, report(1, serial=900), report(2, serial=900), report(3)) == 0
    assert extra(PUBLISHED, report(1), refusal(2)) == 0
    assert extra(PUBLISHED, report(1), report(2, outcome="auto-updated"), report(3, outcome="auto-updated")) == 0
    assert extra(None, report(1), report(2)) == 0


def test_what_becomes_of_the_inputs_that_a_host_moves_on_by_itself_is_no_extra_run() -> None:
    inputs = ("nixpkgs", "home")
    published = manifest(1000, settings=Settings(self_update=inputs))
    daily = [report(n, outcome="failed", reason=about(inputs, "no link")) for n in range(2, 6)]
    ended = report(6, reason=OVER)
    assert derive(published, [report(1), *daily, ended], None).extra_runs == 0
    assert derive(published, [report(1), *daily, report(7, outcome="failed", reason="no link")], None).extra_runs == 1
    # of a host that moves nothing on by itself they would be about the release
    assert derive(PUBLISHED, [report(1), *daily], None).extra_runs == 4


def test_a_reboot_that_was_needed_and_happened_is_up_to_date() -> None:
    needed = report(outcome="reboot-needed", running=OTHER_SYSTEM, new_system=SYSTEM)
    assert state(PUBLISHED, [needed]) == "reboot needed"
    assert state(PUBLISHED, [needed], beat(running=OTHER_SYSTEM)) == "reboot needed"
    assert state(PUBLISHED, [needed], beat(running=SYSTEM)) == "up to date"
    # A heartbeat from before the report doesn't speak of the reboot.
    assert state(PUBLISHED, [report(5, outcome="reboot-needed", running=OTHER_SYSTEM)], beat(4, running=SYSTEM)) == (
        "reboot needed"
    )
    # It was running before already: nothing is known of the boot default.
    assert state(PUBLISHED, [report(outcome="reboot-needed", running=SYSTEM)], beat(running=SYSTEM)) == "reboot needed"


@quick
@given(
    runs=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(sorted(_BY_OUTCOME))), max_size=12),
    ahead=st.integers(-1, 1),
    heard=st.booleans(),
    known=st.booleans(),
)
def test_older_reports_than_are_enough_change_nothing(
    runs: list[tuple[int, str]],
    ahead: int,
    heard: bool,  # noqa: FBT001
    known: bool,  # noqa: FBT001
) -> None:
    """Also where it is known, of those that are, that they are the first about their release."""
    reports: list[Report] = []
    serial = 1000
    for counter, (step, outcome) in enumerate(runs, start=1):
        serial += step
        reports.insert(0, report(counter, serial=serial, outcome=outcome))
    published = manifest(serial + ahead)
    looked: list[Report] = []
    for one, before in pairwise(reports):
        looked.append(one)
        if enough(published, looked, first=known and is_first(one, before)):
            break
    else:
        looked = reports
    heartbeat = beat(after=len(runs)) if heard else None
    assert derive(published, looked, heartbeat) == derive(published, reports, heartbeat)


def test_of_many_releases_the_reports_on_the_last_two_are_enough() -> None:
    reports = [report(20 - number, serial=1019 - number) for number in range(20)]
    assert [enough(manifest(1019), reports[:number]) for number in range(1, 5)] == [False, True, True, True]
    assert not any(enough(manifest(900), reports[:number]) for number in range(1, 20))
    assert not any(enough(None, reports[:number]) for number in range(1, 20))


def test_the_first_report_of_a_success_on_the_published_release_is_enough() -> None:
    newest, before = report(20, serial=1019), report(19, serial=1018)
    assert is_first(newest, before)
    assert not is_first(newest, report(19, serial=1019))
    assert not is_first(newest, report(21, serial=1018)), "files may be named as the server likes"
    assert enough(manifest(1019), [newest], first=True)
    assert not enough(manifest(1019), [report(20, serial=1019, outcome="failed")], first=True)
    assert not enough(manifest(1018), [newest], first=True), "one before may be about 1018"


def test_a_refusal_says_nothing_about_which_report_was_the_first() -> None:
    assert not is_first(report(2, serial=1019, outcome="refused"), report(1, serial=1018))
    assert not is_first(report(2, serial=1019), report(1, serial=1018, outcome="refused"))
    assert not is_first(report(2, serial=1019), report(1, serial=None, outcome="failed"))


def test_a_silence_that_is_nobodys_word_is_unreadable_and_no_new_machine() -> None:
    assert derive(PUBLISHED, [], None, unread=True).state == "unreadable"
    assert derive(PUBLISHED, [report()], None, unread=True).state == "up to date"
    assert derive(None, [], None, unread=True).state == "not published"
