"""What a deploy of many hosts costs, builds left out, beside what can't be left out. See docs/performance.md."""

import base64
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from measure import Result, Sample, medians, paired_ratio, peak, take_turns
from worlds import new_key

from bento.models.manifest import parse_manifest
from bento.models.report import Report
from bento.models.signed import ARMOUR_BEGIN, ARMOUR_END, split
from bento.models.trust import NAMESPACE_REPORT
from bento.names import Serial

HERE = Path(__file__).parent
FILES = 10  # of each host
MEMORY, MEMORY_LARGE, LARGE = 200.0, 1000.0, 10_000  # MB, for fewer hosts than so many and for more
FLAKE_FILES = 2000
REPORTS = 20  # of each host
_AS_INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # compiled
FIRST, UNCHANGED, CHANGED, DISK, STATUS = 2.0, 3.0, 1.25, 1.1, 3.0
HELD = 1000  # hosts from which on a ratio is held to its limit: of few, starting is the most, and it is only told


class DeployWorld:
    """A fleet of channel hosts with files of their own, or of one flake, and where it is published to."""

    accounts = True  # whether to deploy as if each host had an account on this machine

    def __init__(self, folder: Path, hosts: int, *, flake: bool = False) -> None:
        self.folder, self.fleet, self.published = folder, folder / "fleet", folder / "publish"
        self.published.mkdir()
        (self.fleet / "utils").mkdir(parents=True)
        (self.fleet / "secrets").mkdir()
        (self.fleet / "secrets/secrets.toml").touch()
        (self.fleet / "secrets/secrets.lock").write_text('{"format":1,"copies":{\n}}\n')
        private, line = new_key()
        key = folder / "sign"
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        key.chmod(0o600)
        key.with_suffix(".pub").write_text(f"{line}\n")
        (self.fleet / "utils/trust.toml").write_text(
            f'format = 1\nfleet = "acme"\nsigners = ["{line}"]\n'
            f'[[servers]]\naddress = "localhost"\nhost_keys = ["{line}"]\n'
        )
        settings = [f'[publish]\nto = "{self.published}"\n[signing]\nkeys = ["{key}"]\n']
        if flake:
            settings.append('[defaults]\nsource = "hosts/shared"\n')
            self._source("shared", FLAKE_FILES, "flake.nix", "flake.lock")
        self.keys: dict[str, Ed25519PrivateKey] = {}
        for number in range(hosts):
            name = f"host-{number}"
            if not flake:
                self._source(name, FILES, "configuration.nix")
            self.keys[name], line = new_key()
            settings.append(f'[hosts.{name}]\nkeys = ["{line}"]\n')
        (self.fleet / "bento.toml").write_text("".join(settings))

    def _source(self, name: str, files: int, *first: str) -> None:
        source = self.fleet / "hosts" / name
        source.mkdir(parents=True)
        for file in first:
            (source / file).write_text("{}\n")
        for number in range(files - len(first)):
            (source / f"module-{number}.nix").write_text(f"# {name} {number}\n" * 20)

    def edit(self) -> None:
        """Change one file of one host."""
        with (self.fleet / "hosts/host-0/configuration.nix").open("a") as file:
            file.write("#\n")

    def settle(self) -> None:
        """Publish, then read what is published once."""
        self.bento()
        self.bento()

    def report(self) -> None:
        """Have every host say that it installed what is published, after so many releases before."""
        for name, key in self.keys.items():
            document = split((self.published / name / "release/manifest").read_bytes(), "it")
            manifest = parse_manifest(document.line)
            for counter in range(1, REPORTS + 1):
                said = Report(
                    fleet="acme", host=manifest.host, counter=counter, time=manifest.created + counter,
                    serial=Serial(manifest.serial - REPORTS + counter), digest=document.line_digest,
                    outcome="succeeded", reason="installed", old_system=None, new_system=None, running=None,
                    secrets=(), log_tail="",
                )  # fmt: skip
                path = self.published / name / "reports" / f"{counter:020}.report"
                path.write_bytes(said.line + armour(said.line, key, NAMESPACE_REPORT))

    def objects_size(self) -> int:
        """Bytes that the objects take on the disk, each counted once."""
        found = {one.stat().st_ino: one.stat() for one in self.published.glob("*/release/objects/*")}
        return sum(one.st_blocks * 512 for one in found.values())

    def bento(self, work: str = "deploy") -> Sample:
        """Bento's deploy of all hosts, or another work on them."""
        return self._timed("stubbed.py", self.fleet, work)

    def plain(self, work: str, *paths: Path) -> Sample:
        """The same by a bare program."""
        return self._timed("plain.py", work, *paths)

    def _timed(self, program: str, *arguments: str | Path) -> Sample:
        os.sync()
        process = subprocess.Popen(
            [sys.executable, HERE / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**_AS_INSTALLED, "XDG_STATE_HOME": str(self.folder / "state"), "ACCOUNTS": "yes" * self.accounts},
        )
        with process:
            said = process.stdout.read() if process.stdout is not None else b""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{program} {arguments[0]} ended with {process.returncode}")
        return Sample(float(said), usage.ru_maxrss / 1024)

    def forget(self) -> None:
        """As if nothing had been published.

        Nothing is deleted: for minutes after, ext4 passes by each deleted inode when it makes a file.
        """
        aside = self.folder / secrets.token_hex(8)
        aside.mkdir()
        for path in (self.folder / "state", self.published):
            if path.exists():
                path.rename(aside / path.name)
        self.published.mkdir()


