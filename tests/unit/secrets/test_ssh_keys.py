"""Public keys: what is read, what is refused, and the recipients derived from them."""

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from bento_secrets import bech32
from bento_secrets.errors import InputError
from bento_secrets.identities import Identity, load_ssh_identity
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey

PAIRS = [
    (
        "AAAAC3NzaC1lZDI1NTE5AAAAIOHz+U0YtjINc54dZiJNclfmEFifF7RXCFlNlTbuZBji",
        "age17044m9wgakla6pzftf4srtl3h5mcsr85jysgt5fg23zpnta8sfdqhzn452",
    ),
    (
        "AAAAC3NzaC1lZDI1NTE5AAAAIF/KPU3Z5LSjbBI6hrq25wCcseq2UpqSzUFZRr+ux6LM",
        "age1hjm3aujg9e79f5yth8a2cejzdjg5n9vnu96l05p70uvfpeltnpms7yy3pp",
    ),
]
ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
LOW_ORDER = {
    "identity": "0100000000000000000000000000000000000000000000000000000000000000",
    "order 2": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4": "0000000000000000000000000000000000000000000000000000000000000000",
    "order 4 negative": "0000000000000000000000000000000000000000000000000000000000000080",
    "order 8 a": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8 b": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8 c": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8 d": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "identity, non-canonical": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4, non-canonical": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "identity, sign bit": "0100000000000000000000000000000000000000000000000000000000000080",
    "all ones": "ff" * 32,
}
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def line(kind: str, *fields: bytes) -> str:
    return f"{kind} {base64.b64encode(b''.join(map(string, (kind.encode(), *fields)))).decode()}"


def mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def ed25519(point: bytes) -> SshPublicKey:
    return SshPublicKey.parse(line("ssh-ed25519", point))


def is_on_curve(y: int) -> bool:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    return square == 0 or pow(square, (P - 1) // 2, P) == 1


@pytest.mark.parametrize(("blob", "recipient"), PAIRS)
def test_the_known_pairs_hold(blob: str, recipient: str) -> None:
    key = SshPublicKey.parse(f"ssh-ed25519 {blob} root@host")
    assert Recipient.of_host_key(key).text == recipient
    assert Recipient.parse(f"ssh-ed25519 {blob}") == Recipient.parse(recipient)


@pytest.mark.parametrize("name", ["ed25519", "rsa", "ecdsa"])
def test_a_key_of_ssh_keygen_is_read_as_ssh_keygen_reads_it(key_folder: Path, name: str) -> None:
    public = key_folder / f"{name}.pub"
    key = SshPublicKey.parse(public.read_text())
    bits, fingerprint, comment, _ = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(public)], check=True, capture_output=True, text=True
    ).stdout.split()
    assert (key.fingerprint, key.comment) == (fingerprint, comment)
    assert f"{key.line} {key.comment}\n" == public.read_text()
    assert key.bits == (int(bits) if name == "rsa" else None)


@pytest.mark.parametrize("name", ["ed25519", "ed25519b", "rsa", "pem"])
def test_the_private_key_has_the_recipient_of_the_public_one(key_folder: Path, name: str) -> None:
    public = SshPublicKey.parse((key_folder / f"{name}.pub").read_text())
    assert load_ssh_identity(key_folder / name).recipient == Recipient.of_host_key(public)


@given(st.binary(min_size=32, max_size=32))
def test_both_halves_of_any_ed25519_key_derive_to_one_pair(seed: bytes) -> None:
    from bento_secrets.identities import age_identity_of_seed

    public, _ = bindings.crypto_sign_seed_keypair(seed)
    assert Identity.from_age(age_identity_of_seed(seed)).recipient == Recipient.of_host_key(ed25519(public))


@pytest.mark.parametrize("point", LOW_ORDER.values(), ids=LOW_ORDER)
def test_points_that_anybody_can_open_are_refused(point: str) -> None:
    with pytest.raises(InputError, match="no sound point"):
        Recipient.of_host_key(ed25519(bytes.fromhex(point)))


@given(st.binary(min_size=32, max_size=32))
def test_mixed_order_points_are_refused(seed: bytes) -> None:
    public, _ = bindings.crypto_sign_seed_keypair(seed)
    Recipient.of_host_key(ed25519(public))
    with pytest.raises(InputError, match="no sound point"):
        Recipient.of_host_key(ed25519(bindings.crypto_core_ed25519_add(public, ORDER_8)))


def test_points_off_the_curve_are_refused() -> None:
    off = [y for y in range(2, 40) if not is_on_curve(y)]
    assert len(off) > 5
    for y in off:
        with pytest.raises(InputError, match="no sound point"):
            Recipient.of_host_key(ed25519(y.to_bytes(32, "little")))


@pytest.mark.parametrize("u", [0, 1, P - 1, P, P + 1, 2**255 - 1, 2**255 + 9])
def test_unsound_x25519_recipients_are_refused(u: int) -> None:
    with pytest.raises(InputError, match="no sound point"):
        Recipient.parse(bech32.encode("age", u.to_bytes(32, "little")))


