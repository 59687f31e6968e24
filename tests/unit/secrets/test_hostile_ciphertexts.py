"""What a hostile sealed file may cost a host: a ratio to the cost of a good one, in CPU time of this process."""

import base64
import os
import time
from collections.abc import Callable
from unittest.mock import patch

import pytest

from bento_secrets import sealing
from bento_secrets.errors import OpenFailed
from bento_secrets.identities import Identity
from bento_secrets.limits import LIMITS
from bento_secrets.sealing import Plaintext, open_sealed, seal

ALICE = Identity.from_age("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
HEADER = b"age-encryption.org/v1\n"
GOOD = seal(Plaintext(b"x" * 1024), [ALICE.recipient])
TURNS, GOOD_ONES = 30, 30


def word(size: int) -> bytes:
    return base64.b64encode(os.urandom(size)).rstrip(b"=")


def x25519(number: int) -> bytes:
    """Stanzas that look like a recipient's, each worth a key agreement for whoever tries it."""
    return b"".join(b"-> X25519 " + word(32) + b"\n" + word(32) + b"\n" for _ in range(number))


def file_of(stanzas: bytes) -> bytes:
    return HEADER + stanzas + b"--- " + word(32) + b"\n" + os.urandom(64)


def mixed(recipients: int, lines: int, others: int, header: int) -> bytes:
    """A file of so many recipients, and of other stanzas with bodies of so many lines, as far as they fit."""
    first = x25519(recipients)
    room = header - len(first) - len(HEADER) - 60
    other = b"-> X a\n" + (b"A" * 64 + b"\n") * min(lines, (room - 10) // 65) + b"\n"
    return file_of(first + other * min(others, room // len(other)))


def good() -> None:
    open_sealed(GOOD, [ALICE])


def cost(file: bytes, times: int) -> float:
    """What it costs to refuse a file, in openings of a good one.

    By turns, milliseconds each: what others do on this machine slows both down alike.
    """

    def seconds(work: Callable[[], object], many: int) -> float:
        began = time.thread_time()
        for _ in range(many):
            work()
        return (time.thread_time() - began) / many

    turns = [(seconds(lambda: refused(file), times), seconds(good, GOOD_ONES)) for _ in range(TURNS)]
    return sum(bad for bad, _ in turns) / sum(fine for _, fine in turns)


def refused(file: bytes) -> None:
    with pytest.raises(OpenFailed):
        open_sealed(file, [ALICE])


def reaches_the_library(file: bytes) -> bool:
    """Whether no cap keeps the file from the age library."""
    with patch.object(sealing.age, "decrypt", side_effect=ValueError("no")) as library:
        refused(file)
    return bool(library.called)


OVER = {
    "4,000 recipients": file_of(x25519(4000)),
    "4,000 tiny stanzas": file_of(b"-> X a\n\n" * 4000),
    "one recipient too many": file_of(x25519(LIMITS.MAX_STANZAS + 1)),
    "many recipients and a long body": mixed(LIMITS.MAX_STANZAS - 1, 1000, 1, LIMITS.MAX_HEADER),
    "many recipients and others": mixed(24, 11, 9, LIMITS.MAX_HEADER),
    "scrypt": file_of(b"-> scrypt " + word(16) + b" 22\n" + word(32) + b"\n"),
    "garbage of a megabyte": HEADER + b"\x00" * 2**20,
    "a first line that never ends": b"a" * 2**20,
}
UNDER = {
    "as many recipients as are allowed": file_of(x25519(LIMITS.MAX_STANZAS)),
    "long stanzas up to the cap": file_of((b"-> X " + b"a" * 480 + b"\n" + b"A" * 60 + b"\n") * LIMITS.FEW_STANZAS),
    "one stanza with a long body": file_of(b"-> X a\n" + (b"A" * 64 + b"\n") * 155 + b"\n"),
    "stanzas with bodies of eight lines": mixed(0, 8, LIMITS.FEW_STANZAS, LIMITS.MAX_HEADER),
    # each kind costs, and both together the most
    "few recipients and a long body": mixed(LIMITS.FEW_STANZAS - 1, 1000, 1, LIMITS.MAX_HEADER),
    "few recipients and others": mixed(LIMITS.FEW_STANZAS // 2, 8, LIMITS.FEW_STANZAS // 2, LIMITS.MAX_HEADER),
    "many recipients and a body": mixed(LIMITS.MAX_STANZAS - 1, 1000, 1, LIMITS.MAX_CROWDED_HEADER),
    "many recipients and others within the cap": mixed(LIMITS.MAX_STANZAS - 5, 11, 5, LIMITS.MAX_CROWDED_HEADER),
    "garbage within the cap": HEADER + os.urandom(LIMITS.MAX_HEADER - 200) + b"\n---\n",
}


@pytest.mark.parametrize("file", OVER.values(), ids=OVER)
def test_over_the_cap_it_costs_less_than_two_good_ones(file: bytes) -> None:
    assert not reaches_the_library(file)
    assert cost(file, GOOD_ONES) < 2


@pytest.mark.parametrize("file", UNDER.values(), ids=UNDER)
def test_under_the_cap_it_costs_at_most_forty_good_ones(file: bytes) -> None:
    assert len(file) <= LIMITS.MAX_HEADER + 200
    assert reaches_the_library(file)
    assert cost(file, 1) <= 40
