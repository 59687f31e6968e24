"""What the demo says in the end must be able to be bad."""

import base64
from pathlib import Path

import pytest

from bento.demo import checks, leaks
from bento.demo.checks import Check, report
from bento.demo.screen import Screen, as_typed


@pytest.mark.parametrize(
    ("found", "code", "last"),
    [
        ([Check("a", 1, 1), Check("b", (), ())], 0, "2 of 2 checks ok"),
        ([Check("a", 1, 1), Check("b", (), ("try-restart",))], 1, "1 of 2 checks ok"),
        ([Check("a", seen=False, wanted=True)], 1, "0 of 1 checks ok"),
        ([], 1, "0 of 0 checks ok"),
    ],
)
def test_one_failed_check_fails_the_demo(
    found: list[Check], code: int, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(found, Screen()) == code
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == last
    assert sum(line.startswith("FAILED") for line in shown) == sum(not check.ok for check in found)


def test_a_failed_check_says_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    report([Check("alpha: runs it", "/nix/store/old", "/nix/store/new")], Screen())
    assert "seen: /nix/store/old; wanted: /nix/store/new" in capsys.readouterr().out


def test_a_write_shows_in_the_snapshot(tmp_path: Path) -> None:
    (tmp_path / "manifest").write_text("old")
    before = checks.snapshot(tmp_path)
    assert checks.snapshot(tmp_path) == before
    (tmp_path / "new").write_text("old")
    (tmp_path / "new").replace(tmp_path / "manifest")
    assert checks.snapshot(tmp_path) != before


PLAINTEXT = b"token-0123456789abcdef"


@pytest.mark.parametrize(
    "content",
    [
        b"before " + PLAINTEXT + b" after",
        PLAINTEXT.hex().encode(),
        *(base64.b64encode(b"x" * offset + PLAINTEXT + b"more") for offset in range(4)),
    ],
)
def test_the_search_finds_a_plaintext_in_a_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "innocent").write_bytes(PLAINTEXT[:-1])
    (tmp_path / "deep/er/file").write_bytes(content)
    assert leaks.traces([b"something-else", PLAINTEXT], [tmp_path]) == [str(tmp_path / "deep/er/file")]


def test_the_search_finds_a_plaintext_in_a_name_a_link_and_an_answer(tmp_path: Path) -> None:
    (tmp_path / PLAINTEXT.decode()).mkdir()
    (tmp_path / "link").symlink_to(f"/nowhere/{PLAINTEXT.decode()}")
    found = leaks.traces([PLAINTEXT], [tmp_path], f"the token is {PLAINTEXT.decode()}")
    assert sorted(found) == sorted(
        [str(tmp_path / PLAINTEXT.decode()), str(tmp_path / "link"), "what the commands said"]
    )
    assert leaks.traces([PLAINTEXT[::-1]], [tmp_path], "the token is a secret") == []


def test_what_is_planted_is_found_and_then_gone(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    with leaks.planted(PLAINTEXT, folders) as planted:
        assert len(planted) == 4
        assert leaks.traces([PLAINTEXT], folders) == planted
    assert leaks.traces([PLAINTEXT], folders) == []
    assert not [path for folder in folders for path in folder.iterdir()]


def test_commands_are_shown_as_a_person_types_them() -> None:
    argv = ["bento", "init", "my fleet", "--server-key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOHz+U0Y"]
    assert as_typed(argv) == "bento init 'my fleet' --server-key \"ssh-ed25519 AAAA…\""
