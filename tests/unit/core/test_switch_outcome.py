"""How a switch ended: the running system, newly failed units and the exit code together, for each of them."""

import pytest

from bento.core.switch_outcome import Ending, Switched, UnitPolicy, Verdict, judge_switch, judge_units

KILLED = -9
UNIT = ("app.service",)


@pytest.mark.parametrize(
    ("code", "running", "failed", "ending"),
    [
        (0, "new", (), "done"),
        (0, "new", UNIT, "degraded"),
        (0, "old", (), "failed"),  # it said so, and nothing happened: a full disk
        (0, "another", (), "failed"),
        (1, "old", (), "failed"),  # a check before the switch
        (1, "new", (), "failed"),  # an abort in the middle
        (2, "new", (), "failed"),  # the activation script
        (2, "old", (), "failed"),
        (4, "new", (), "degraded"),
        (4, "new", UNIT, "degraded"),
        (4, "old", UNIT, "failed"),
        (100, "old", (), "needs a reboot"),
        (100, "new", (), "failed"),
        (100, "another", (), "failed"),
        (KILLED, "new", (), "failed"),
        (KILLED, "old", (), "failed"),
        (77, "new", (), "failed"),
    ],
)
def test_a_switch_is_judged_by_what_runs_what_failed_and_how_it_ended(
    code: int, running: str, failed: tuple[str, ...], ending: Ending
) -> None:
    verdict = judge_switch(Switched(code, running, failed), "degrade")  # type: ignore[arg-type]
    assert verdict.ending == ending
    assert bool(verdict.why) == (ending != "done")


@pytest.mark.parametrize(("policy", "ending"), [("fail", "failed"), ("degrade", "degraded"), ("ignore", "done")])
@pytest.mark.parametrize("seen", [Switched(0, "new", UNIT), Switched(4, "new", UNIT), Switched(4, "new")])
def test_what_a_failed_unit_means_is_the_hosts_to_say(seen: Switched, policy: UnitPolicy, ending: Ending) -> None:
    assert judge_switch(seen, policy).ending == ending


def test_no_policy_makes_a_failed_switch_a_good_one() -> None:
    for code, running in ((0, "old"), (1, "new"), (2, "new"), (KILLED, "new"), (4, "old")):
        assert judge_switch(Switched(code, running, UNIT), "ignore").ending == "failed"  # type: ignore[arg-type]


def test_units_are_named_and_a_signal_is_called_one() -> None:
    many = [f"{letter}.service" for letter in "gfedcba"]
    assert judge_units(many, "fail") == Verdict(
        "failed", "units failed: a.service, b.service, c.service, d.service, e.service and 2 more"
    )
    assert judge_switch(Switched(KILLED, "new"), "fail").why == "the switch ended with signal 9"
