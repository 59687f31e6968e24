"""Reboots that the admin's settings allow: for a new kernel, for a release that waits, or because nothing else helps.

A host reboots for the same thing only once: if it comes up with something else, a person or the loader wanted that.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from bento.agent.host import Host
from bento.agent.install import known_manifest
from bento.agent.turn import kexec_of, systemd_of
from bento.core.reboots import PARTS, Window, changed_parts
from bento.errors import BentoError

if TYPE_CHECKING:  # pydantic stays out of the agent's poll path (docs/decisions/0002)
    from bento.models.manifest import Settings


def reason_to_reboot(host: Host) -> str | None:
    """What a reboot would bring, as a sentence; None where it would bring nothing. Reads links only."""
    default, committed = host.profile(), host.state.journal().committed
    if default is None or default != committed.system:
        return None
    if host.running() != default and host.runtime.live() != committed.serial:
        return f"release {committed.serial} takes effect at the next boot"
    parts = changed_parts(_parts(host.settings.paths.booted_system), _parts(host.settings.paths.profile))
    if not parts:
        return None
    return f"the {' and the '.join(part.replace('-', ' ') for part in parts)} of the new system wait for a reboot"


def reboot_if_wanted(host: Host) -> None:
    """At the end of a run: reboot where there is a reason, the committed release allows it, and it is the time for it.

    Never raises: a reboot that can't be made is said, and tried again at the next run.
    """
    journal = host.state.journal()
    if journal.phase != "idle" or (reason := reason_to_reboot(host)) is None:
        return
    manifest = known_manifest(host, journal.committed.serial)
    if manifest is None or manifest.settings.reboot != "when-needed":
        host.say(f"{reason}; this host doesn't reboot by itself")
        return
    if not _is_time(manifest.settings):
        host.say(f"{reason}; it reboots within {manifest.settings.reboot_window}")
        return
    purpose = f"{journal.committed.system} {journal.committed.serial}"
    _reboot(host, manifest.settings, reason, purpose, kexec=manifest.settings.reboot_kexec)


def rescue(host: Host) -> bool:
    """Reboot where nothing leads back on the running machine, but the boot default is the old system still.

    Only if the release under way allows reboots. Whether it will reboot.
    """
    journal = host.state.journal()
    if journal.phase != "switching" or journal.new is None or journal.old_profile is None:
        return False
    manifest = known_manifest(host, journal.new.serial)
    if manifest is None or manifest.settings.reboot != "when-needed" or host.profile() != journal.old_profile:
        return False
    return _reboot(host, manifest.settings, "rolling back failed", f"back from {journal.new.serial}")


def _reboot(host: Host, settings: "Settings", reason: str, purpose: str, *, kexec: bool = False) -> bool:
    systemd = systemd_of(host)
    try:
        if host.state.rebooted_for() == purpose:
            host.say(f"{reason}; this host has rebooted for it once and doesn't again")
            return False
        if systemd.reboot_scheduled():
            return True
        host.say(f"{reason}: rebooting in {settings.reboot_notice} minutes (to prevent it: shutdown -c)")
        if not (kexec and _kexec(host, settings.reboot_notice, f"Bento: {reason}")):
            systemd.reboot(settings.reboot_notice, f"Bento: {reason}")
        try:
            host.state.write_rebooted_for(purpose)
        except BentoError:
            systemd.call_off_reboot()  # what it doesn't remember it would do again and again
            raise
    except BentoError as error:
        host.say(f"can't reboot: {error.message}")
        return False
    return True


def _kexec(host: Host, minutes: int, message: str) -> bool:
    """Have the boot default started by kexec; whether it will be."""
    default = host.profile()
    if default is None:
        return False
    try:
        systemd_of(host).kexec(kexec_of(host), Path(default), minutes, message)
    except BentoError as error:
        host.say(f"{error.message}; so it reboots by its firmware")
        return False
    host.say("it starts the new kernel by kexec")
    return True


def _is_time(settings: "Settings") -> bool:
    """Whether a reboot that is announced now would come within the window."""
    if settings.reboot_window is None:
        return True
    then = time.localtime(time.time() + 60 * settings.reboot_notice)
    return Window.parse(settings.reboot_window).holds(then.tm_hour * 60 + then.tm_min)


def _parts(system: Path) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for part in PARTS:
        try:
            found[part] = str((system / part).resolve(strict=True))
        except OSError:
            found[part] = None
    return found
