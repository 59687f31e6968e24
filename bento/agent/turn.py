"""Whose turn it is: one run of the agent at a time, and none beside somebody's own switch of the system."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bento.adapters.files import Busy, busy_lock, sign_lock
from bento.adapters.systemd import SWITCH_UNIT, Systemd
from bento.agent.host import Host
from bento.errors import BentoError

_PATIENCE = 600.0  # seconds that somebody's own switch may take
_PAUSE = 0.5


class AgentBusy(Busy):
    """Another run or a switch is under way on this host; a timer tries again by itself."""

    exit_code = 75  # EX_TEMPFAIL


def systemd_of(host: Host) -> Systemd:
    """The host's systemd."""
    return Systemd(host.settings.systemctl, host.settings.systemd_run, host.settings.shutdown)


def kexec_of(host: Host) -> Path:
    """The running system's kexec(8), which needn't be there."""
    return host.settings.paths.current_system / "sw/bin/kexec"


@contextmanager
def locked(host: Host) -> Iterator[None]:
    """Hold the agent's lock. Raises AgentBusy."""
    lock = host.state.root / "lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(busy_lock(lock, "another run of the agent"))
        except Busy as error:
            raise AgentBusy(error.message, *error.hints) from None
        sign_lock(lock)
        yield


def refuse_busy(host: Host) -> None:
    """Raise AgentBusy while a switch of the system is under way: a person's, or that of a run that died."""
    if systemd_of(host).switching():
        raise busy_switching()


def busy_switching() -> AgentBusy:
    """What is raised then."""
    return AgentBusy("a switch of this system is under way", f"see it: journalctl --follow --unit={SWITCH_UNIT}")


def others_switch(host: Host) -> bool:
    """Whether a switch is under way now, which is nobody's of this run; a systemd that doesn't answer is no yes."""
    try:
        return systemd_of(host).switching()
    except BentoError as error:
        host.say(error.message)
        return False


def let_others_switch(host: Host) -> None:
    """Wait until somebody's switch has ended: what must follow now can't begin beside it. Not for ever."""
    end = time.monotonic() + _PATIENCE
    told = False
    while others_switch(host) and time.monotonic() < end:
        if not told:
            host.say("waiting for a switch of this system that somebody else has begun")
            told = True
        time.sleep(_PAUSE)
