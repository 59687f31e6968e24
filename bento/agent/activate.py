"""Activate a system and its secrets together, and bring both back together.

Test first, profile and boot default only after confirmation, so that a power cut in between boots the old system. What
happened is decided by the running system, not by an exit code alone.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Literal

from bento.adapters import bootloader, nix
from bento.adapters.process import run_keeping_tail
from bento.agent.confirm import failed_units
from bento.agent.host import Host, Say
from bento.agent.install import (
    changed_units,
    check_links,
    flip,
    is_live,
    link,
    link_leniently,
    settle_owners,
    to_go_back_to,
    users_changed,
)
from bento.agent.turn import busy_switching, kexec_of, let_others_switch, others_switch, systemd_of
from bento.core import journal as rules
from bento.core.journal import Journal, Point
from bento.core.switch_outcome import REBOOT_NEEDED, Switched, judge_switch
from bento.errors import BentoError, WorkFailed
from bento.models.limits import LIMITS
from bento.names import Serial


@dataclass
class Log:
    """What the report's tail quotes: Nix's output, and how switches ended. `say` is for what stays on this machine."""

    say: Say
    text: str = ""

    def add(self, text: str) -> None:
        """Append; the end is what is kept."""
        self.text = (self.text + text)[-LIMITS.log_tail :]


class ActivationFailed(WorkFailed):
    """The switch didn't lead to the new system with its secrets."""


class NeedsReboot(WorkFailed):
    """The system can't be switched to while the machine runs; nothing was done."""


def has_hook(system: str) -> bool:
    """Whether the system's own activation flips the secrets: it then carries their declaration."""
    return (Path(system) / "bento" / "secrets.json").exists()


def begin(host: Host, new: Point) -> Journal:
    """Write down where the host is and where it is going, and keep both from garbage collection.

    Raises WorkFailed, with nothing changed, while another switch isn't undone.
    """
    live = host.runtime.live()
    old = Point(host.running(), None if live is None else Serial(live))
    journal = rules.begin_switch(host.state.journal(), old, new, host.profile())
    for name, path in (("old", old.system), ("new", new.system), ("agent", host.command[0]), ("python", sys.prefix)):
        if path is not None and path.startswith("/nix/store/"):
            nix.keep(host.gc_root(name), "/".join(path.split("/")[:4]))
    # A kernel that waits to be started is that of a release before this one.
    systemd_of(host).forget_kernel(kexec_of(host))
    # From outside, by the agent that is here now: the new system may bring one that can't go back, or none.
    systemd_of(host).arm(host.settings.deadline, [*host.command, "recover", "--dead-man"])
    host.state.write_journal(journal)
    return journal


def close(host: Host, journal: Journal) -> None:
    """A switch is over, this way or that: write so, and only then disarm the timer that would have undone it.

    A timer that can't be disarmed is no reason to undo anything: it will find that there is nothing to do.
    """
    host.state.write_journal(journal)
    if journal.phase == "idle":
        try:
            systemd_of(host).disarm()
        except BentoError as error:
            host.say(error.message)


