"""Identities, plaintexts, seal and open: what opens, what is refused, and what never shows."""

import base64
import copy
import os
import pickle
import time
import traceback
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bento_secrets import age
from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.identities import Identity, load_ssh_identity
from bento_secrets.limits import LIMITS
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, open_sealed, seal

ALICE = Identity.from_age("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
HEADER = b"age-encryption.org/v1\n"
SEALED = seal(Plaintext(b"some plaintext of no great length"), [ALICE.recipient])


@given(st.binary(max_size=200_000))
@settings(max_examples=30, deadline=None)
def test_what_is_sealed_opens_to_the_same_bytes(data: bytes) -> None:
    assert open_sealed(seal(Plaintext(data), [ALICE.recipient]), [ALICE]).data == data


def test_each_recipient_opens_and_nobody_else(key_folder: Path, identity: Identity, other_identity: Identity) -> None:
    rsa = load_ssh_identity(key_folder / "rsa")
    sealed = seal(Plaintext(b"for two"), [identity.recipient, rsa.recipient])
    assert open_sealed(sealed, [identity]).data == b"for two"
    assert open_sealed(sealed, [other_identity, rsa]).data == b"for two"
    with pytest.raises(OpenFailed):
        open_sealed(sealed, [other_identity])
    with pytest.raises(OpenFailed):
        open_sealed(sealed, [])


def test_nothing_is_sealed_to_nobody_or_to_more_than_a_host_accepts() -> None:
    with pytest.raises(InputError):
        seal(Plaintext(b"x"), [])
    many = [Recipient(str(pyrage.x25519.Identity.generate().to_public())) for _ in range(34)]
    sealed = seal(Plaintext(b"x"), many[:32])
    assert len(sealed) < LIMITS.MAX_HEADER
    with pytest.raises(InputError, match="more than a host accepts"):
        seal(Plaintext(b"x"), many)


def test_equal_recipients_are_sealed_to_once() -> None:
    sealed = seal(Plaintext(b"x"), [ALICE.recipient] * 20)
    assert sealed.count(b"-> X25519 ") == 1


def test_an_unchecked_bad_recipient_is_an_input_error_even_where_the_library_panics() -> None:
    from bento_secrets import bech32

    for text in (bech32.encode("age", bytes(32)), "age1nonsense", "ssh-rsa AAAA"):
        with pytest.raises(InputError):
            seal(Plaintext(b"x"), [Recipient(text)])


@given(st.data())
@settings(deadline=None)
def test_any_damage_is_noticed(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SEALED) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = SEALED[:at] + bytes([SEALED[at] ^ flip]) + SEALED[at + 1 :]
    for file in (damaged, SEALED[:at], SEALED + bytes([flip])):
        with pytest.raises(OpenFailed):
            open_sealed(file, [ALICE])


@given(st.binary(max_size=500) | st.binary(max_size=500).map(lambda tail: HEADER + tail))
def test_garbage_gives_open_failed_only(garbage: bytes) -> None:
    with pytest.raises(OpenFailed):
        open_sealed(garbage, [ALICE])


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (HEADER + b"-> X a\n\n" * 34 + b"--- mac\n", "more than 33"),
        (HEADER + b"-> X a\n\n" * 5000 + b"--- mac\n", "more than 33|within"),
        (HEADER + b"-> X25519 " + b"A" * LIMITS.MAX_HEADER + b"\n--- mac\n", "within"),
        (HEADER + b"A" * 63 + b"\n" * LIMITS.MAX_HEADER + b"--- mac\n", "within"),
        (HEADER + b"-> scrypt c2FsdA 22\nAAAA\n--- mac\n", "passphrase"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n" + base64.b64encode(HEADER), "binary age file"),
    ],
)
def test_costly_headers_are_refused_before_the_library_sees_them(
    file: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: object) -> bytes:
        raise AssertionError("the age library was given the file")

    monkeypatch.setattr(age, "decrypt", reached)
    started = time.thread_time()
    with pytest.raises(OpenFailed, match=why):
        open_sealed(file, [ALICE])
    assert time.thread_time() - started < 0.2


def test_a_real_passphrase_file_is_refused() -> None:
    with pytest.raises(OpenFailed, match="passphrase"):
        open_sealed(pyrage.passphrase.encrypt(b"x", "phrase"), [ALICE])


def test_the_size_cap_holds_on_both_sides() -> None:
    with pytest.raises(InputError, match="too large"):
        Plaintext(bytes(LIMITS.MAX_SECRET + 1))
    largest = seal(Plaintext(bytes(LIMITS.MAX_SECRET)), [ALICE.recipient])
    assert len(open_sealed(largest, [ALICE])) == LIMITS.MAX_SECRET
    with pytest.raises(OpenFailed, match="too large"):
        open_sealed(largest + bytes(LIMITS.MAX_HEADER), [ALICE])


def test_plaintext_and_identity_never_show(identity: Identity) -> None:
    plaintext = Plaintext(b"hunter2-hunter2")
    for shown in (repr(plaintext), str(plaintext), f"{plaintext}", f"{plaintext!r:>40}", repr([plaintext])):
        assert "hunter2" not in shown
        assert "15" in shown
    assert "SECRET" not in repr(identity).upper()
    for thing in (plaintext, identity):
        for escape in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                escape(thing)
    assert plaintext != Plaintext(plaintext.data)


def test_errors_quote_neither_plaintext_nor_identity(other_identity: Identity) -> None:
    sealed = seal(Plaintext(b"hunter2" * 20_000), [ALICE.recipient])
    for file, identities in ((sealed[:-1], [ALICE]), (sealed, [other_identity])):
        with pytest.raises(OpenFailed) as caught:
            open_sealed(file, identities)
        shown = "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in shown.replace('b"hunter2" * 20_000', "")
        assert caught.value.__context__ is None or caught.value.__suppress_context__
    with pytest.raises(InputError) as refused:
        Identity.from_age("AGE-SECRET-KEY-1BADBADBAD")
    assert "BADBAD" not in f"{refused.value}{refused.value.hints}"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("locked", "passphrase"),
        ("ecdsa", "neither an ed25519 nor an RSA"),
        ("weak", "1024 bits"),
        ("ed25519.pub", "public key"),
        ("absent", "no such file"),
        ("", "no private key file|directory"),
    ],
)
def test_unusable_private_keys_are_named_and_explained(key_folder: Path, name: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        load_ssh_identity(key_folder / name)
    assert "PRIVATE KEY" not in str(caught.value)


def test_no_odd_file_stalls_or_fills_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + bytes(LIMITS.MAX_PRIVATE_KEY))
    (tmp_path / "garbage").write_bytes(
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    for name in ("fifo", "large", "garbage"):
        with pytest.raises(InputError, match="no private key"):
            load_ssh_identity(tmp_path / name)


def test_a_key_behind_a_symlink_is_read(tmp_path: Path, key_folder: Path, identity: Identity) -> None:
    (tmp_path / "link").symlink_to(key_folder / "ed25519")
    assert load_ssh_identity(tmp_path / "link").recipient == identity.recipient
