"""The vectors: what is accepted, what is refused, what opens. Private halves are made here, from their seeds."""

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest

from bento_secrets import armor
from bento_secrets.admin_identities import load_admin_identities
from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.identities import Identity, age_identity_of_seed, load_ssh_identity
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, open_sealed, seal
from bento_secrets.ssh_keys import SshPublicKey
from oracles import seeds
from oracles.vectors import ACCEPTED, ED25519, FOLDER, OPENABLE, REFUSED_KEYS, REFUSED_RECIPIENTS, SEALED, Sealed


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("vectors")
    files = {}
    for one in ACCEPTED:
        files[one["seed"]] = folder / one["seed"].replace(" ", "-")
        files[one["seed"]].write_bytes(seeds.private_file(seeds.key_of(one["seed"])))
    return files


@pytest.mark.parametrize("one", ACCEPTED, ids=lambda one: one["seed"])
def test_each_key_gives_its_strings(one: dict[str, str], key_files: dict[str, Path]) -> None:
    assert seeds.public_line(seeds.key_of(one["seed"])) == one["ssh"]
    assert Recipient.of_host_key(SshPublicKey.parse(one["ssh"])).text == one["recipient"]
    assert Recipient.parse(one["recipient"]).text == one["recipient"]
    assert load_ssh_identity(key_files[one["seed"]]).recipient.text == one["recipient"]


@pytest.mark.parametrize("one", ED25519, ids=lambda one: one["seed"])
def test_each_ed25519_seed_gives_its_identity(one: dict[str, str]) -> None:
    identity = age_identity_of_seed(hashlib.sha256(one["seed"].encode()).digest())
    assert hashlib.sha256(identity.encode()).hexdigest() == one["identity_sha256"]
    assert Identity.from_age(identity).recipient.text == one["recipient"]


@pytest.mark.parametrize("one", REFUSED_KEYS, ids=lambda one: one["why"])
def test_each_unsound_key_is_refused(one: dict[str, str]) -> None:
    with pytest.raises(InputError):
        Recipient.of_host_key(SshPublicKey.parse(one["ssh"]))


@pytest.mark.parametrize("one", REFUSED_RECIPIENTS, ids=lambda one: one["why"])
def test_each_unsound_recipient_is_refused(one: dict[str, str]) -> None:
    with pytest.raises(InputError):
        Recipient.parse(one["recipient"])


def test_no_class_of_unsound_keys_is_missing() -> None:
    counted = Counter(one["why"] for one in REFUSED_KEYS)
    assert counted["low order"] == 8
    assert counted["not canonical"] == 19
    assert counted["mixed order"] == 7
    assert counted["off the curve"] > 5
    assert {"ECDSA", "DSA", "FIDO token", "RSA below 2048 bits", "RSA above 4096 bits"} <= counted.keys()


@pytest.mark.parametrize("one", OPENABLE, ids=lambda one: one.name)
def test_each_sealed_file_opens_with_its_keys_and_no_other(one: Sealed, key_files: dict[str, Path]) -> None:
    for seed, file in key_files.items():
        if seed in one.to:
            assert open_sealed(one.binary, [load_ssh_identity(file)]).data == one.plaintext
        else:
            with pytest.raises(OpenFailed):
                open_sealed(one.binary, [load_ssh_identity(file)])


@pytest.mark.parametrize("one", [one for one in SEALED if one.refused], ids=lambda one: one.name)
def test_each_refused_file_is_refused(one: Sealed, key_files: dict[str, Path]) -> None:
    with pytest.raises(OpenFailed):
        open_sealed(one.binary, [load_ssh_identity(file) for file in key_files.values()])


def test_ages_own_stanza_opens_for_an_admin(key_files: dict[str, Path]) -> None:
    (native,) = [one for one in SEALED if one.name == "native-by-age"]
    found = load_admin_identities([key_files["bento vector 1"]], input)
    assert open_sealed(native.binary, found).data == b"vector native-by-age\n"


def test_no_private_half_is_among_the_vectors() -> None:
    private = re.compile(rb"AGE-SECRET-KEY-1[02-9A-Z]|PRIVATE KEY-----|AGE-PLUGIN-", re.IGNORECASE)
    assert private.search(age_identity_of_seed(bytes(32)).encode())  # what is searched for would be found
    assert private.search(seeds.private_file(seeds.ed25519_key("control")))
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert len(files) > len(SEALED)
    for file in files:
        assert not private.search(file.read_bytes()), file


@pytest.mark.parametrize("size", [0, 1, 47, 48, 49, 1000])
def test_armour_goes_both_ways(size: int) -> None:
    data = bytes(range(256)) * 4
    assert armor.dearmor(armor.arm(data[:size] or b"x")) == (data[:size] or b"x")


def test_armour_that_age_would_refuse_is_refused() -> None:
    text = armor.arm(seal(Plaintext(b"x" * 60), [Recipient.parse(ACCEPTED[0]["recipient"])]))
    assert armor.dearmor(b"\n " + text.replace(b"\n", b"\r\n") + b"\n") == armor.dearmor(text)
    lines = text.strip().split(b"\n")
    for damaged in (
        lines[:-1],
        [lines[0], lines[-1]],
        [*lines[:2], b"", *lines[2:]],
        [lines[0], lines[1][:-1], *lines[2:]],
        [*lines[:-2], lines[-2] + b"=", lines[-1]],
        [lines[0], b"!" + lines[1][1:], *lines[2:]],
        [*lines, b"more"],
    ):
        with pytest.raises(ValueError, match=r"its|not"):
            armor.dearmor(b"\n".join(damaged))