@pytest.mark.parametrize(
    "text",
    [
        "age1",
        "age17044m9wgakla6pzftf4srtl3h5mcsr85jysgt5fg23zpnta8sfdqhzn453",
        "age17044m9wgakla6pzftf4srtl3h5mcsr85jysgt5fg23zpnta8sfdqhzn45",
        bech32.encode("age1yubikey", bytes(32))[:-1] + "q",
        bech32.encode("age1../../bin/x", bytes(32)),
        bech32.encode("age1", bytes(32)),
        bech32.encode("age2yubikey", bytes(32)),
        bech32.encode("age", b"\x09" + bytes(32)),
        "age1\N{SNOWMAN}",
    ],
)
def test_damaged_and_foreign_age_recipients_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        Recipient.parse(text)


@pytest.mark.parametrize(
    ("name", "why"), [("weak", "1024 bits is too weak"), ("ecdsa", "can't seal to ecdsa-sha2-nistp256")]
)
def test_keys_that_age_cant_use_are_refused_with_a_hint(key_folder: Path, name: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        Recipient.parse((key_folder / f"{name}.pub").read_text())
    assert "ssh-keygen -t ed25519" in caught.value.hints[0]


def test_token_dsa_and_oversized_keys_are_refused() -> None:
    token = line("sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:")
    dsa = line("ssh-dss", *[mpint(23)] * 4)
    large = line("ssh-rsa", mpint(65537), mpint((1 << 8191) + 1))
    for text, why in ((token, "FIDO"), (dsa, "ssh-dss"), (large, "at most 4096")):
        with pytest.raises(InputError, match=why):
            Recipient.of_host_key(SshPublicKey.parse(text))


MALFORMED = {
    "other type inside": f"ssh-ed25519 {line('ssh-ed25510', bytes(32)).split()[1]}",
    "trailing byte": "ssh-ed25519 " + base64.b64encode(base64.b64decode(PAIRS[0][0]) + b"\0").decode(),
    "trailing field": line("ssh-ed25519", bytes(32), b""),
    "short point": line("ssh-ed25519", bytes(31)),
    "no point": line("ssh-ed25519"),
    "cut": f"ssh-ed25519 {PAIRS[0][0][:-4]}",
    "no padding": f"ssh-rsa {line('ssh-rsa', mpint(3), b'12')[8:].rstrip('=')}",
    "loose padding bits": "ssh-ed25519 " + PAIRS[0][0][:-2] + "B=",
    "negative modulus": line("ssh-rsa", mpint(3), b"\x81"),
    "padded modulus": line("ssh-rsa", mpint(3), b"\0\x23"),
    "even modulus": line("ssh-rsa", mpint(3), mpint(1 << 2047)),
    "exponent 1": line("ssh-rsa", mpint(1), mpint((1 << 2047) + 1)),
    "other curve": line("ecdsa-sha2-nistp256", b"nistp384", b"\4" + bytes(64)),
    "compressed point": line("ecdsa-sha2-nistp256", b"nistp256", b"\2" + bytes(32)),
    "options": f'from="10.0.0.1" ssh-ed25519 {PAIRS[0][0]}',
    "scanned": f"host ssh-ed25519 {PAIRS[0][0]}",
    "certificate": f"ssh-ed25519-cert-v01@openssh.com {PAIRS[0][0]}",
    "two keys": f"ssh-ed25519 {PAIRS[0][0]}\nssh-ed25519 {PAIRS[1][0]}",
    "type only": "ssh-ed25519",
    "nothing": " \n",
    "too long": f"ssh-ed25519 {PAIRS[0][0]} {'x' * 10000}",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        SshPublicKey.parse(text)


@given(st.text() | st.text().map(lambda text: f"ssh-ed25519 {text}") | st.binary().map(lambda b: line("ssh-rsa", b)))
def test_garbage_gives_input_errors_only(text: str) -> None:
    for parse in (SshPublicKey.parse, Recipient.parse):
        try:
            parse(text)
        except InputError:
            continue


def test_comments_become_printable() -> None:
    key = SshPublicKey.parse(f"ssh-ed25519 {PAIRS[0][0]} evil\x1b[2J\N{SNOWMAN}")
    assert key.comment.isascii()
    assert key.comment.isprintable()


def test_a_private_key_is_refused_without_being_quoted(key_folder: Path) -> None:
    private = (key_folder / "ed25519").read_text()
    for text in (private, private.replace("\n", " "), "AGE-SECRET-KEY-1QQQQ", f"# age\nage-secret-key-1{'q' * 58}"):
        with pytest.raises(InputError, match="private key") as caught:
            SshPublicKey.parse(text)
        shown = " ".join((str(caught.value), *caught.value.hints))
        assert not any(word in shown for word in text.split() if len(word) > 12)


@given(st.binary(max_size=80))
def test_bech32_round_trips_and_notices_one_wrong_character(data: bytes) -> None:
    text = bech32.encode("age", data)
    assert bech32.decode(text) == ("age", data)
    assert bech32.decode(text.upper()) == ("age", data)
    wrong = text[:-1] + ("q" if text[-1] != "q" else "p")
    with pytest.raises(ValueError, match="checksum"):
        bech32.decode(wrong)
