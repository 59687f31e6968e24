"""The publish folder: objects and manifests as sshd and the hosts need them; whatever a host left there is harmless."""

import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest
from unit.samples import WEB, bound_by_modes, digest

from bento.adapters import folder as module
from bento.adapters.files import Busy
from bento.adapters.folder import PublishFolder
from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.signed import sha256
from bento.names import HostName

DB = HostName("db")
DATA = b"an object"
DIGEST = sha256(DATA)


@pytest.fixture
def target(tmp_path: Path) -> PublishFolder:
    made = PublishFolder(tmp_path / "publish")
    made.root.mkdir()
    made.ensure_host(WEB)
    return made


@pytest.fixture
def reports(target: PublishFolder) -> Path:
    return target.root / "web/reports"


def name(counter: int) -> str:
    return f"{counter:020}.report"


def test_a_host_s_folders_have_the_modes_that_sshd_and_the_agent_ask_for(target: PublishFolder) -> None:
    umask = os.umask(0o077)
    try:
        target.ensure_host(DB)
    finally:
        os.umask(umask)
    for path, mode in (("db", 0o755), ("db/release", 0o755), ("db/release/objects", 0o755), ("db/reports", 0o2770)):
        assert (target.root / path).stat().st_mode & 0o7777 == mode
    target.ensure_host(DB)


def test_the_file_of_accounts_says_what_the_system_says(tmp_path: Path) -> None:
    found = module.local_groups()
    assert found["root"] == 0
    for account in found:
        assert found[account] == pwd.getpwnam(account).pw_gid
    passwd = tmp_path / "passwd"
    passwd.write_bytes(
        b"web:x:7:8:::\nweb:x:9:9:::\n# db:x:1:2:::\n+::::::\n\xff\ndb:x:1\nlong:x:1:\xb2:::\nx:x:1:2::::\n"
    )
    assert module.local_groups(passwd) == {"web": 8, "# db": 2}
    assert module.local_groups(tmp_path / "gone") == {}


def test_an_account_that_the_file_lacks_is_asked_for_elsewhere(
    target: PublishFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def elsewhere(host: HostName) -> int | None:
        asked.append(host)
        return 77 if host == DB else None

    monkeypatch.setattr(module, "account_group", elsewhere)
    monkeypatch.setattr(module, "local_groups", lambda: {"web": 78})
    fresh = PublishFolder(target.root)
    assert fresh.complaints([WEB, DB, DB]) == ()
    assert asked == ["db"]
    assert "no account on this machine" in fresh.complaints([HostName("nobody_s")])[0]


def test_folders_that_can_t_be_made_are_named(tmp_path: Path) -> None:
    (tmp_path / "web").write_text("in the way")
    with pytest.raises(EnvironmentFailed, match="folders of web"):
        PublishFolder(tmp_path).ensure_host(WEB)


def test_what_was_put_is_there_whole_and_readable_by_the_host(target: PublishFolder) -> None:
    assert target.present(WEB, {DIGEST: len(DATA)}) == set()
    assert target.read_object(WEB, DIGEST, 100) is None
    assert target.read_manifest(WEB) is None
    umask = os.umask(0o077)
    try:
        target.put_objects(WEB, [(DIGEST, DATA)])
        target.put_manifest(WEB, b"line\n")
    finally:
        os.umask(umask)
    assert target.present(WEB, {DIGEST: len(DATA)}) == {DIGEST}
    assert target.read_object(WEB, DIGEST, 100) == DATA
    assert target.read_manifest(WEB) == b"line\n"
    for path in ("manifest", f"objects/{DIGEST}"):
        assert (target.root / "web/release" / path).stat().st_mode & 0o7777 == 0o644
    assert {p.name for p in (target.root / "web/release").rglob("*")} == {"manifest", "objects", DIGEST}


def test_a_manifest_is_replaced_not_rewritten(target: PublishFolder) -> None:
    target.put_manifest(WEB, b"old\n")
    with (target.root / "web/release/manifest").open("rb") as reader:
        target.put_manifest(WEB, b"new\n")
        assert reader.read() == b"old\n"
    assert target.read_manifest(WEB) == b"new\n"


def test_hosts_of_one_flake_share_one_file(target: PublishFolder) -> None:
    target.ensure_host(DB)
    target.put_objects(WEB, [(DIGEST, DATA)])
    assert target.share_object(DB, DIGEST, WEB)
    assert target.share_object(DB, DIGEST, WEB)
    web, db = (target.root / host / "release/objects" / DIGEST for host in ("web", "db"))
    assert web.stat().st_ino == db.stat().st_ino
    assert not target.share_object(DB, digest("missing"), WEB)
    assert [path.name for path in db.parent.iterdir()] == [DIGEST]


@pytest.mark.parametrize("damage", [b"", DATA + b"x", DATA[::-1]], ids=["empty", "longer", "same size"])
def test_a_damaged_object_doesn_t_count_and_is_replaced(target: PublishFolder, damage: bytes) -> None:
    target.ensure_host(DB)
    target.put_objects(DB, [(DIGEST, DATA)])
    for replace_it in (
        lambda: target.put_objects(WEB, [(DIGEST, DATA)]),
        lambda: target.share_object(WEB, DIGEST, DB),
    ):
        (target.root / "web/release/objects" / DIGEST).unlink(missing_ok=True)
        (target.root / "web/release/objects" / DIGEST).write_bytes(damage)
        assert target.present(WEB, {DIGEST: len(DATA)}) == set()
        replace_it()
        assert target.present(WEB, {DIGEST: len(DATA)}) == {DIGEST}


def test_a_host_can_t_fill_its_reports_folder_for_good_and_nothing_else_is_touched(
    target: PublishFolder, reports: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for counter in range(30):
        (reports / name(counter)).write_bytes(b"x")
    (reports / name(3)).unlink()
    (reports / name(3)).mkdir()  # can't be unlinked
    (reports / name(2)).unlink()
    (reports / name(2)).symlink_to(mine)
    for other in ("heartbeat", ".heartbeat.tmp", "notes"):
        (reports / other).write_bytes(b"x")
    target.drop_reports_but(WEB, 20)
    left = {path.name for path in reports.iterdir()}
    assert left == {name(3), "heartbeat", ".heartbeat.tmp", "notes"} | {name(counter) for counter in range(10, 30)}
    assert mine.read_text() == "mine"
    target.drop_reports_but(HostName("nobody"), 20)


def test_garbage_goes_and_what_is_kept_stays(target: PublishFolder) -> None:
    target.put_objects(WEB, [(DIGEST, DATA), (digest("old"), DATA)])
    left_over = target.root / "web/release/objects/.0123.tmp"
    left_over.write_bytes(b"half")
    beside = target.root / "web/release/.0123.tmp"
    beside.write_bytes(b"half")
    assert target.old_objects(WEB, 0) == {DIGEST, digest("old"), left_over.name}
    target.drop_objects(WEB, {digest("old"), left_over.name})
    assert [path.name for path in left_over.parent.iterdir()] == [DIGEST]
    assert not beside.exists()


def test_two_publishers_don_t_write_at_once(target: PublishFolder) -> None:
    with target.locked(), pytest.raises(Busy, match="another deploy"), PublishFolder(target.root).locked():
        raise AssertionError("two hold it")
    with target.locked():
        pass
    assert (target.root / ".publisher").stat().st_mode & 0o7777 == 0o700


def test_a_missing_publish_folder_is_not_made_but_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="isn't there") as error, PublishFolder(tmp_path / "gone").locked():
        pass
    assert any("mkdir" in hint for hint in error.value.hints)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_a_link_or_too_large_is_refused(target: PublishFolder) -> None:
    manifest = target.root / "web/release/manifest"
    manifest.symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="published manifest of web"):
        target.read_manifest(WEB)
    manifest.unlink()
    with manifest.open("wb") as file:
        file.truncate(LIMITS.manifest + 1)
    with pytest.raises(InputError, match="larger"):
        target.read_manifest(WEB)


