"""Signatures verified in this process: what is good here is good to OpenSSH, and what OpenSSH makes is good here."""

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.samples import key_file, private, public

from bento.adapters import sshsig
from bento.adapters.signatures import public_half, sign, verified, verified_here
from bento.models.signed import ARMOUR_BEGIN, ARMOUR_END, SignedDocument
from bento_secrets.ssh_keys import SshPublicKey

LINE = b'{"fleet":"acme","counter":5}\n'
SPACE = "bento-report"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    made = {"ed25519": key_file(folder / "ed25519", 1, pub=True)}
    for kind, *options in (("rsa", "-b", "3072"), ("ecdsa",)):
        made[kind] = folder / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *options, "-N", "", "-f", made[kind]], check=True)
    return made


def armoured(data: bytes) -> bytes:
    return ARMOUR_BEGIN + base64.encodebytes(data) + ARMOUR_END


def raw(armour: bytes) -> bytes:
    return base64.b64decode(armour[len(ARMOUR_BEGIN) : -len(ARMOUR_END)])


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_what_ssh_keygen_signs_is_good_for_this_line_signer_and_purpose_only(keys: dict[str, Path], kind: str) -> None:
    signer = public_half(keys[kind])
    (armour,) = sign(LINE, [keys[kind]], SPACE).armours
    assert sshsig.good(LINE, armour, [public(9), signer], SPACE)
    assert not sshsig.good(LINE, armour, [public(9)], SPACE)
    assert not sshsig.good(LINE, armour, [], SPACE)
    assert not sshsig.good(LINE, armour, [signer], "bento-release")
    assert not sshsig.good(LINE[:-1], armour, [signer], SPACE)
    assert not sshsig.good(LINE + b"\n", armour, [signer], SPACE)


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_both_digests_that_ssh_keygen_can_use_are_good(keys: dict[str, Path], tmp_path: Path, digest: str) -> None:
    message = tmp_path / "line"
    message.write_bytes(LINE)
    argv = ["ssh-keygen", "-Y", "sign", "-q", "-n", SPACE, "-O", f"hashalg={digest}", "-f", keys["ed25519"], message]
    subprocess.run(argv, check=True)
    assert sshsig.good(LINE, (tmp_path / "line.sig").read_bytes(), [public(1)], SPACE)


def test_a_signer_of_another_kind_is_left_to_openssh(keys: dict[str, Path]) -> None:
    document = sign(LINE, [keys["ecdsa"]], SPACE)
    signer = public_half(keys["ecdsa"])
    assert not sshsig.good(LINE, document.armours[0], [signer], SPACE)
    assert verified_here(document, [signer], SPACE)
    assert not verified_here(document, [signer], "bento-release")


def test_one_good_armour_among_several_is_enough(keys: dict[str, Path]) -> None:
    document = sign(LINE, [keys["rsa"], keys["ed25519"]], SPACE)
    assert verified_here(document, [public(1)], SPACE)
    assert not verified_here(document, [public(2)], SPACE)


def agree(armour: bytes, signers: list[SshPublicKey]) -> bool:
    """What is good here is good to OpenSSH. Returns what is thought of it here."""
    here = sshsig.good(LINE, armour, signers, SPACE)
    if here:
        assert verified(SignedDocument(LINE, (armour,)), signers, SPACE), "laxer than OpenSSH"
    return here


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_no_signature_with_a_changed_bit_is_good(keys: dict[str, Path], kind: str) -> None:
    signer = public_half(keys[kind])
    data = raw(sign(LINE, [keys[kind]], SPACE).armours[0])
    assert agree(armoured(data), [signer])
    for at in range(len(data)):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[at] ^= bit
            assert not agree(armoured(bytes(changed)), [signer]), at


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_done_to_a_signature_it_is_never_laxer_than_openssh(
    keys: dict[str, Path], data: st.DataObject
) -> None:
    (armour,) = sign(LINE, [keys["ed25519"]], SPACE).armours
    inner = data.draw(st.booleans())
    body = raw(armour) if inner else armour
    at, gone = data.draw(st.integers(0, len(body))), data.draw(st.integers(0, 4))
    changed = body[:at] + data.draw(st.binary(max_size=4)) + body[at + gone :]
    agree(armoured(changed) if inner else changed, [public(1)])


FORGED = {
    "nothing": b"",
    "magic alone": b"SSHSIG",
    "version 2": b"SSHSIG" + (2).to_bytes(4, "big"),
    "a length beyond the end": b"SSHSIG" + (1).to_bytes(4, "big") + b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("data", FORGED.values(), ids=FORGED)
def test_what_is_no_signature_is_not_good(data: bytes) -> None:
    assert not sshsig.good(LINE, armoured(data), [public(1)], SPACE)


def test_what_follows_the_end_or_fills_the_reserved_place_is_not_good(keys: dict[str, Path]) -> None:
    data = raw(sign(LINE, [keys["ed25519"]], SPACE).armours[0])
    blob = public(1).blob
    head = 10 + 4 + len(blob) + 4 + len(SPACE)
    assert data[head : head + 4] == bytes(4), "the reserved place"
    assert not agree(armoured(data + b"\0"), [public(1)])
    assert not agree(armoured(data[:head] + b"\0\0\0\1x" + data[head + 4 :]), [public(1)])


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("more", [b"x", b"SSHSIG", b""])
def test_a_signature_s_own_string_holds_it_and_nothing_more(more: bytes) -> None:
    """The key signs `more` and what is wanted: whoever takes the first 64 bytes for the signature takes that, too."""
    about = b"".join(map(_string, (SPACE.encode(), b"", b"sha512")))
    value = private(1).sign(more + b"SSHSIG" + about + _string(hashlib.sha512(LINE).digest())) + more
    data = b"SSHSIG\0\0\0\1" + _string(public(1).blob) + about + _string(_string(b"ssh-ed25519") + _string(value))
    assert agree(armoured(data), [public(1)]) == (not more)


def test_an_end_that_begins_no_line_is_no_end(keys: dict[str, Path]) -> None:
    (armour,) = sign(LINE, [keys["ed25519"]], SPACE).armours
    assert agree(armour, [public(1)])
    assert not agree(armour.replace(b"\n-----END", b"-----END"), [public(1)])


def test_a_sha1_signature_by_rsa_is_not_good(keys: dict[str, Path]) -> None:
    data = raw(sign(LINE, [keys["rsa"]], SPACE).armours[0])
    assert b"rsa-sha2-512" in data
    sha1 = data.replace((12).to_bytes(4, "big") + b"rsa-sha2-512", (7).to_bytes(4, "big") + b"ssh-rsa")
    assert not agree(armoured(sha1), [public_half(keys["rsa"])])
