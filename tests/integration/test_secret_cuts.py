"""`bento secret add` and `rekey`, cut by strace at a write, rename or fsync: old or new, healed, no plaintext on disk.

Here at some calls before and after the one that commits; at every one: `make cuts`. (Every step of the store itself, in
one process: tests/unit/secrets/test_store_cuts.py.)
"""

import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from bento_secrets.identities import Identity, age_identity_of_seed
from bento_secrets.sealing import open_sealed
from bento_secrets.store import SecretStore
from rig import hits
from rig.cuts import EVERY
from rig.desk import Desk, wrong
from rig.world import PROGRAMS, said

pytestmark = pytest.mark.programs("strace")

Command = Literal["add", "rekey"]
CALLS = {"write": "write", "rename": "rename,renameat,renameat2", "fsync": "fsync,fdatasync"}
FULL = "no space left on device"
Contents = dict[str, tuple[bytes, tuple[str, ...]]]  # what is in each copy, and who opens it


@dataclass(frozen=True)
class Fleet:
    """web and db on @dc1 with the secret `token`; an admin, and one who isn't in secrets.lock yet."""

    desk: Desk
    admin: Identity
    marker: bytes
    given: Path  # a folder with two secrets to add, on a tmpfs

    def argv(self, command: Command) -> list[str]:
        words = {
            "add": ["add", "@dc1", str(self.given)],
            "rekey": ["rekey", "--identity", str(self.desk.folder / "keys/admin.txt")],
        }[command]
        return [str(PROGRAMS / "bento"), "secret", *words]

    def run(self, argv: Iterable[str]) -> subprocess.CompletedProcess[bytes]:
        env = {**self.desk.env, "TMPDIR": str(self.desk.folder / "tmp")}
        return subprocess.run(
            list(argv), env=env, cwd=self.desk.fleet, input=b"", capture_output=True, timeout=200, check=False
        )

    def contents(self) -> Contents:
        """What a reader of the store sees."""
        store = SecretStore(self.desk.fleet / "secrets")
        return {
            f"{host}/{name}": (open_sealed(store.ciphertext(host, name), [self.admin]).data, copy.recipients)
            for (host, name), copy in store.read().lock.items()
        }

    @property
    def places(self) -> list[Path]:
        """All that a command may write to: the fleet, HOME, TMPDIR, the state, and what lies around them."""
        return [self.desk.folder / name for name in ("fleet", "home", "tmp", "state", "publish", "keys", ".")]

    def leaks(self) -> list[Path]:
        return hits(self.marker, self.desk.folder)


@pytest.fixture
def fleet(desk: Desk) -> Iterator[Fleet]:
    texts = [age_identity_of_seed(secrets.token_bytes(32)) for _ in range(2)]
    admin, second = (Identity.from_age(text) for text in texts)
    (desk.folder / "tmp").mkdir()
    identity = desk.folder / "keys/admin.txt"
    identity.write_text(f"{texts[0]}\n")
    identity.chmod(0o600)
    wrong(desk.settings, "[hosts.db]\n", '[hosts.db]\ntags = ["dc1"]\n')
    wrong(desk.settings, "admins = []", f'admins = ["{admin.recipient.text}"]')
    marker = b"plain-" + secrets.token_hex(24).encode()
    given = Path("/dev/shm") / f"bento-test-{secrets.token_hex(8)}"
    done = desk.bento("secret", "remove", "web", "tls/site.key")  # its admin isn't this one
    assert done.returncode == 0, said(done)
    done = desk.bento("secret", "add", "@dc1", "-", "--name", "token", stdin=marker + b"-old")
    assert done.returncode == 0, said(done)
    wrong(desk.settings, f'"{admin.recipient.text}"', f'"{admin.recipient.text}", "{second.recipient.text}"')
    try:
        (given / "tls").mkdir(parents=True)
        for name in ("new", "tls/new.key"):
            (given / name).write_bytes(marker + b"-new")
        yield Fleet(desk, admin, marker, given)
    finally:
        shutil.rmtree(given)


