"""What is remembered of files: never of what may have changed without a trace, and a damaged memory is none."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bento.adapters.stamps import Sight, Stamps, stamp_of

RULES = "rules"
LATER = 60_000_000_000  # nanoseconds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "stamps"


def later() -> int:
    """A minute from now: as if everything had long been as it is."""
    return time.time_ns() + LATER


def sight(stamps: Stamps, *files: Path) -> Sight:
    return stamps.sight("them", [(path.name, stamp_of(path.stat())) for path in files], stamps.now())


def remembered(kept: Path, *files: Path) -> None:
    stamps = Stamps(kept, RULES, now=later)
    stamps.remember(sight(stamps, *files), ("found", 7))
    stamps.save(whole=True)


def recalled(kept: Path, *files: Path, rules: str = RULES, trusting: bool = True) -> tuple[str | int, ...] | None:
    stamps = Stamps(kept, rules, trusting=trusting, now=later)
    return stamps.recall(sight(stamps, *files))


def test_what_was_found_is_recalled_while_the_files_are_as_they_were(kept: Path, file: Path) -> None:
    assert recalled(kept, file) is None
    remembered(kept, file)
    assert recalled(kept, file) == ("found", 7)
    assert recalled(kept, file, trusting=False) is None
    assert recalled(kept, file, rules="others") is None
    assert recalled(kept, file, file) is None
    assert recalled(kept) is None


def rewrite(file: Path) -> None:
    file.write_text("two")


def put_another(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("two")
    other.replace(file)


@pytest.mark.parametrize("change", [rewrite, put_another])
def test_a_change_that_keeps_size_and_mtime_is_noticed(kept: Path, file: Path, change: Callable[[Path], None]) -> None:
    remembered(kept, file)
    before = file.stat()
    change(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert recalled(kept, file) is None


def young(kept: Path, file: Path) -> Stamps:
    """As if the file had been made a moment ago."""
    return Stamps(kept, RULES, now=lambda: file.stat().st_ctime_ns + 1_000_000)


def test_what_is_too_young_to_show_its_next_change_is_not_remembered(kept: Path, file: Path) -> None:
    assert file.stat().st_ctime_ns <= time.time_ns() < file.stat().st_ctime_ns + LATER  # the clock that files have
    stamps = young(kept, file)
    stamps.remember(sight(stamps, file), ("found", 7))
    stamps.save(whole=False)
    assert recalled(kept, file) is None


def test_what_became_too_young_is_forgotten(kept: Path, file: Path) -> None:
    remembered(kept, file)
    stamps = young(kept, file)
    stamps.remember(sight(stamps, file), ("found", 8))
    stamps.save(whole=False)
    assert recalled(kept, file) is None


def test_a_damaged_memory_is_none(kept: Path, file: Path) -> None:
    remembered(kept, file)
    whole = kept.read_bytes()
    for at in range(0, len(whole), 7):
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert recalled(kept, file) is None
    for data in (b"", whole[: len(whole) // 2], b"\xff" * 100, b"{}", whole + b" "):
        kept.write_bytes(data)
        assert recalled(kept, file) is None
    kept.unlink()
    kept.mkdir()
    assert recalled(kept, file) is None
    Stamps(kept, RULES).save(whole=True)  # it can't be kept, and nobody is harmed
    kept.rmdir()
    kept.write_bytes(whole)
    assert recalled(kept, file) == ("found", 7)


def test_after_a_look_at_everything_the_rest_is_forgotten_and_else_it_stays(kept: Path, file: Path) -> None:
    remembered(kept, file)
    for whole, there in ((False, ("found", 7)), (True, None)):
        stamps = Stamps(kept, RULES, now=later)
        other = stamps.sight("another", [("file", stamp_of(file.stat()))], stamps.now())
        stamps.remember(other, ("other",))
        stamps.save(whole=whole)
        assert Stamps(kept, RULES, now=later).recall(other) == ("other",)
        assert recalled(kept, file) == there


def test_a_memory_that_would_say_the_same_is_not_written_again(kept: Path, file: Path) -> None:
    remembered(kept, file)
    first = kept.stat().st_ino
    stamps = Stamps(kept, RULES, now=later)
    assert stamps.recall(sight(stamps, file)) == ("found", 7)
    stamps.save(whole=True)
    assert kept.stat().st_ino == first
    Stamps(kept, RULES, now=later).save(whole=True)  # nothing was looked at: nothing is kept
    assert kept.stat().st_ino != first
    assert recalled(kept, file) is None


OTHERS = {
    "no table": "[]",
    "empty": "{}",
    "no rules": '{"format": 3}',
    "nothing seen": '{"format": 3, "rules": "rules"}',
    "seen as a list": '{"format": 3, "rules": "rules", "seen": [1]}',
    "seen as a number": '{"format": 3, "rules": "rules", "seen": {"them": 1}}',
}


@pytest.mark.parametrize("said", OTHERS.values(), ids=OTHERS)
def test_a_memory_that_another_version_wrote_whole_is_none(kept: Path, file: Path, said: str) -> None:
    kept.write_text(f"{hashlib.sha256(said.encode()).hexdigest()}\n{said}")
    assert recalled(kept, file) is None