def switch(host: Host, journal: Journal, log: Log, failed_before: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Make the journal's new point the running one. Returns what isn't as it should be, though it runs.

    `failed_before`: units whose failure is nothing new. Raises NeedsReboot with nothing done, ActivationFailed with
    anything done: then `roll_back`.
    """
    old, new = _points(journal)
    notes: list[str] = []
    if new.serial is not None:
        check_links(host, new.serial)
    if new.system != old.system:
        notes.extend(_switch_system(host, old, new, log, failed_before))
    elif users_changed(host, old.serial, new.serial):
        host.say("activating the running system once more, because a secret for its users changed")
        notes.extend(_switch_system(host, old, new, log, failed_before))
    elif new.serial is not None:
        flip(host, new.serial)
    if not is_live(host, new.serial):
        raise ActivationFailed(
            "the system's activation didn't make the release's secrets live",
            "see what its activation said: journalctl -e",
        )
    link(host, new.serial, old.serial)
    if new.serial is not None:
        without = settle_owners(host, new.serial)
        if without:
            raise ActivationFailed(
                f"this host lacks {', '.join(map(str, without))}",
                "declare the user in the configuration, or change the owner in secrets/secrets.toml",
            )
    notes.extend(_refresh_units(host, old.serial, new.serial))
    return tuple(notes)


def _switch_system(host: Host, old: Point, new: Point, log: Log, failed_before: frozenset[str]) -> tuple[str, ...]:
    if new.system is None:
        raise ActivationFailed("there is no system to switch to", "see what this host has: bento-agent status")
    hook = has_hook(new.system)
    if not hook:
        flip(host, new.serial)
        link(host, new.serial, old.serial)
    code = _call(host, new.system, "test", log, first=True)
    if code != 0 and others_switch(host) and (host.running() != new.system or new.system == old.system):
        # Ours never began: somebody was quicker by a moment, and what he switches to is his.
        if not hook:
            flip(host, old.serial)
            _say_all(host, link_leniently(host, old.serial))
        close(host, rules.abandon(host.state.journal()))
        raise busy_switching()
    seen = Switched(code, _which(host.running(), old, new, code), failed_units(host) - failed_before)
    verdict = judge_switch(seen, host.settings.failed_units)
    if verdict.ending == "needs a reboot":
        if not hook:
            flip(host, old.serial)
            _say_all(host, link_leniently(host, old.serial))
        raise NeedsReboot(verdict.why)
    if verdict.ending == "failed":
        raise ActivationFailed(verdict.why)
    return (verdict.why,) if verdict.why else ()


def _which(running: str | None, old: Point, new: Point, code: int) -> Literal["old", "new", "another"]:
    """Which of the two runs; where they are one, an exit before activation means the old."""
    if running == new.system and not (code == REBOOT_NEEDED and running == old.system):
        return "new"
    return "old" if running == old.system else "another"


def _call(host: Host, system: str, action: str, log: Log, *, first: bool = False) -> int:
    """switch-to-configuration's exit code. But for the `first` of a run, somebody's own switch is waited for."""
    if not first:
        let_others_switch(host)
    program = f"{system}/bin/switch-to-configuration"
    # Forwards the timer comes first. On the way back, and at boot, there may be none, and a switch can hang there too.
    apart = systemd_of(host).apart([program, action], seconds=2 * host.settings.deadline)
    done = run_keeping_tail(apart, tail=LIMITS.log_tail)
    # It quotes what services print, which can be a secret: that stays in this machine's journal.
    log.add(f"switch-to-configuration {action}: exit {done.code}\n")
    log.say(done.err.decode("utf-8", "replace"))
    return done.code


def _refresh_units(host: Host, before: Serial | None, after: Serial | None) -> tuple[str, ...]:
    units = changed_units(host, before, after)
    for verb, names in (("restarting", units.restart), ("reloading", units.reload)):
        if names:
            host.say(f"{verb} {', '.join(names)}, because a secret changed")
    return systemd_of(host).refresh(units)


def commit(host: Host, journal: Journal, log: Log) -> None:
    """Make the new system boot default and committed state. Raises ActivationFailed: then `roll_back`."""
    close(host, prepare_commit(host, journal, log))


def prepare_commit(host: Host, journal: Journal, log: Log) -> Journal:
    """All of `commit` but its last word: the journal to write, once what must be said before is said."""
    old, new = _points(journal)
    journal = rules.begin_commit(journal)
    host.state.write_journal(journal)
    if new.system is not None and (new.system != old.system or host.profile() != new.system):
        _make_default(host, new.system, log)
    return rules.commit(journal)


def _make_default(host: Host, system: str, log: Log) -> None:
    """Profile first: a boot loader takes its default from the profile's generations."""
    boot, before = host.settings.paths.boot, host.profile()
    # A loader of another kind may have left old entries there: these count only while they are in use.
    understood = before is not None and bootloader.names(boot, before)
    try:
        nix.set_profile(host.settings.paths.profile, system)
    except BentoError as error:
        raise ActivationFailed(error.message) from None
    code = _call(host, system, "boot", log)
    if code != 0:
        raise ActivationFailed(
            f"making the new system the boot default ended with exit {code}", "see what it said: journalctl -e"
        )
    if host.profile() != system:
        raise ActivationFailed(
            "the system profile doesn't point to the new system", "see whether the disk is full: df -h /nix"
        )
    if understood and not bootloader.names(boot, system):
        raise ActivationFailed(
            f"the boot loader in {boot} has no entry for the new system, though it said so",
            f"see whether it is full: df -h {quote(str(boot))}",
        )


def roll_back(host: Host, journal: Journal, log: Log) -> None:
    """Bring system, secrets and boot default back to the captured old ones. Raises WorkFailed where that fails."""
    close(host, prepare_roll_back(host, journal, log))


def prepare_roll_back(host: Host, journal: Journal, log: Log) -> Journal:
    """All of `roll_back` but its last word: the journal to write, once what must be said before is said."""
    old, new = _points(journal)
    host.state.write_journal(rules.go_back(host.state.journal()))
    serial = to_go_back_to(host, old.serial)
    if serial != old.serial:
        log.add(f"the secrets of release {old.serial} can't be opened again: its manifest is lost\n")
    # Whatever the links say: a rollback that was cut may have flipped them, and not given users their passwords back.
    if old.system is not None and (host.running() != old.system or users_changed(host, new.serial, serial)):
        if not has_hook(old.system):
            flip(host, serial)
            _say_all(host, link_leniently(host, serial))
        code = _call(host, old.system, "test", log)
        if host.running() != old.system:
            raise WorkFailed(
                f"rolling back failed: the old system's switch ended with exit {code}",
                "see what it said: journalctl -e",
            )
    if not is_live(host, serial):
        flip(host, serial)
    _say_all(host, link_leniently(host, serial))
    if serial is not None:
        settle_owners(host, serial)
    _say_all(host, _refresh_units(host, new.serial, serial))
    # Once a commit has begun, the boot loader may name the new system whatever the profile says.
    committing = host.state.journal().phase == "committing"
    if journal.old_profile is not None and (committing or host.profile() != journal.old_profile):
        nix.set_profile(host.settings.paths.profile, journal.old_profile)
        if (code := _call(host, journal.old_profile, "boot", log)) != 0:
            raise WorkFailed(
                f"rolling back failed: making the old system the boot default ended with exit {code}",
                "see what it said: journalctl -e",
            )
    return rules.abandon(journal)


def _say_all(host: Host, sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        host.say(sentence)


def _points(journal: Journal) -> tuple[Point, Point]:
    if journal.old is None or journal.new is None:
        raise WorkFailed("the journal has no switch under way", "see what this host is at: bento-agent status")
    return journal.old, journal.new
