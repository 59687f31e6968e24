"""A canary is good only by its own word about this very release."""

from typing import get_args

import pytest
from unit.samples import OTHER_SYSTEM, SYSTEM, digest, manifest, report

from bento.core.host_state import derive
from bento.core.waves import judge, parse_wait
from bento.errors import InputError
from bento.models.report import Heartbeat, Outcome, Report

RELEASE = manifest()


def verdict(*reports: Report, heartbeat: Heartbeat | None = None) -> str:
    return judge(derive(RELEASE, list(reports), heartbeat), RELEASE)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_each_outcome_has_its_verdict(outcome: Outcome) -> None:
    good = ("succeeded", "auto-updated", "reboot-needed")
    wanted = "good" if outcome in good else "waiting" if outcome == "unconfirmed" else "bad"
    assert verdict(report(outcome=outcome)) == wanted


def test_silence_and_a_report_on_another_release_are_waiting() -> None:
    assert verdict() == "waiting"
    assert verdict(report(serial=999, digest=digest("other"))) == "waiting"
    assert verdict(report(serial=999, outcome="rolled-back")) == "waiting"
    assert verdict(report(digest=digest("the same serial, another release"))) == "waiting"
    assert verdict(report(serial=None, digest=None, outcome="failed")) == "waiting"


def test_the_newest_report_counts() -> None:
    assert verdict(report(1, outcome="failed"), report(2)) == "good"
    assert verdict(report(1), report(2, outcome="rolled-back")) == "bad"


def test_a_canary_that_fell_back_to_another_system_is_bad() -> None:
    beat = Heartbeat(fleet="acme", host="web", after=1, time=9999, serial=1000, running=OTHER_SYSTEM)
    assert verdict(report(running=SYSTEM), heartbeat=beat) == "bad"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200)])
def test_a_time_is_read(text: str, seconds: int) -> None:
    assert parse_wait(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "0m", "-1m", "1.5h", "10 m", "10m\n", "999999s", "1d", "1٣m"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_wait(text)
    assert "10m" in error.value.hints[0]