def test_the_heartbeat_comes_first_and_then_the_reports_newest_first(target: PublishFolder, reports: Path) -> None:
    for counter in (2, 10, 9, 10**19):
        (reports / name(counter)).write_bytes(str(counter).encode())
    (reports / "heartbeat").write_bytes(b"it lives")
    assert list(target.read_words(WEB)) == [b"it lives", b"10000000000000000000", b"10", b"9", b"2"]


def test_no_reports_folder_means_no_reports(target: PublishFolder) -> None:
    assert list(target.read_words(DB)) == [None]


@pytest.mark.timeout(60)
def test_a_hostile_report_is_a_none_and_the_others_are_read(
    target: PublishFolder, reports: Path, tmp_path: Path
) -> None:
    (tmp_path / "shadow").write_bytes(b"the admin's secret")
    (reports / name(9)).write_bytes(b"nine")
    (reports / name(8)).symlink_to(tmp_path / "shadow")
    os.mkfifo(reports / name(7))
    (reports / name(6)).write_bytes(b"six")
    (reports / name(6)).chmod(0o000)
    with (reports / name(5)).open("wb") as file:
        file.truncate(10**12)
    (reports / name(4)).mkdir()
    (reports / name(3)).symlink_to("/dev/zero")
    (reports / name(2)).write_bytes(b"x" * LIMITS.report)
    (reports / name(1)).write_bytes(b"one")
    with bound_by_modes():
        _, *found = target.read_words(WEB)
    assert found == [b"nine", None, None, None, None, None, None, b"x" * LIMITS.report, b"one"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["symlink", "fifo", "huge", "folder"])
def test_a_hostile_heartbeat_is_a_none(target: PublishFolder, reports: Path, kind: str) -> None:
    heartbeat = reports / "heartbeat"
    if kind == "symlink":
        heartbeat.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(heartbeat)
    elif kind == "folder":
        heartbeat.mkdir()
    else:
        heartbeat.write_bytes(b"x" * (LIMITS.report + 1))
    (reports / name(1)).write_bytes(b"one")
    assert list(target.read_words(WEB)) == [None, b"one"]


def test_other_names_among_the_reports_are_not_looked_at(target: PublishFolder, reports: Path) -> None:
    for other in ("$(reboot)", "a\nb.report", "1.report", name(1) + ".tmp", "x" * 20 + ".report", "²" * 20 + ".report"):
        (reports / other).write_bytes(b"x")
    os.mkfifo(os.fsencode(reports) + b"/\xff.report")
    assert list(target.read_words(WEB)) == [None]


def test_reports_behind_a_link_are_not_read(target: PublishFolder, reports: Path, tmp_path: Path) -> None:
    reports.rmdir()
    reports.symlink_to(tmp_path)
    with pytest.raises(WorkFailed, match="reports"):
        list(target.read_words(WEB))


def test_only_so_many_reports_are_looked_at(
    target: PublishFolder, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMITS", replace(LIMITS, reports=3))
    for counter in range(6):
        (reports / name(counter)).write_bytes(str(counter).encode())
    assert list(target.read_words(WEB)) == [None, b"5", b"4", b"3"]
