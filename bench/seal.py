"""Seal 1 KiB for many hosts in memory, beside the `age` command in a loop."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from measure import Result, Sample, loop, medians, paired_ratio, take_turns
from worlds import SIZE, new_key

from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, seal
from bento_secrets.ssh_keys import SshPublicKey

LEAST = 20.0


def timed(work: Callable[[], object]) -> Sample:
    """Of work in this process."""
    started = time.perf_counter()
    work()
    return Sample(time.perf_counter() - started)


def measure(_folder: Path, hosts: int, rounds: int) -> Result:
    """Both sides have their recipients ready-made, and write nothing; age gets its plaintext by a pipe."""
    lines = [new_key()[1] for _ in range(hosts)]
    recipients = [Recipient.of_host_key(SshPublicKey.parse(line)) for line in lines]
    plaintext = os.urandom(SIZE)
    samples = take_turns(
        rounds,
        {
            "derive": lambda: timed(lambda: [Recipient.of_host_key(SshPublicKey.parse(line)) for line in lines]),
            "bento": lambda: timed(lambda: [seal(Plaintext(plaintext), [recipient]) for recipient in recipients]),
            "age": lambda: loop([(["age", "-e", "-r", one.text], plaintext) for one in recipients])[0],
        },
    )
    return Result(
        "seal", f"seal 1 KiB for {hosts} hosts, in memory", "the age command once a host",
        paired_ratio(samples["age"], samples["bento"]), medians(samples),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, least=LEAST,
    )  # fmt: skip
