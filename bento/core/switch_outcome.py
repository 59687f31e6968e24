"""How a switch ended: by the system that runs, the units that failed since, and the exit code together. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

Ending = Literal["done", "degraded", "needs a reboot", "failed"]
UnitPolicy = Literal["fail", "degrade", "ignore"]

UNITS_FAILED: Final = 4  # switch-to-configuration: done, but some units failed
REBOOT_NEEDED: Final = 100  # switch-to-configuration test: nothing done, this change wants a reboot
_SHOWN: Final = 5  # units that a sentence lists


@dataclass(frozen=True)
class Switched:
    """What was seen after a switch. `running` is which system runs; `failed` are units that weren't failed before."""

    code: int
    running: Literal["old", "new", "another"]
    failed: Collection[str] = ()


@dataclass(frozen=True)
class Verdict:
    """`ending`, and a sentence that says why; empty for "done"."""

    ending: Ending
    why: str = ""


def judge_switch(seen: Switched, policy: UnitPolicy) -> Verdict:
    """The running system decides before the exit code does: both can be wrong by themselves.

    An exit 0 with the old system running is a failure (a full disk does that), so is the new one running after a failed
    activation script (2), a failed check or loader (1), a signal, or anything unknown.
    """
    if seen.code == REBOOT_NEEDED and seen.running == "old":
        return Verdict("needs a reboot", "this change takes effect at the next boot")
    if seen.running != "new":
        return Verdict("failed", f"after the switch ({_exit(seen.code)}) the running system is not the new one")
    if seen.code not in (0, UNITS_FAILED):
        return Verdict("failed", f"the switch ended with {_exit(seen.code)}")
    if not seen.failed and seen.code == 0:
        return Verdict("done")
    return judge_units(seen.failed, policy)


def judge_units(failed: Collection[str], policy: UnitPolicy) -> Verdict:
    """What units mean that failed since the switch; `failed` may be empty where only the exit code told of some."""
    names = sorted(failed)
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    why = f"units failed: {listed}" if names else "some units failed during the switch"
    if policy == "ignore":
        return Verdict("done")
    return Verdict("failed" if policy == "fail" else "degraded", why)


def _exit(code: int) -> str:
    return f"exit {code}" if code >= 0 else f"signal {-code}"