class Cut:
    """A command that is run again and again on the same fleet, each time cut somewhere else."""

    def __init__(self, fleet: Fleet, command: Command) -> None:
        self.fleet, self.command, self.folder = fleet, command, fleet.desk.fleet
        self.saved, self.trace = fleet.desk.folder.parent / "saved", fleet.desk.folder.parent / "trace"
        shutil.copytree(self.folder, self.saved, symlinks=True)
        self.before = fleet.contents()
        done = self.traced()
        assert done.returncode == 0, said(done)
        self.after = fleet.contents()
        assert self.after != self.before
        text = self.trace.read_text()
        self.counts = {call: len(re.findall(rf"^\d+ +{call}\w*\(", text, re.MULTILINE)) for call in CALLS}
        renames = re.findall(r"^\d+ +rename\w*\(.*$", text, re.MULTILINE)
        # The rename, counted from 1, that makes the plan of the new state count.
        self.committed = 1 + next(number for number, line in enumerate(renames) if '"plan"' in line)

    def traced(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        names = ",".join([*CALLS.values(), "openat", "mkdirat"])
        strace = ["strace", "-f", "-qq", "-y", "-o", str(self.trace), "-e", f"trace={names}"]
        return self.fleet.run([*strace, *options, "--", *self.fleet.argv(self.command)])

    def at(self, call: str, number: int, fault: str) -> bool:
        """Whether what is there after the cut is the new state; and all else that must hold then."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.saved, self.folder, symlinks=True)
        # A disk stays full. But `write` also serves the message, and that goes elsewhere.
        when = f"{number}+" if call != "write" and fault.startswith("error") else number
        done = self.traced("-e", f"inject={CALLS[call]}:{fault}:when={when}")
        where = f"{self.command}, {fault} at {call} {number}: {said(done)}"
        if fault == "signal=KILL":
            assert done.returncode == -9, where
        else:
            assert done.returncode == 1, where
            assert FULL in done.stderr.decode().lower(), where
            assert "(INJECTED)" in self.trace.read_text(), where
        assert self.fleet.marker not in done.stdout + done.stderr, where
        assert self.fleet.leaks() == [], where
        seen = self.fleet.contents()
        assert seen in (self.before, self.after), where
        self.heals(where, already=seen == self.after)
        return seen == self.after

    def heals(self, where: str, *, already: bool) -> None:
        done = self.fleet.run(self.fleet.argv(self.command))
        # what was added can't be added again
        assert done.returncode == (2 if already and self.command == "add" else 0), f"{where}\n{said(done)}"
        assert self.fleet.contents() == self.after, where
        assert not (self.folder / "secrets/.staged").exists(), where
        files = {path.relative_to(self.folder / "secrets").as_posix() for path in self.folder.glob("secrets/**/*.age")}
        assert files == {f"{name}.age" for name in self.after}, where
        assert self.fleet.leaks() == [], where


def points(cut: Cut) -> list[tuple[str, int, str]]:
    """Where to cut: call, number, fault. Without BENTO_CUTS a few, most about the plan's rename."""
    if EVERY:
        calls = [(call, number) for call, last in cut.counts.items() for number in range(1, last + 1)]
        return [(*one, fault) for one in calls for fault in ("signal=KILL", "error=ENOSPC")]
    plan, last = cut.committed, cut.counts["rename"]
    return [
        ("write", 1, "error=ENOSPC"),
        ("write", 3, "signal=KILL"),
        ("fsync", 2, "error=ENOSPC"),
        ("rename", plan, "signal=KILL"),
        ("rename", plan, "error=ENOSPC"),
        ("rename", plan + 1, "signal=KILL"),
        ("rename", last, "error=ENOSPC"),
    ]


@pytest.mark.timeout(1200)  # with BENTO_CUTS
@pytest.mark.parametrize("command", ["add", "rekey"])
def test_a_cut_command_leaves_old_or_new_and_a_rerun_heals_and_no_plaintext_is_on_disk(
    fleet: Fleet, command: Command
) -> None:
    cut = Cut(fleet, command)
    seen: dict[str, list[bool]] = {}
    for call, number, fault in points(cut):
        new = cut.at(call, number, fault)
        if call == "rename":
            assert new == (number > cut.committed)
        seen.setdefault(f"{call} {fault}", []).append(new)
    assert all(states == sorted(states) for states in seen.values())  # once committed, always there
    assert {False, True} == {state for states in seen.values() for state in states}


@pytest.mark.parametrize("command", ["add", "rekey"])
def test_nothing_is_opened_for_writing_outside_the_places_that_are_searched(fleet: Fleet, command: Command) -> None:
    cut = Cut(fleet, command)
    lines = [line for line in cut.trace.read_text().splitlines() if re.search(r"O_WRONLY|O_RDWR|O_CREAT", line)]
    opened = [re.search(r"= \d+<([^>]+)>$", line) for line in lines]
    written = {found[1] for found in opened if found is not None} - {"/dev/null", "/dev/tty"}
    assert any(path.startswith(f"{cut.folder}/secrets/") for path in written)
    assert [path for path in written if not path.startswith(f"{fleet.desk.folder}/")] == []


def test_the_search_finds_plaintext_in_every_place_that_a_command_may_write_to(fleet: Fleet) -> None:
    assert fleet.leaks() == []
    for place in (*fleet.places, fleet.desk.fleet / "secrets", fleet.desk.fleet / "utils"):
        leak = place / ".leak"
        leak.write_bytes(b"x" + fleet.marker)
        assert [path.resolve() for path in fleet.leaks()] == [leak.resolve()]
        leak.unlink()
