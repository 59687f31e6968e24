"""What a person on the host asks of the agent."""

import time

from bento.adapters.files import read_capped
from bento.agent.host import Host
from bento.agent.turn import AgentBusy, locked
from bento.core import trust_rules
from bento.errors import WorkFailed
from bento.names import Serial

_PAUSE = 0.2  # seconds between two looks whether the run has ended


class NotInstalled(WorkFailed):
    """The run is over, and this host hasn't got the release."""

    exit_code = 5


def retry(host: Host) -> str:
    """Let the next run try a release that failed as if it were new. Returns a sentence. Raises AgentBusy, Damaged."""
    with locked(host):
        floor = host.state.floor()
        if floor is None:
            return "no release has come yet"
        if floor.progress != "failed":
            return f"release {floor.serial} hasn't failed: there is nothing to try again"
        host.state.write_floor(trust_rules.retried(floor))
    return f"release {floor.serial} will be tried again by the next run: bento-agent run"


def confirm(host: Host, serial: Serial, *, wait: float) -> str:
    """The admin is here: a switch to the release `serial` that waits for him stands. Returns a sentence.

    Then up to `wait` seconds for the run to end. Raises AgentBusy while a run doesn't wait for this, NotInstalled.
    """
    confirmed = False
    deadline = time.monotonic() + wait
    while True:
        try:
            with locked(host):
                host.state.awaiting.unlink(missing_ok=True)  # of a run that died
                return _outcome(host, serial)
        except AgentBusy:
            if not confirmed:
                confirmed = _confirmed(host, serial)
                if not confirmed:
                    raise
        if time.monotonic() >= deadline:
            return f"release {serial} is confirmed"
        time.sleep(_PAUSE)


def _confirmed(host: Host, serial: Serial) -> bool:
    if read_capped(host.state.awaiting, 64, "what this host waits for") != b"%d\n" % serial:
        return False
    try:
        host.state.awaiting.unlink()
    except FileNotFoundError:
        return False  # its time was up just now
    return True


def _outcome(host: Host, serial: Serial) -> str:
    if host.state.journal().committed.serial != serial:
        raise NotInstalled(f"release {serial} isn't installed", "see what this host has: bento-agent status")
    return f"release {serial} is installed"
