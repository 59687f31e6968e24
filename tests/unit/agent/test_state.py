"""A host's memory: it reads back what was written, and keeps no more than it should."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import FLOOR, JOURNAL, digest, digests, manifest, quick, serials

from bento.agent.state import Damaged, State
from bento.core.journal import Journal, Point
from bento.core.spool import MOST, MOST_BYTES
from bento.core.trust_rules import Floor
from bento.errors import BentoError, EnvironmentFailed, WorkFailed
from bento.models.signed import SignedDocument
from bento.names import Serial

paths = st.text(min_size=1, max_size=20)
points = st.builds(Point, st.none() | paths, st.none() | serials)
floors = st.builds(
    Floor,
    serials,
    st.none() | digests,
    st.sampled_from(["accepted", "failed", "finished"]),
    st.integers(0, 1_000_000),
    st.none() | digests,
    st.none() | serials,
)
journals = st.builds(
    Journal,
    phase=st.sampled_from(["idle", "switching", "committing"]),
    committed=points,
    old=st.none() | points,
    new=st.none() | points,
    old_profile=st.none() | paths,
    systems=st.dictionaries(paths, serials, max_size=4),
    going_back=st.booleans(),
)


def test_a_new_host_remembers_nothing(state: State) -> None:
    assert state.floor() is None
    assert state.journal() == Journal()
    assert state.last_counter() == 0
    assert state.last_told() is None
    assert state.spooled() == []


@quick
@given(floors)
def test_a_floor_reads_back_the_same(lasting: State, floor: Floor) -> None:
    lasting.write_journal(Journal(committed=Point("/a", Serial(1))))
    lasting.write_floor(floor)
    assert lasting.floor() == floor


@quick
@given(journals)
def test_a_journal_reads_back_the_same(lasting: State, journal: Journal) -> None:
    lasting.write_journal(journal)
    assert lasting.journal() == journal


def test_only_root_may_look(tmp_path: Path) -> None:
    umask = os.umask(0o000)
    try:
        made = State(tmp_path / "deep/state")
        made.prepare()
        made.write_floor(FLOOR)
        made.put_in_spool(1, b"x")
        made.keep_manifest(Serial(1), b"x")
    finally:
        os.umask(umask)
    for path in (made.root, *made.root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_that_was_left_open_is_closed_again(state: State) -> None:
    state.root.chmod(0o755)
    state.prepare()
    assert state.root.stat().st_mode & 0o7777 == 0o700


def test_the_counter_only_rises_and_is_on_the_disk_before_it_is_used(state: State) -> None:
    used = [state.next_counter() for _ in range(3)]
    used += [State(state.root).next_counter() for _ in range(3)]
    assert used == [1, 2, 3, 4, 5, 6]
    assert State(state.root).last_counter() == 6


def test_a_counter_is_at_least_the_time_so_that_a_host_that_lost_its_state_goes_on_above(state: State) -> None:
    assert state.next_counter(1_700_000_000) == 1_700_000_000
    assert state.next_counter(1_700_000_000) == 1_700_000_001
    assert state.next_counter(1_600_000_000) == 1_700_000_002


def test_a_journal_too_large_to_be_read_again_is_not_written(state: State) -> None:
    state.write_journal(JOURNAL)
    huge = replace(JOURNAL, systems={f"/nix/store/{'a' * 60}-{number}": Serial(1) for number in range(15_000)})
    with pytest.raises(BentoError, match=r"journal\.json would grow") as error:
        state.write_journal(huge)
    assert "nix-collect-garbage" in error.value.hints[0]
    assert state.journal() == JOURNAL


def test_the_spool_comes_back_oldest_first_and_a_sent_report_is_gone(state: State) -> None:
    for counter in (10, 9, 100):
        state.put_in_spool(counter, str(counter).encode())
    assert [path.read_bytes() for path in state.spooled()] == [b"9", b"10", b"100"]
    state.sent(state.spooled()[0])
    assert [path.read_bytes() for path in state.spooled()] == [b"10", b"100"]
    assert [path.name for path in state.spooled()] == [f"{10:020}.report", f"{100:020}.report"]


def test_a_long_time_offline_keeps_the_newest_reports(state: State) -> None:
    for counter in range(1, MOST + 11):
        state.put_in_spool(counter, str(counter).encode())
    assert [path.read_bytes() for path in state.spooled()] == [str(n).encode() for n in range(11, MOST + 11)]


def test_large_reports_are_bounded_together_and_the_newest_always_stays(state: State) -> None:
    for counter in range(1, 6):
        state.put_in_spool(counter, b"x" * (MOST_BYTES // 3))
    assert [path.name[-8] for path in state.spooled()] == ["3", "4", "5"]
    state.put_in_spool(6, b"x" * (MOST_BYTES + 1))
    assert [path.name[-8] for path in state.spooled()] == ["6"]


def test_a_manifest_is_kept_as_it_came(state: State) -> None:
    document = SignedDocument(
        manifest(7).line, (b"-----BEGIN SSH SIGNATURE-----\nQQ==\n-----END SSH SIGNATURE-----\n",)
    )
    state.keep_manifest(Serial(7), document.raw)
    assert (state.manifests / "7").read_bytes() == document.raw
    assert state.manifest_line(Serial(7)) == document.line
    with pytest.raises(Damaged, match="8 is gone"):
        state.manifest_line(Serial(8))
    (state.manifests / "7").write_bytes(b"half")
    with pytest.raises(BentoError, match="stored manifest 7"):
        state.manifest_line(Serial(7))


def test_pruning_keeps_what_is_named_and_nothing_else(state: State) -> None:
    for serial in (1, 2, 3):
        state.keep_manifest(Serial(serial), b"x")
    for one in ("a", "b"):
        (state.objects / digest(one)).write_bytes(b"x")
    (state.objects / ".fetch-left").write_bytes(b"half")
    (state.config / digest("b") / "hosts").mkdir(parents=True)
    (state.config / digest("b") / "hosts/half").write_bytes(b"of a build that was killed")
    state.write_floor(FLOOR)
    state.prune({Serial(2)}, {digest("b")})
    assert [path.name for path in state.manifests.iterdir()] == ["2"]
    assert [path.name for path in state.objects.iterdir()] == [digest("b")]
    assert list(state.config.iterdir()) == []
    assert state.floor() == FLOOR
    assert state.serials() == {2}


def test_pruning_takes_what_a_kill_in_mid_write_left_and_not_what_is_being_written(state: State) -> None:
    for folder in (state.root, state.spool):
        for name in (".0123456789abcdef.tmp", ".fedcba9876543210.tmp"):
            (folder / name).write_bytes(b"half")
        os.utime(folder / ".0123456789abcdef.tmp", (1_000_000, 1_000_000))
    state.prune((), ())
    for folder in (state.root, state.spool):
        assert [path.name for path in folder.glob(".*.tmp")] == [".fedcba9876543210.tmp"]


def test_what_the_disk_does_not_give_is_damage_and_not_a_trouble_of_the_moment(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.write_floor(FLOOR)
    state.keep_manifest(Serial(7), b"x\n")

    def unreadable(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "read", unreadable)
    with pytest.raises(Damaged, match="Input/output error"):
        state.written_floor()
    with pytest.raises(WorkFailed, match="Input/output error"):  # a lost manifest's objects would be forgotten
        state.manifest(Serial(7))


def test_what_was_told_is_remembered_until_it_is_over(state: State) -> None:
    state.write_told(digest("it"))
    assert state.last_told() == digest("it")
    state.write_told(None)
    state.write_told(None)
    assert state.last_told() is None


def test_a_disk_that_lets_nothing_be_removed_is_an_error_that_names_the_file(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: Path, **_: bool) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    state.put_in_spool(1, b"a report")
    state.write_told(digest("it"))
    monkeypatch.setattr(Path, "unlink", refused)
    for work in (
        lambda: state.sent(state.spooled()[0]),
        lambda: state.write_told(None),
        lambda: state.write_suspended_until(None),
    ):
        with pytest.raises(EnvironmentFailed, match="Read-only file system"):
            work()


def test_a_state_folder_that_can_t_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BentoError, match="state folder"):
        State(tmp_path / "file/state").prepare()