def armour(line: bytes, key: Ed25519PrivateKey, namespace: str) -> bytes:
    """A signature as ssh-keygen writes it (PROTOCOL.sshsig), without a process for each."""
    blob = _strings(b"ssh-ed25519", key.public_key().public_bytes_raw())
    about = _strings(namespace.encode(), b"", b"sha512")
    signature = key.sign(b"SSHSIG" + about + _strings(hashlib.sha512(line).digest()))
    data = b"SSHSIG\0\0\0\1" + _strings(blob) + about + _strings(_strings(b"ssh-ed25519", signature))
    return ARMOUR_BEGIN + base64.encodebytes(data) + ARMOUR_END


def _strings(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _most(ratio: float, hosts: int) -> float | None:
    return ratio if hosts >= HELD else None


def _memory(hosts: int) -> float:
    return MEMORY if hosts < LARGE else MEMORY_LARGE


def first(folder: Path, hosts: int, rounds: int) -> Result:
    """Publish all hosts for the first time."""
    world = DeployWorld(folder, hosts)
    world.bento()
    sample = folder / "sample"
    shutil.copytree(world.published, sample)

    def bento() -> Sample:
        world.forget()
        return world.bento()

    def plain() -> Sample:
        return world.plain("copy", sample, folder / secrets.token_hex(8))

    samples = take_turns(rounds, {"bento": bento, "bare": plain})
    return Result(
        "first", f"publish {hosts} hosts with {FILES} files each for the first time, builds stubbed",
        "writing and fsyncing what is published", paired_ratio(samples["bento"], samples["bare"]), medians(samples),
        peak(samples["bento"]), most=_most(FIRST, hosts), memory_below=_memory(hosts),
    )  # fmt: skip


def shared(folder: Path, hosts: int, _rounds: int) -> Result:
    """The room that the objects of all hosts of one flake take, beside those of one host. The time is only told."""
    sizes, samples = [], []
    for number in (1, hosts):
        (folder / str(number)).mkdir()
        world = DeployWorld(folder / str(number), number, flake=True)
        samples.append(world.bento())
        sizes.append(world.objects_size())
    return Result(
        "shared", f"room for the objects of {hosts} hosts of one flake with {FLAKE_FILES} files", "that of one host",
        sizes[1] / sizes[0], {"one": samples[0].seconds, "all": samples[1].seconds}, peak(samples), most=DISK,
        memory_below=_memory(hosts),
    )  # fmt: skip


def unchanged(folder: Path, hosts: int, rounds: int) -> Result:
    """Deploy when nothing has changed."""
    world = DeployWorld(folder, hosts)
    world.settle()
    samples = take_turns(
        rounds,
        {
            "bento": world.bento,
            "bare": lambda: world.plain("walk", world.fleet / "hosts", world.published),
            "sources": lambda: world.plain("walk", world.fleet / "hosts"),  # only told
        },
    )
    return Result(
        "unchanged", f"deploy {hosts} hosts with {FILES} files each, nothing changed",
        "looking at every file of theirs, here and where it is published",
        paired_ratio(samples["bento"], samples["bare"]), medians(samples), peak(samples["bento"]),
        most=_most(UNCHANGED, hosts), memory_below=_memory(hosts),
    )  # fmt: skip


def changed(folder: Path, hosts: int, rounds: int) -> Result:
    """Deploy when one host has changed."""
    (folder / "alone").mkdir()
    (folder / "all").mkdir()
    world, alone = DeployWorld(folder / "all", hosts), DeployWorld(folder / "alone", 1)
    for one in (world, alone):
        one.settle()

    def edited(one: DeployWorld) -> Sample:
        one.edit()
        return one.bento()

    samples = take_turns(rounds, {"one": lambda: edited(world), "none": world.bento, "alone": lambda: edited(alone)})
    both = zip(samples["none"], samples["alone"], strict=True)
    beside = [Sample(none.seconds + one.seconds) for none, one in both]
    return Result(
        "changed", f"deploy {hosts} hosts with {FILES} files each, one changed",
        "the same with nothing changed, and a changed host by itself",
        paired_ratio(samples["one"], beside), medians(samples), peak(samples["one"]),
        most=_most(CHANGED, hosts), memory_below=_memory(hosts),
    )  # fmt: skip


def status(folder: Path, hosts: int, rounds: int) -> Result:
    """See how all hosts are."""
    world = DeployWorld(folder, hosts)
    world.bento()
    world.report()
    samples = take_turns(
        rounds,
        {
            "bento": lambda: world.bento("status"),
            "bare": lambda: world.plain("report", world.published),
            "least": lambda: world.plain("words", world.published, world.fleet / "bento.toml"),  # only told
        },
    )
    return Result(
        "status", f"status of {hosts} hosts with {REPORTS} reports each", "reading one report of each",
        paired_ratio(samples["bento"], samples["bare"]), medians(samples), peak(samples["bento"]),
        most=_most(STATUS, hosts), memory_below=_memory(hosts),
    )  # fmt: skip
