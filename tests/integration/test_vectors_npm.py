"""npm's age-encryption (typage), an implementation in another language, as the second judge beside Debian's age."""

import base64
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from bento_secrets.identities import Identity, age_identity_of_seed
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, open_sealed, seal
from oracles import typage
from oracles.vectors import ED25519, OPENABLE, SEALED

pytestmark = pytest.mark.programs("node", "npm")
SIZES = [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 300_000]


def identity(seed: str) -> str:
    return age_identity_of_seed(hashlib.sha256(seed.encode()).digest())


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return typage.install(tmp_path_factory.mktemp("typage"))
    except subprocess.CalledProcessError as error:
        pytest.fail(f"npm could not install age-encryption: {error.stderr.decode()[-500:]}")


def test_it_derives_the_same_recipients(script: Path) -> None:
    tasks = [{"do": "recipient", "identity": identity(one["seed"])} for one in ED25519]
    assert typage.run(script, tasks) == [one["recipient"] for one in ED25519]


def test_it_reads_the_armour_of_each_sealed_vector(script: Path) -> None:
    read = typage.run(script, [{"do": "dearmor", "text": one.text} for one in SEALED])
    assert [base64.b64decode(one) for one in read] == [one.binary for one in SEALED]


def test_it_opens_each_sealed_vector_with_its_keys_and_no_other(script: Path) -> None:
    pairs = [(one, key["seed"]) for one in OPENABLE for key in ED25519]
    tasks = [{"do": "open", "identity": identity(seed), "file": text(one.binary)} for one, seed in pairs]
    opened = 0
    for (one, seed), result in zip(pairs, typage.run(script, tasks), strict=True):
        if seed in one.to:
            assert base64.b64decode(result) == one.plaintext, one.name
            opened += 1
        else:
            assert "error" in result, one.name
    assert opened >= 5


def test_each_opens_what_the_other_sealed(script: Path) -> None:
    own = Identity.from_age(identity("bento vector 3"))
    others = [Recipient.parse(one["recipient"]) for one in ED25519]
    plaintexts = [os.urandom(size) for size in SIZES]
    ours = [
        {
            "do": "open",
            "identity": identity("bento vector 3"),
            "file": text(seal(Plaintext(plaintext), [own.recipient, *others])),
        }
        for plaintext in plaintexts
    ]
    theirs = [
        {
            "do": "seal",
            "recipients": [own.recipient.text, others[0].text],
            "plaintext": text(plaintext),
        }
        for plaintext in plaintexts
    ]
    assert [base64.b64decode(one) for one in typage.run(script, ours)] == plaintexts
    for plaintext, sealed in zip(plaintexts, typage.run(script, theirs), strict=True):
        assert open_sealed(base64.b64decode(sealed), [own]).data == plaintext
