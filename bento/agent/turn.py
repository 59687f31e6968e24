"""Whose turn it is: one run of the agent at a time, and none beside somebody's own switch of the system."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bento.adapters.files import Busy, busy_lock, sign_lock
from bento.adapters.systemd import SWITCH_UNIT, Systemd
from bento.agent.host import Host


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
        raise AgentBusy("a switch of this system is under way", f"see it: journalctl --follow --unit={SWITCH_UNIT}")
