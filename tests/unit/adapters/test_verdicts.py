"""What was verified is remembered by its bytes; a memory that is damaged, lost or out of reach is none."""

from pathlib import Path

import pytest

from bento.adapters import verdicts
from bento.adapters.verdicts import Verdicts


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "verdicts"


def known(kept: Path, document: bytes = b"one", *about: str, rules: str = "rules") -> bool:
    found = Verdicts(kept, rules)
    return found.about(*about).has("word", document)


def remember(kept: Path, *documents: bytes, whole: bool = False) -> None:
    found = Verdicts(kept, "rules")
    for document in documents:
        found.about().add("word", document)
    found.save(whole=whole)


def test_what_is_in_order_is_known_for_the_same_bytes_questions_and_rules_only(kept: Path) -> None:
    found = Verdicts(kept, "rules")
    about = found.about("acme", "key")
    assert not about.has("word", b"one")
    about.add("word", b"one")
    assert about.has("word", b"one")
    assert not about.has("another", b"one")
    found.save(whole=False)
    assert known(kept, b"one", "acme", "key")
    assert not known(kept, b"one.", "acme", "key")
    assert not known(kept, b"one", "acme")
    assert not known(kept, b"one", "acmekey")
    assert not known(kept, b"one", "key", "acme")
    assert not known(kept, b"key')\none", "acme")
    assert not known(kept, b"one", "acme", "key", rules="others")


def test_a_damaged_memory_is_none(kept: Path) -> None:
    remember(kept, b"one", b"two")
    whole = kept.read_bytes()
    for at in range(0, len(whole), 7):
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert not known(kept)
        assert not known(kept, b"two")
    for data in (b"", whole[:-1], whole + whole, b"\xff" * 100):
        kept.write_bytes(data)
        assert not known(kept)
    kept.write_bytes(whole)
    assert known(kept)


def test_where_it_can_t_be_kept_nothing_is_remembered_and_no_folder_is_made(tmp_path: Path) -> None:
    remember(tmp_path / "no/verdicts", b"one")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "verdicts").mkdir()
    remember(tmp_path / "verdicts", b"one")
    assert not known(tmp_path / "verdicts")
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts"]


def test_after_a_look_at_everything_the_rest_is_forgotten_and_else_it_stays(kept: Path) -> None:
    remember(kept, b"one")
    remember(kept, b"two")
    assert known(kept)
    assert known(kept, b"two")
    remember(kept, b"three", whole=True)
    assert [known(kept, one) for one in (b"one", b"two", b"three")] == [False, False, True]


def test_it_does_not_grow_without_end(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_MOST", 3)
    for number in range(5):
        remember(kept, b"%d" % number, b"more %d" % number)
    assert len(kept.read_text().splitlines()) == 1 + 3
    assert known(kept, b"4")
    assert known(kept, b"more 4")
    found = Verdicts(kept, "rules")
    assert not known(kept, b"0"), "the oldest goes first"
    about = found.about()
    for number in range(5):
        about.add("word", b"%d" % number)
    assert [about.has("word", b"%d" % number) for number in range(5)] == [False, False, True, True, True]
    monkeypatch.setattr(verdicts, "_MOST", 2)
    assert not known(kept, b"4"), "a file that is too large is none"
