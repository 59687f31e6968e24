"""Signatures by the real ssh-keygen: one trusted armour over exactly this line, and nothing less."""

import subprocess
from pathlib import Path

import pytest
from unit.samples import key_file, public

from bento.adapters import signatures as module
from bento.adapters.signatures import allowed_signers, public_half, sign, sign_all, verified
from bento.errors import EnvironmentFailed, InputError
from bento.models.signed import SignedDocument, split

LINE = b'{"fleet":"acme","serial":5}\n'
SPACE = "bento-release"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_file(tmp_path / "one", 1), key_file(tmp_path / "two", 2)


@pytest.fixture
def document(keys: tuple[Path, Path]) -> SignedDocument:
    return sign(LINE, keys[:1], SPACE)


def test_a_signature_by_a_signer_is_good(document: SignedDocument) -> None:
    assert document.line == LINE
    assert verified(document, [public(1)], SPACE)
    assert verified(document, [public(9), public(1)], SPACE)
    assert split(document.raw, "it") == document


def test_a_signature_by_anybody_else_is_not(document: SignedDocument) -> None:
    assert not verified(document, [public(2)], SPACE)
    assert not verified(document, [], SPACE)


def test_a_signature_for_another_purpose_is_not(keys: tuple[Path, Path], document: SignedDocument) -> None:
    assert not verified(document, [public(1)], "bento-report")
    assert not verified(sign(LINE, keys[:1], "git"), [public(1)], SPACE)


def test_a_report_s_signature_is_good_as_a_report_and_not_as_a_release(keys: tuple[Path, Path]) -> None:
    signed = sign(LINE, keys[:1], "bento-report")
    assert verified(signed, [public(1)], "bento-report")
    assert not verified(signed, [public(1)], SPACE)


def test_whoever_is_allowed_is_allowed_for_one_purpose_only() -> None:
    # ssh-keygen's -n says so too; each of the two is enough, as a person who checks by hand may forget one.
    assert allowed_signers([public(1)], SPACE) == f'* namespaces="bento-release" {public(1).line}\n'.encode()


def test_a_line_changed_by_one_byte_is_not_the_signed_one(document: SignedDocument) -> None:
    for at in range(len(LINE)):
        if at % 5 == 0 or at == len(LINE) - 1:
            changed = bytearray(LINE)
            changed[at] ^= 1
            assert not verified(SignedDocument(bytes(changed), document.armours), [public(1)], SPACE)
    for other in (LINE[:-1], LINE + b"\n", b"", LINE.replace(b"\n", b"\r\n")):
        assert not verified(SignedDocument(other, document.armours), [public(1)], SPACE)


def test_a_changed_armour_is_none(document: SignedDocument) -> None:
    (armour,) = document.armours
    lines = armour.splitlines(keepends=True)
    for other in (
        b"",
        b"garbage\n",
        lines[0] + lines[-1],
        lines[0] + b"QUJD\n" + lines[-1],
        armour.replace(b"U1NI", b"U1NJ"),
    ):
        assert not verified(SignedDocument(LINE, (other,)), [public(1)], SPACE)


def test_one_trusted_armour_among_several_is_enough(keys: tuple[Path, Path]) -> None:
    both = sign(LINE, keys, SPACE)
    assert len(both.armours) == 2
    for signer in (1, 2):
        assert verified(both, [public(signer)], SPACE)
    assert not verified(both, [public(3)], SPACE)
    assert not verified(SignedDocument(LINE, ()), [public(1)], SPACE)


def test_many_lines_get_each_its_own_armours_by_one_process_for_each_key(
    keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [b'{"serial":%d}\n' % number for number in range(12)]
    started: list[object] = []
    real = subprocess.Popen.__init__

    def noted(self: object, argv: object, *args: object, **more: object) -> None:
        started.append(argv)
        real(self, argv, *args, **more)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", noted)
        signed = sign_all(lines, keys, SPACE)
    assert len(started) == len(keys)
    assert [document.line for document in signed] == lines
    for document in signed:
        assert [verified(SignedDocument(document.line, (one,)), [public(1)], SPACE) for one in document.armours] == [
            True,
            False,
        ]
        assert verified(document, [public(2)], SPACE)


def test_if_a_key_can_t_sign_no_line_is_signed_and_nothing_stays_behind(
    tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMORY", str(tmp_path / "memory"))
    (tmp_path / "memory").mkdir()
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(InputError, match=r"can't sign with .*text"):
        sign_all([LINE, LINE], [keys[0], tmp_path / "text"], SPACE)
    assert list((tmp_path / "memory").iterdir()) == []


def test_a_person_can_check_it_by_hand(tmp_path: Path, document: SignedDocument) -> None:
    (tmp_path / "manifest").write_bytes(document.raw)
    (tmp_path / "allowed_signers").write_text(f'* namespaces="bento-release" {public(1).line}\n')
    command = (
        "head -n1 manifest | ssh-keygen -Y verify -n bento-release -I admin -f allowed_signers "
        "-s <(tail -n +2 manifest | awk -v n=1 '/BEGIN SSH/{i++} i==n')"
    )
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_a_key_with_a_passphrase_is_answered_with_ssh_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Never ask the person at this terminal.
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    locked = key_file(tmp_path / "locked", 1)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", str(locked)], check=True, capture_output=True)
    with pytest.raises(InputError, match="can't sign with") as error:
        sign(LINE, [locked], SPACE)
    assert any(f"ssh-add {locked}" in hint for hint in error.value.hints)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_may_read_is_answered_with_chmod(tmp_path: Path, mode: int) -> None:
    key = key_file(tmp_path / "my key", 1)
    key.chmod(mode)
    with pytest.raises(InputError) as refused:
        sign(LINE, [key], SPACE)
    assert f"(mode {mode:04o})" in refused.value.message
    assert "@" not in refused.value.message
    subprocess.run(["sh", "-c", refused.value.hints[0]], check=True)
    assert verified(sign(LINE, [key], SPACE), [public(1)], SPACE)


def test_a_key_that_is_not_there_or_no_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone isn't there"):
        sign(LINE, [tmp_path / "gone"], SPACE)
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "text").chmod(0o600)
    with pytest.raises(InputError, match="can't sign with"):
        sign(LINE, [tmp_path / "text"], SPACE)


def test_the_public_half_is_found_in_the_pub_file_beside_it_or_by_ssh_keygen(tmp_path: Path) -> None:
    alone = key_file(tmp_path / "alone", 1)
    beside = key_file(tmp_path / "beside", 2, pub=True)
    assert public_half(alone).blob == public(1).blob
    assert public_half(beside).blob == public(2).blob
    assert public_half(tmp_path / "beside.pub").blob == public(2).blob
    for bad in (tmp_path / "gone", tmp_path / "gone.pub"):
        with pytest.raises(InputError, match="isn't there"):
            public_half(bad)


def test_without_ssh_keygen_nothing_counts_as_verified(
    document: SignedDocument, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailed, match="ssh-keygen"):
        verified(document, [public(1)], SPACE)
    (tmp_path / "ssh-keygen").write_text("#!/bin/sh\necho unknown option -- Y >&2\nexit 1\n")
    (tmp_path / "ssh-keygen").chmod(0o755)
    with pytest.raises(EnvironmentFailed, match="unknown option"):
        verified(document, [public(1)], SPACE)
