"""What the demo checks in the end: each from what is there, not from what was meant to happen."""

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bento.demo import leaks
from bento.demo.machine import HOME, Machine
from bento.demo.screen import Screen
from bento.demo.stage import HOSTS, PUBLISH, Stage
from bento.demo.systems import BOOT_DEFAULT
from bento_secrets.ramdisk import read_has_swap, unsafe_reason

RUNTIME = "/run/bento"
VERIFY = (
    f"head -n1 manifest | ssh-keygen -Y verify -n bento-release -I admin -f {HOME}/allowed_signers"
    " -s <(tail -n +2 manifest | awk -v n=1 '/BEGIN SSH/{i++} i==n')"
)
_VERIFY_CHANGED = VERIFY.replace("head -n1 manifest |", 'head -n1 manifest | sed \'s/"serial":/"serial":1/\' |')

Snapshot = dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Check:
    """One fact: `what` it promises, what was seen, and what had to be seen. Plaintext is never in either."""

    what: str
    seen: object
    wanted: object

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.seen == self.wanted


def report(checks: Sequence[Check], screen: Screen) -> int:
    """Show the table of what was checked. Returns the exit code: 0 only if all holds, and anything was checked."""
    failed = [check for check in checks if not check.ok]
    for check in checks:
        screen.line(f"{'ok    ' if check.ok else 'FAILED'}  {check.what}", bad=not check.ok)
        if not check.ok:
            screen.line(f"        seen: {check.seen}; wanted: {check.wanted}")
    screen.line(f"{len(checks) - len(failed)} of {len(checks)} checks ok")
    return 1 if failed or not checks else 0


def secret(machine: Machine, name: str, content: bytes, mode: str) -> Check:
    """A secret as a service on the host would read it."""
    path = machine.path(f"{RUNTIME}/secrets/{name}")
    try:
        status = path.stat()
        said = "its content" if path.read_bytes() == content else "other content"
        seen: object = (said, f"{stat.S_IMODE(status.st_mode):04o}", status.st_uid, status.st_gid)
    except OSError as error:
        seen = error.strerror
    what = f"{machine.name}: the secret {name} is at {RUNTIME}/secrets/{name}, owned by root, {mode}"
    return Check(what, seen, ("its content", mode, 0, 0))


def in_ram(machine: Machine) -> Check:
    """That plaintext can't reach a disk from where it lies: by mountinfo."""
    mounts = machine.mounts()
    kind = next((mount.kind for mount in reversed(mounts) if mount.path == RUNTIME), "no mount")
    try:
        device = machine.path(RUNTIME).stat().st_dev
        seen = unsafe_reason(RUNTIME, (os.major(device), os.minor(device)), mounts, swap=read_has_swap())
    except OSError as error:
        seen = error.strerror
    return Check(f"{machine.name}: {RUNTIME} is RAM that is never swapped, a mount of its own ({kind})", seen, None)


def system(stage: Stage, host: str) -> Check:
    """That what was published is what runs, what the profile names and what would boot.

    A channel host's manifest names no system: there it is the one that the admin built.
    """
    machine = stage.hosts[host]
    profile = machine.run(["readlink", "-e", "/nix/var/nix/profiles/system"]).out.decode().strip()
    try:
        boot = machine.path(BOOT_DEFAULT).read_text("utf-8").strip()
    except OSError:
        boot = None
    seen = {"running": machine.link("/run/current-system"), "profile": profile, "boot default": boot}
    manifest = (stage.publish / host / "release/manifest").read_bytes().split(b"\n")[0]
    published = json.loads(manifest)["system"]
    wanted = published or stage.ask("build")["systems"][host]
    which = "published system" if published else "system that the admin built"
    what = f"{host}: the running system, the profile and the boot default are the {which}"
    return Check(what, seen, dict.fromkeys(seen, wanted))


def up_to_date(stage: Stage) -> list[Check]:
    """What the admin sees of each host."""
    rows = {row["host"]: row for row in stage.ask("status")}
    return [
        Check(
            f"admin: bento status says up to date for {host}, with all its secrets",
            (rows[host]["state"], rows[host]["secrets"]["installed"], rows[host]["secrets"]["expected"]),
            ("up to date", count, count),
        )
        for host, count in (("alpha", 2), ("beta", 1))
    ]


def no_plaintext(stage: Stage, plaintexts: Sequence[bytes]) -> list[Check]:
    """That no plaintext is on a disk, by a search that first has to find what is put there for it."""
    places = [stage.publish, stage.fleet, stage.admin.home / ".local/state/bento"]
    places += [machine.folder / "nix/store" for machine in (stage.admin, *stage.hosts.values())]
    places += [machine.home / "state" for machine in stage.hosts.values()]
    with leaks.planted(plaintexts[0], places) as planted:
        found = leaks.traces(plaintexts, places)
    everywhere = leaks.traces(plaintexts, [stage.folder], stage.screen.shown)
    return [
        Check(f"a search finds a plaintext that is put into each of {len(places)} folders", found, planted),
        Check(
            "the same search finds none in any Nix store, fleet, publish or state folder, report, log or answer",
            everywhere,
            [],
        ),
    ]


def by_hand(stage: Stage) -> list[Check]:
    """That a release can be verified with nothing but OpenSSH, and a changed one can't."""
    checks = []
    for host in HOSTS:
        good, bad = (
            stage.admin.run(["bash", "-c", line], cwd=PUBLISH / host / "release").code
            for line in (VERIFY, _VERIFY_CHANGED)
        )
        what = f"{host}: ssh-keygen verifies the published manifest, and refuses it with one digit added"
        checks.append(Check(what, (good, bad), (0, 255)))
    return checks


def snapshot(*folders: Path) -> Snapshot:
    """Everything below: inode, size and time of change of each. A write of any kind shows."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            status = path.lstat()
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found
