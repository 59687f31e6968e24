"""`bento secret add|rekey|check` and `bento-agent install-secrets`, each beside a bare program, all as processes."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from measure import Result, Sample, loop, medians, paired_ratio, peak, run, take_turns
from worlds import SIZE, FleetWorld, HostWorld

from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey

PYTHON = Path(sys.executable)
BENTO, AGENT = PYTHON.with_name("bento"), PYTHON.with_name("bento-agent")
BARE = [PYTHON, Path(__file__).with_name("bare.py")]
WRITING, CHECKING = 2.0, 5.0


def add(folder: Path, hosts: int, rounds: int) -> Result:
    """Seal one secret for all hosts of a tag."""
    world = FleetWorld(folder, hosts)
    plaintext = folder / "plaintext"
    plaintext.write_bytes(os.urandom(SIZE))
    at = folder / "at"

    def bento() -> Sample:
        _copy(world.fleet, at)
        return run([BENTO, "--dir", at, "secret", "add", "@all", plaintext, "--name", "token"], folder)

    def bare() -> Sample:
        _copy(None, at)
        return run([*BARE, "add", world.keys, plaintext, at], folder)

    def age() -> Sample:
        content = plaintext.read_bytes()
        recipients = [Recipient.of_host_key(SshPublicKey.parse(line)).text for line in world.lines]
        return loop([(["age", "-e", "-r", one], content) for one in recipients])[0]

    return _judged("add", f"add a secret for {hosts} hosts", rounds, bento, bare, age, WRITING)


def rekey(folder: Path, secrets: int, rounds: int) -> Result:
    """Seal a host's secrets to one more admin."""
    world = FleetWorld(folder, 1)
    run([BENTO, "--dir", world.fleet, "secret", "add", "host-0", world.files(secrets)], folder)
    world.new_admin()
    recipients = folder / "recipients"
    recipients.write_text("".join(f"{line}\n" for line in (*world.lines, *world.admins)))
    at = folder / "at"

    def bento() -> Sample:
        _copy(world.fleet, at)
        return run([BENTO, "--dir", at, "secret", "rekey", "--identity", world.identity], folder)

    def bare() -> Sample:
        _copy(world.fleet / "secrets", at)
        return run([*BARE, "rekey", recipients, world.identity, at], folder)

    def age() -> Sample:
        sealed = [path.read_bytes() for path in (world.fleet / "secrets").rglob("*.age")]
        host = Recipient.of_host_key(SshPublicKey.parse(world.lines[0])).text
        to = [word for one in (host, *world.admins) for word in ("-r", one)]
        opening, opened = loop([(["age", "-d", "-i", world.identity], one) for one in sealed])
        sealing, _ = loop([(["age", "-e", *to], one) for one in opened])
        return Sample(opening.seconds + sealing.seconds)

    return _judged("rekey", f"rekey {secrets} secrets of a host, for one more admin", rounds, bento, bare, age, WRITING)


def check(folder: Path, copies: int, rounds: int) -> Result:
    """Check a store; age has nothing like it."""
    side = round(copies**0.5)
    world = FleetWorld(folder, side)
    run([BENTO, "--dir", world.fleet, "secret", "add", "@all", world.files(side)], folder)
    return _judged(
        "check",
        f"check {side * side} copies: {side} secrets of {side} hosts",
        rounds,
        lambda: run([BENTO, "--dir", world.fleet, "secret", "check"], folder),
        lambda: run([*BARE, "check", world.fleet / "secrets"], folder),
        None,
        CHECKING,
    )


def install(folder: Path, secrets: int, rounds: int) -> Result:
    """Open a release's secrets to a new tmpfs, as at boot. Each run has a mount namespace of its own (root)."""
    world = HostWorld(folder, secrets)
    alone = ["unshare", "-m", "--propagation", "private"]
    script = 'mount -t tmpfs bare "$1" && exec "$2" "$3" install "$4" "$5" "$1/secrets"'
    bare = [*alone, "sh", "-c", script, "sh", world.runtime, *BARE, world.identity, world.objects]

    def age() -> Sample:
        sealed = [path.read_bytes() for path in world.objects.iterdir()]
        return loop([(["age", "-d", "-i", world.identity], one) for one in sealed])[0]

    return _judged(
        "install",
        f"install {secrets} secrets on tmpfs",
        rounds,
        lambda: run([*alone, AGENT, "--config", world.settings, "install-secrets"], folder),
        lambda: run(bare, folder),
        age,
        None,
    )


def _judged(
    name: str,
    work: str,
    rounds: int,
    bento: Callable[[], Sample],
    bare: Callable[[], Sample],
    age: Callable[[], Sample] | None,
    most: float | None,
) -> Result:
    samples = take_turns(rounds, {"bento": bento, "bare": bare})
    seconds = medians(samples)
    if age is not None:  # once: it takes longest, and nothing is decided by it
        seconds["age"] = age().seconds
    return Result(
        name, work, "a bare program", paired_ratio(samples["bento"], samples["bare"]), seconds, peak(samples["bento"]),
        most=most, age_ratio=seconds["age"] / seconds["bento"] if age is not None else None,
    )  # fmt: skip


def _copy(what: Path | None, at: Path) -> None:
    shutil.rmtree(at, ignore_errors=True)
    if what is None:
        at.mkdir()
    else:
        shutil.copytree(what, at)
