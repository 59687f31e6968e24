"""Seal 1 KiB for many hosts in memory, beside the `age` command in a loop."""

import argparse
import base64
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, seal
from bento_secrets.ssh_keys import SshPublicKey

SIZE = 1024  # bytes
WANTED_RATIO = 20.0
WANTED_MEMORY = 150.0  # MB


def ssh_line() -> str:
    """A new host's public key."""
    point = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + point
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} host"


def derive(lines: Sequence[str]) -> list[Recipient]:
    """What a command does once, when it reads the fleet."""
    return [Recipient.of_host_key(SshPublicKey.parse(line)) for line in lines]


def by_bento(recipients: Sequence[Recipient], plaintext: bytes) -> int:
    """Bytes sealed."""
    secret = Plaintext(plaintext)
    return sum(len(seal(secret, [recipient])) for recipient in recipients)


def by_age(recipients: Sequence[str], plaintext: bytes) -> int:
    """Bytes sealed, one process a host."""
    sealed = 0
    for recipient in recipients:
        command = ["age", "-e", "-r", recipient]
        sealed += len(subprocess.run(command, input=plaintext, stdout=subprocess.PIPE, check=True).stdout)
    return sealed


def timed(work: Callable[[], int]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    if not work():
        raise RuntimeError("nothing was sealed")
    return time.perf_counter() - started


def main() -> int:
    """Exit status: 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    lines = [ssh_line() for _ in range(options.hosts)]
    recipients = derive(lines)
    texts = [recipient.text for recipient in recipients]
    plaintext = os.urandom(SIZE)
    bento, age, deriving = [], [], []
    for _ in range(options.rounds + 1):
        deriving.append(timed(lambda: len(derive(lines))))
        bento.append(timed(lambda: by_bento(recipients, plaintext)))
        age.append(timed(lambda: by_age(texts, plaintext)))
    rounds = {"derive": deriving, "bento": bento, "age": age}
    seconds = {name: statistics.median(times[1:]) for name, times in rounds.items()}
    result = {
        "bench": "seal",
        "hosts": options.hosts,
        "bytes": SIZE,
        "rounds": options.rounds,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "ratio": round(seconds["age"] / seconds["bento"], 1),
        "wanted_ratio": WANTED_RATIO,
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "wanted_memory_mb": WANTED_MEMORY,
    }
    result["reached"] = result["ratio"] >= WANTED_RATIO and result["memory_mb"] < WANTED_MEMORY
    for name, value in seconds.items():
        rate = options.hosts / value
        sys.stderr.write(f"{name:8}{value:9.3f} s for {options.hosts} hosts{rate:10.0f} a second\n")
    sys.stderr.write(f"{'ratio':8}{result['ratio']:9} (at least {WANTED_RATIO})\n")
    sys.stderr.write(f"{'memory':8}{result['memory_mb']:9} MB (below {WANTED_MEMORY})\n")
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if result["reached"] else 1


if __name__ == "__main__":
    sys.exit(main())
