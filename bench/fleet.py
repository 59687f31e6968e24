"""What a deploy of many hosts costs, builds left out, beside what can't be left out. See docs/performance.md."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from measure import Result, Sample, medians, paired_ratio, peak, take_turns
from worlds import new_key

HERE = Path(__file__).parent
FILES = 10  # of each host
MEMORY = 200.0  # MB
FIRST, UNCHANGED = 2.0, 3.0


class DeployWorld:
    """A fleet of channel hosts with files of their own, and where it is published to."""

    def __init__(self, folder: Path, hosts: int) -> None:
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
        for number in range(hosts):
            name = f"host-{number}"
            source = self.fleet / "hosts" / name
            source.mkdir(parents=True)
            (source / "configuration.nix").write_text("{}\n")
            for file in range(FILES - 1):
                (source / f"module-{file}.nix").write_text(f"# {name} {file}\n" * 20)
            settings.append(f'[hosts.{name}]\nkeys = ["{new_key()[1]}"]\n')
        (self.fleet / "bento.toml").write_text("".join(settings))

    def bento(self) -> Sample:
        """Bento's deploy of all hosts."""
        return self._timed("stubbed.py", self.fleet)

    def plain(self, work: str, *paths: Path) -> Sample:
        """The same by a bare program."""
        return self._timed("plain.py", work, *paths)

    def _timed(self, program: str, *arguments: str | Path) -> Sample:
        os.sync()
        process = subprocess.Popen(
            [sys.executable, HERE / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "XDG_STATE_HOME": str(self.folder / "state")},
        )
        with process:
            said = process.stdout.read() if process.stdout is not None else b""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{program} {arguments[0]} ended with {process.returncode}")
        return Sample(float(said), usage.ru_maxrss / 1024)

    def forget(self) -> None:
        """As if nothing had been published."""
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        shutil.rmtree(self.published)
        self.published.mkdir()


def first(folder: Path, hosts: int, rounds: int) -> Result:
    """Publish all hosts for the first time."""
    world = DeployWorld(folder, hosts)
    world.bento()
    sample, at = folder / "sample", folder / "at"
    shutil.copytree(world.published, sample)

    def bento() -> Sample:
        world.forget()
        return world.bento()

    def plain() -> Sample:
        shutil.rmtree(at, ignore_errors=True)
        return world.plain("copy", sample, at)

    samples = take_turns(rounds, {"bento": bento, "bare": plain})
    return Result(
        "first", f"publish {hosts} hosts with {FILES} files each for the first time, builds stubbed",
        "writing and fsyncing what is published", paired_ratio(samples["bento"], samples["bare"]), medians(samples),
        peak(samples["bento"]), most=FIRST, memory_below=MEMORY,
    )  # fmt: skip


def unchanged(folder: Path, hosts: int, rounds: int) -> Result:
    """Deploy when nothing has changed."""
    world = DeployWorld(folder, hosts)
    world.bento()
    samples = take_turns(
        rounds,
        {"bento": world.bento, "bare": lambda: world.plain("walk", world.fleet / "hosts")},
    )
    return Result(
        "unchanged", f"deploy {hosts} hosts with {FILES} files each, nothing changed", "looking at every file",
        paired_ratio(samples["bento"], samples["bare"]), medians(samples), peak(samples["bento"]),
        most=UNCHANGED, memory_below=MEMORY,
    )  # fmt: skip
