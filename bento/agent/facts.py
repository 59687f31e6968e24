"""What this host can say of itself without a server: for `status`, a status bar, and Prometheus."""

from dataclasses import asdict, dataclass
from typing import Final

from bento.agent.host import Host
from bento.agent.reboot import reason_to_reboot
from bento.agent.suspend import suspended
from bento.core import trust_rules
from bento.core.journal import Phase

_HELP: Final = {
    "committed": "Serial of the release that is installed.",
    "accepted": "Serial of the newest release that was accepted.",
    "tries": "Tries of the accepted release that failed.",
    "reports_waiting": "Reports that the server doesn't have yet.",
    "reboot_wanted": "Whether a reboot would bring something.",
    "suspended": "Whether a person has suspended updates.",
    "busy": "Whether a switch is under way, or was cut off.",
    "last_run_time": "When the agent ran last, UTC seconds.",
    "last_run_exit": "How it ended: 0 is well, 75 busy.",
}


@dataclass(frozen=True)
class Facts:
    """`state` is one of a few words. `secrets` is the serial whose secrets are live; None is "not yet" throughout."""

    host: str
    fleet: str
    state: str
    phase: Phase
    committed: int | None
    system: str | None
    running: str | None
    secrets: int | None
    accepted: int | None
    tries: int
    reports_waiting: int
    reboot: str | None
    suspended: str | None

    def as_dict(self) -> dict[str, object]:
        """For JSON; keys are never taken away, only added."""
        return asdict(self)

    def oneline(self) -> str:
        """For a status bar: the host, its release, and its state."""
        release = "no release" if self.committed is None else f"release {self.committed}"
        return f"{self.host}: {release}, {self.state}"


def facts_of(host: Host) -> Facts:
    """Read them. Raises Damaged."""
    journal, floor = host.state.journal(), host.state.floor()
    pause = suspended(host)
    reboot = reason_to_reboot(host)
    state: str
    if journal.phase != "idle":
        state = journal.phase
    elif pause is not None:
        state = "suspended"
    elif floor is None:
        state = "new"
    elif floor.progress == "accepted":
        state = "updating"
    elif floor.progress == "failed":
        left = not isinstance(trust_rules.again(floor, host.circumstances(), host.clock()), trust_rules.Take)
        state = "failed" if left else "failing"
    else:
        state = "up to date" if reboot is None else "reboot wanted"
    return Facts(
        host=host.name,
        fleet=host.trust.fleet,
        state=state,
        phase=journal.phase,
        committed=journal.committed.serial,
        system=journal.committed.system,
        running=host.running(),
        secrets=host.runtime.live(),
        accepted=None if floor is None else floor.serial,
        tries=0 if floor is None else floor.tries,
        reports_waiting=len(host.state.spooled()),
        reboot=reboot,
        suspended=pause,
    )


def textfile(facts: Facts | None, now: int, code: int) -> str:
    """The facts as Prometheus' text format, for node_exporter's textfile collector. `code` is how the run ended.

    Without facts, where the host's memory is damaged, at least that: the last good run's would look well for ever.
    """
    values: dict[str, int | None] = {}
    if facts is not None:
        values = {
            "committed": facts.committed,
            "accepted": facts.accepted,
            "tries": facts.tries,
            "reports_waiting": facts.reports_waiting,
            "reboot_wanted": int(facts.reboot is not None),
            "suspended": int(facts.suspended is not None),
            "busy": int(facts.phase != "idle"),
        }
    values |= {"last_run_time": now, "last_run_exit": code}
    return "".join(
        f"# HELP bento_{name} {_HELP[name]}\n# TYPE bento_{name} gauge\nbento_{name} {value}\n"
        for name, value in values.items()
        if value is not None
    )
