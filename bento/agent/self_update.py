"""Move those inputs of this host's flake on that its release names, when nothing new is published.

It is a switch like a release's, of the same serial and with the same secrets: journal, dead-man timer, confirmation and
way back are the same. The release's own tree stays as it was signed: Nix works on an unpacked copy, and the lock file
lies in the state folder.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bento.adapters import nix
from bento.agent.activate import Log
from bento.agent.host import Host
from bento.agent.install import has_generation, open_generation, stored_manifest
from bento.agent.reboot import reason_to_reboot
from bento.agent.reporting import make_report
from bento.agent.take import (
    Taken,
    activate_system,
    build_tree,
    check_declaration,
    notify,
    tidy_up,
    unpacked,
)
from bento.agent.turn import AgentBusy
from bento.core import self_update as rules
from bento.core.flake_lock import inputs, moved
from bento.core.self_update import Step, Tried
from bento.errors import BentoError, WorkFailed
from bento.models.manifest import Manifest
from bento.models.signed import sha256

if TYPE_CHECKING:
    from bento.models.report import Outcome

_PATIENCE = 1800.0  # seconds that all fetching of inputs may take; a fetch that hangs would hold up the next release


@dataclass(frozen=True)
class _Found:
    """What the inputs have now: the lock file, what to do with it, and the system that it gives.

    `held` is the lock file that the running system was built with; `moved` says how the two differ.
    """

    step: Step
    system: str
    held: bytes
    lock: bytes
    moved: str = ""


def self_update(host: Host) -> Taken | None:
    """One try, with its report in the spool; None where nothing moved, or where it isn't for this host now.

    Raises AgentBusy, with nothing switched; then the next run tries.
    """
    manifest = _due(host)
    if manifest is None or (runs := host.running()) is None:
        return None
    before = host.state.tried()
    tried = rules.begin(before, manifest.serial, host.clock())
    host.state.write_tried(tried)
    host.say(f"looking for newer inputs: {', '.join(manifest.settings.self_update)}")
    log = Log(host.say)
    try:
        found = _look(host, manifest, runs, tried, log)
    except (BentoError, OSError) as error:  # nothing was switched
        return _failed(host, manifest, Taken("failed", _about(manifest, str(error))), (runs, None), tried, log)
    if found.step == "leave it":
        host.say("what the inputs have now had to be undone here: it is left until they move again")
        return None
    if found.system == runs:
        return _settled(host, manifest, runs, found, tried, log)
    try:
        return _switch(host, manifest, runs, found, tried, log)
    except AgentBusy:
        host.state.write_tried(before)
        raise


def _due(host: Host) -> Manifest | None:
    """The installed release, if it lets this host update inputs, and all of it is in force."""
    committed, floor = host.state.journal().committed, host.state.floor()
    if committed.serial is None or floor is None or floor.serial != committed.serial:
        return None
    manifest = stored_manifest(host, committed.serial)
    settings = manifest.settings
    if not settings.self_update or manifest.config.kind != "flake" or settings.evaluate == "server":
        return None
    if host.running() == host.profile() == committed.system and host.runtime.live() == committed.serial:
        return manifest
    host.say("the inputs are not updated: what runs is not what is installed")
    return None


def _look(host: Host, manifest: Manifest, runs: str, tried: Tried, log: Log) -> _Found:
    """Ask the inputs, build what they give, and have all that a switch to it needs."""
    with unpacked(host, manifest) as tree:
        own, lock = _move(manifest, tree)
        held = host.state.lock_of(runs) or own
        step = rules.next_step(tried, sha256(held), sha256(lock))
        if step != "build":
            return _Found(step, runs, held, lock)
        system = build_tree(host, manifest, tree, log)
    if system == runs:
        return _Found(rules.next_step(tried, sha256(held), sha256(held)), runs, held, lock)
    check_declaration(system, manifest)
    if not has_generation(host, manifest):
        open_generation(host, manifest)
    told = ", ".join(f"{one.input} {one.before} -> {one.after}" for one in moved(held, lock, "flake.lock"))
    return _Found(step, system, held, lock, told)


def _move(manifest: Manifest, tree: Path) -> tuple[bytes, bytes]:
    """Move the inputs on in `tree`. Its lock file as it was signed, and as it is now."""
    path = tree / "flake.lock"
    if not path.exists():
        raise WorkFailed("the release's flake has no flake.lock")
    own = path.read_bytes()
    known = inputs(own, "the release's flake.lock")
    for name in manifest.settings.self_update:
        if name not in known:
            raise WorkFailed(f"the release's flake has no input '{name}'")
    times = path.stat()
    nix.update_flake(tree, manifest.settings.self_update, timeout=_PATIENCE)
    # self.lastModified follows it: the same inputs are to give the same system, whenever and wherever it is built.
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return own, path.read_bytes()


def _switch(host: Host, manifest: Manifest, runs: str, found: _Found, tried: Tried, log: Log) -> Taken:
    # Both before the switch, so that whoever finds what comes of it knows what it was.
    host.state.keep_lock(found.system, found.lock)
    host.state.write_tried(Tried(tried.at, tried.serial, sha256(found.lock)))
    taken = activate_system(host, manifest, found.system, True, log)
    systems = (runs, found.system)
    if taken.outcome == "succeeded":
        wish = reason_to_reboot(host)
        taken = Taken("auto-updated", found.moved if wish is None else f"{found.moved}; {wish}")
    else:
        taken = Taken(taken.outcome, _about(manifest, taken.reason))
    if taken.outcome in ("failed", "unconfirmed") and host.state.journal().phase == "idle":
        return _failed(host, manifest, taken, systems, tried, log)  # what was switched to wasn't to blame
    _report(host, manifest, taken, systems, log)
    notify(host, runs, taken)
    tidy_up(host)
    return taken


def _settled(host: Host, manifest: Manifest, runs: str, found: _Found, tried: Tried, log: Log) -> Taken | None:
    """What runs is what the inputs give. Quiet, but where that ends a failure that was reported."""
    taken = None
    if found.step == "say it is over":
        good: Outcome = "succeeded" if runs == manifest.system else "auto-updated"
        taken = Taken(good, rules.OVER)
        _report(host, manifest, taken, (runs, runs), log)
    if found.lock != found.held:
        host.state.keep_lock(runs, found.lock)
    host.state.write_tried(Tried(tried.at, tried.serial))
    return taken


def _failed(
    host: Host, manifest: Manifest, taken: Taken, systems: tuple[str, str | None], tried: Tried, log: Log
) -> Taken:
    """Report it, and try again when it is time, whatever the inputs have then."""
    _report(host, manifest, taken, systems, log)
    host.state.write_tried(Tried(tried.at, tried.serial, tried.switched, failed=True))
    tidy_up(host)
    return taken


def _about(manifest: Manifest, reason: str) -> str:
    return rules.about(manifest.settings.self_update, reason)


def _report(host: Host, manifest: Manifest, taken: Taken, systems: tuple[str, str | None], log: Log) -> None:
    make_report(host, taken.outcome, taken.reason, manifest=manifest, systems=systems, log=log.text)
