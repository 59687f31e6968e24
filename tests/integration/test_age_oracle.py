"""Debian's `age` command as the independent judge: it opens what Bento seals, and Bento opens what it seals."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from bento_secrets.admin_identities import load_admin_identities
from bento_secrets.identities import Identity, age_identity_of_seed, load_ssh_identity
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, open_sealed, seal
from bento_secrets.ssh_keys import SshPublicKey
from oracles import seeds
from oracles.vectors import ACCEPTED, ED25519, OPENABLE, SEALED, Sealed

pytestmark = pytest.mark.programs("age")
SIZES = [0, 1, 64 * 1024 - 1, 64 * 1024, 1024 * 1024]
PAIRS = {
    "AAAAC3NzaC1lZDI1NTE5AAAAIOHz+U0YtjINc54dZiJNclfmEFifF7RXCFlNlTbuZBji": (
        "age17044m9wgakla6pzftf4srtl3h5mcsr85jysgt5fg23zpnta8sfdqhzn452"
    ),
    "AAAAC3NzaC1lZDI1NTE5AAAAIF/KPU3Z5LSjbBI6hrq25wCcseq2UpqSzUFZRr+ux6LM": (
        "age1hjm3aujg9e79f5yth8a2cejzdjg5n9vnu96l05p70uvfpeltnpms7yy3pp"
    ),
}


def age(*arguments: str, given: bytes) -> bytes:
    return subprocess.run(["age", *arguments], input=given, capture_output=True, check=True).stdout


def keygen(folder: Path, *arguments: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(folder / "key"), *arguments], check=True)
    return folder / "key"


@pytest.fixture(scope="module")
def ed25519(tmp_path_factory: pytest.TempPathFactory) -> tuple[Identity, Path]:
    """An SSH key's identity as Bento derives it, and the same as a file for the age command."""
    key = keygen(tmp_path_factory.mktemp("ed25519"), "-t", "ed25519")
    private = load_ssh_private_key(key.read_bytes(), password=None)
    assert isinstance(private, Ed25519PrivateKey)
    derived = key.with_name("derived")
    derived.write_text(age_identity_of_seed(private.private_bytes_raw()) + "\n")
    return load_ssh_identity(key), derived


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory) -> tuple[Identity, Path]:
    key = keygen(tmp_path_factory.mktemp("rsa"), "-t", "rsa", "-b", "2048")
    return load_ssh_identity(key), key


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_each_opens_what_the_other_sealed(kind: str, size: int, request: pytest.FixtureRequest) -> None:
    identity, file = request.getfixturevalue(kind)
    plaintext = os.urandom(size)
    sealed = seal(Plaintext(plaintext), [identity.recipient])
    assert age("-d", "-i", str(file), given=sealed) == plaintext
    theirs = age("-e", "-r", identity.recipient.text, given=plaintext)
    assert open_sealed(theirs, [identity]).data == plaintext


def test_a_file_for_host_and_admin_opens_with_either(
    ed25519: tuple[Identity, Path], rsa: tuple[Identity, Path]
) -> None:
    sealed = seal(Plaintext(b"for both"), [ed25519[0].recipient, rsa[0].recipient])
    for _, file in (ed25519, rsa):
        assert age("-d", "-i", str(file), given=sealed) == b"for both"


def test_age_keygen_derives_the_same_recipient(ed25519: tuple[Identity, Path]) -> None:
    identity, file = ed25519
    derived = subprocess.run(["age-keygen", "-y", str(file)], capture_output=True, text=True, check=True).stdout
    assert derived.strip() == identity.recipient.text
    assert Identity.from_age(file.read_text()).recipient == identity.recipient


@pytest.mark.parametrize(("blob", "recipient"), PAIRS.items())
def test_the_known_pairs_are_recipients_that_age_seals_to(blob: str, recipient: str) -> None:
    assert Recipient.of_host_key(SshPublicKey.parse(f"ssh-ed25519 {blob}")).text == recipient
    assert age("-e", "-r", recipient, given=b"x").startswith(b"age-encryption.org/v1\n-> X25519 ")


@pytest.fixture(scope="module")
def vector_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the age command reads for each vector's seed: the derived identity, or the RSA key."""
    folder = tmp_path_factory.mktemp("vectors")
    files = {}
    for one in ACCEPTED:
        seed = one["seed"]
        files[seed] = folder / seed.replace(" ", "-")
        if one in ED25519:
            files[seed].write_text(age_identity_of_seed(hashlib.sha256(seed.encode()).digest()) + "\n")
        else:
            files[seed].write_bytes(seeds.private_file(seeds.key_of(seed)))
            files[seed].chmod(0o600)
    return files


@pytest.mark.parametrize("one", OPENABLE, ids=lambda one: one.name)
def test_it_opens_each_sealed_vector_with_its_keys_and_no_other(one: Sealed, vector_files: dict[str, Path]) -> None:
    for seed, file in vector_files.items():
        if seed in one.to:
            assert age("-d", "-i", str(file), given=one.text.encode()) == one.plaintext
            assert age("-d", "-i", str(file), given=one.binary) == one.plaintext
        else:
            with pytest.raises(subprocess.CalledProcessError):
                age("-d", "-i", str(file), given=one.binary)


@pytest.mark.parametrize("one", ACCEPTED, ids=lambda one: one["seed"])
def test_it_agrees_on_each_vector_key(one: dict[str, str], vector_files: dict[str, Path]) -> None:
    if one in ED25519:
        shown = subprocess.run(["age-keygen", "-y", str(vector_files[one["seed"]])], capture_output=True, check=True)
        assert shown.stdout.decode().strip() == one["recipient"]
    sealed = age("-e", "-r", one["recipient"], given=b"x")
    assert age("-d", "-i", str(vector_files[one["seed"]]), given=sealed) == b"x"


def test_an_admins_ssh_key_opens_what_age_seals_to_it(
    ed25519: tuple[Identity, Path], rsa: tuple[Identity, Path]
) -> None:
    for key in (ed25519[1].with_name("key"), rsa[1]):
        sealed = age("-e", "-R", f"{key}.pub", given=b"as agenix seals")
        found = load_admin_identities([key], input)
        assert open_sealed(sealed, found).data == b"as agenix seals"


def test_age_opens_an_identity_that_bento_generated(tmp_path: Path) -> None:
    from bento_secrets.generate import age_identity

    pair = age_identity()
    assert pair.public is not None
    (tmp_path / "identity").write_bytes(pair.plaintext.data)
    sealed = age("-e", "-r", pair.public.decode(), given=b"x")
    assert age("-d", "-i", str(tmp_path / "identity"), given=sealed) == b"x"


def test_a_refused_vector_is_one_that_age_would_read(vector_files: dict[str, Path], tmp_path: Path) -> None:
    """Else its refusal would prove nothing."""
    (native,) = [one for one in SEALED if one.name == "native-by-age"]
    key = tmp_path / "key"
    key.write_bytes(seeds.private_file(seeds.key_of("bento vector 1")))
    key.chmod(0o600)
    assert age("-d", "-i", str(key), given=native.binary) == b"vector native-by-age\n"
