"""What a person on the host, or its dead-man timer, asks of the agent."""

import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from bento.adapters.files import holder, read_capped
from bento.agent.host import Host
from bento.agent.reporting import deliver
from bento.agent.run import EXIT, Ran
from bento.agent.turn import AgentBusy, locked, refuse_busy, systemd_of
from bento.core import trust_rules
from bento.errors import WorkFailed
from bento.names import Serial

_PAUSE = 0.2  # seconds between two looks whether the run has ended


class NotInstalled(WorkFailed):
    """The run is over, and this host hasn't got the release."""

    exit_code = 5


_PATIENCE = 10.0  # seconds that a run gets to end after it was told to


def retry(host: Host) -> str:
    """Let the next run try a release that failed as if it were new, or else look for newer inputs if it may.

    Returns a sentence. Raises AgentBusy, Damaged.
    """
    with locked(host):
        floor = host.state.floor()
        if floor is None:
            return "no release has come yet"
        if floor.progress == "finished" and host.state.tried() is not None:
            host.state.write_tried(None)
            return "newer inputs will be looked for by the next run: bento-agent run"
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


def recover_now(host: Host, *, dead_man: bool = False) -> Ran:
    """Finish or undo what a run was doing that died, or that hangs: `dead_man` stops it first. Raises AgentBusy."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(host))
        except AgentBusy:
            if not dead_man or host.state.journal().phase == "idle":
                raise
            _stop_run(host)
            _once_free(stack, host)
        journal = host.state.journal()
        if journal.phase == "idle":
            return Ran(None, "there is nothing to recover from", 0)
        if dead_man:
            systemd_of(host).stop_switch()
        refuse_busy(host)
        host.ensure_runtime()
        from bento.agent.recover import recover

        done = recover(host, journal, gave_up=dead_man)
        deliver(host)
    return Ran(done.outcome, f"{done.outcome}: {done.reason}", EXIT[done.outcome])


def _once_free(stack: ExitStack, host: Host) -> None:
    """Take the lock of a run that was ended. Raises AgentBusy.

    A process that dies loses its command line before the kernel closes its files, and with them its lock.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with suppress(AgentBusy):
            stack.enter_context(locked(host))
            return
        time.sleep(0.05)
    stack.enter_context(locked(host))


def _stop_run(host: Host) -> None:
    """End the run that holds the lock. Raises AgentBusy where it can't be told which it is."""
    lock = host.state.root / "lock"
    pid = holder(lock)
    if pid is None or b"bento-agent" not in _command_line(pid):
        raise AgentBusy("a run hangs, and can't be told from other programs", f"see who holds it: fuser {lock}")
    host.say(f"the run {pid} has not come to an end: stopping it")
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if b"bento-agent" not in _command_line(pid):
                return
            time.sleep(0.05)


def _command_line(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
