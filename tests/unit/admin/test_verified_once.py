"""`bento status` verifies the same bytes once, and says what it would say if it verified them each time."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from unit.admin.test_rollback_plan import Desk
from unit.samples import SYSTEM, WEB, key_file, public, report

from bento.adapters import signatures, watch
from bento.admin import watching
from bento.admin.inventory import load_trust
from bento.admin.standing import read_standing
from bento.admin.status import HostStatus, status
from bento.admin.workspace import Workspace
from bento.errors import InputError
from bento.models.report import Heartbeat
from bento.models.signed import SignedDocument
from bento.models.trust import NAMESPACE_RELEASE, NAMESPACE_REPORT
from bento.names import HostName

DB = HostName("db")


@dataclass
class Place(Desk):
    """A fleet where the host web has a release, three reports on it and before it, and a sign of life."""

    verified: int = 0
    opened: list[str] = field(default_factory=list)

    @property
    def reports(self) -> Path:
        return self.root.parent / "publish/web/reports"

    def fill(self) -> None:
        serial = self.publish("one", token="a")
        for counter in (1, 2):
            self.put(f"{counter:020}.report", report(counter, serial=serial - 1).line)
        self.put(f"{3:020}.report", report(3, serial=serial).line)
        self.beat(3)

    def beat(self, after: int, **changes: Any) -> None:
        said = {"fleet": "acme", "host": WEB, "after": after, "time": self.now, "serial": None, "running": SYSTEM}
        self.put("heartbeat", Heartbeat(**{**said, **changes}).line)

    def put(self, name: str, line: bytes, key: int = 11, host: HostName = WEB) -> None:
        signed = signatures.sign(line, [key_file(self.root.parent / f"key{key}", key)], NAMESPACE_REPORT)
        reports = self.root.parent / f"publish/{host}/reports"
        reports.mkdir(parents=True, exist_ok=True)
        (reports / name).write_bytes(signed.raw)

    def look(self, *names: HostName) -> tuple[HostStatus, ...]:
        self.verified = 0
        fleet = self.fleet
        return status(fleet, load_trust(self.root), names or tuple(fleet.hosts))

    def settle(self, old: str, new: str, name: str = "bento.toml") -> None:
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))


@pytest.fixture
def place(fleet_root: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("XDG_STATE_HOME", str(fleet_root.parent / "state"))
    (fleet_root.parent / "publish").mkdir()
    made = Place(fleet_root)
    real = signatures.verified_here

    def counted(document: SignedDocument, *asked: Any) -> bool:
        made.verified += 1
        return real(document, *asked)

    monkeypatch.setattr(signatures, "verified_here", counted)
    made.fill()
    return made


def web(found: tuple[HostStatus, ...]) -> HostStatus:
    return next(one for one in found if one.host.name == WEB)


def test_a_second_look_verifies_nothing_and_says_the_same(place: Place) -> None:
    first = place.look()
    assert web(first).state.state == "up to date"
    assert place.verified == 4, "a release, a heartbeat, and two of three reports"
    assert place.look() == first
    assert place.verified == 0


def test_a_new_heartbeat_is_all_that_is_verified_then(place: Place) -> None:
    place.look()
    for number in range(3):
        place.beat(3, running="/nix/store/other", time=place.now + 300 + number)
        assert web(place.look()).state.state == "drifted"
        assert place.verified == 1


def test_a_changed_byte_is_seen_whatever_the_file_s_times_say(place: Place) -> None:
    place.look()
    for name, said in ((f"{3:020}.report", "1 of its reports"), ("heartbeat", "its heartbeat")):
        path, whole = place.reports / name, (place.reports / name).read_bytes()
        before = path.stat()
        path.write_bytes(whole.replace(b'"acme"', b'"Acme"'))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        assert web(place.look()).notes == (f"{said} can't be verified",)
        path.write_bytes(whole)
    assert web(place.look()).notes == ()


def test_what_can_t_be_verified_is_verified_again_each_time_and_never_taken_for_good(place: Place) -> None:
    place.put(f"{4:020}.report", report(4, outcome="failed").line, key=99)
    (place.root.parent / "publish/web/release/manifest").write_bytes(b"{}\n")
    first = place.look()
    again = place.verified
    assert web(first).state.state == "not published"
    assert "1 of its reports can't be verified" in web(first).notes
    assert place.look() == first
    assert 0 < place.verified <= again


def test_a_signed_release_in_another_spelling_is_refused_however_often_it_is_looked_at(place: Place) -> None:
    """By status, and by a deploy, which remembers who signed."""
    whole = place.look()
    manifest = place.root.parent / "publish/web/release/manifest"
    other = place.manifest().line.replace(b'":', b'": ', 1)
    manifest.write_bytes(signatures.sign(other, place.fleet.signing_keys, NAMESPACE_RELEASE).raw)
    for _ in range(2):
        assert web(place.look()).notes == ("the manifest is not in canonical form",)
        stamps = Workspace(place.root).stamps()
        with pytest.raises(InputError, match="not in canonical form"):
            read_standing(place.folder, WEB, load_trust(place.root), stamps)
        stamps.save(whole=False)
    assert web(whole).notes == ()


def test_what_is_good_of_one_host_is_not_of_another_nor_in_another_s_place(place: Place) -> None:
    place.look()
    shutil.copytree(place.root.parent / "publish/web", place.root.parent / "publish/db")
    (found,) = place.look(DB)
    assert found.state.state == "not published"
    assert "3 of its reports can't be verified" in found.notes
    # a heartbeat has no place among the reports
    shutil.copy(place.reports / "heartbeat", place.reports / f"{4:020}.report")
    assert web(place.look()).notes == ("1 of its reports can't be verified",)


def test_a_host_of_another_name_with_the_same_key_has_said_nothing_yet(place: Place) -> None:
    place.look()
    place.settle("[hosts.web]", "[hosts.shop]")
    (place.root.parent / "publish/web").rename(place.root.parent / "publish/shop")
    (found, _) = place.look()
    assert (found.host.name, found.published, found.state.last_seen) == ("shop", None, None)
    assert "3 of its reports can't be verified" in found.notes


def test_a_key_or_a_signer_that_is_no_longer_one_s_counts_no_more(place: Place) -> None:
    place.look()
    place.settle(public(11).line, public(15).line)
    found = web(place.look())
    assert found.notes == ("3 of its reports can't be verified", "its heartbeat can't be verified")
    assert found.state.state == "new machine"
    place.settle(f'signers = ["{public(1).line}"]', f'signers = ["{public(2).line}"]', "utils/trust.toml")
    assert web(place.look()).published is None


def test_another_fleet_s_words_are_not_this_one_s(place: Place) -> None:
    place.look()
    place.settle('"acme"', '"other"', "utils/trust.toml")
    found = web(place.look())
    assert (found.published, found.state.report, found.state.last_seen) == (None, None, None)


def test_a_look_at_one_host_leaves_the_others_known(place: Place) -> None:
    place.put(f"{1:020}.report", report(1, host=DB).line, key=12, host=DB)
    place.look()
    assert place.verified == 5
    place.beat(3, time=place.now + 300)
    place.look(WEB)
    place.look()
    assert place.verified == 0


@contextmanager
def reads(place: Place, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Note each file and folder that is opened under the publish folder, by its path in there."""
    real: Callable[..., int] = os.open
    names: dict[int, str] = {}

    def opening(path: Any, *args: Any, dir_fd: int | None = None, **more: Any) -> int:
        made = real(path, *args, dir_fd=dir_fd, **more)
        names[made] = f"{names[dir_fd]}/{path}" if dir_fd is not None else str(path)
        if names[made].startswith(f"{place.root.parent}/publish/"):
            place.opened.append(names[made].removeprefix(f"{place.root.parent}/publish/"))
        return made

    with patch.context() as opened:
        opened.setattr(os, "open", opening)
        yield


def test_a_look_opens_what_a_state_follows_from_and_reads_none_of_it_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.look()
    asked: list[str] = []
    for name in ("read", "fstat", "listdir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: asked.append(name) or real(*args))
    (place.reports / "notes").write_text("nobody asks for this")
    fleet, trust = place.fleet, load_trust(place.root)
    asked.clear()
    with reads(place, monkeypatch):
        status(fleet, trust, [WEB])
    words = ["web/reports", "web/reports/heartbeat", f"web/reports/{3:020}.report"]
    assert place.opened == ["web/release/manifest", *words]
    assert sorted(asked) == ["fstat"] * 3 + ["listdir"] + ["read"] * 3
    (place.reports / "heartbeat").unlink()
    place.opened.clear()
    with reads(place, monkeypatch):
        status(fleet, trust, [WEB])
    assert "web/reports/heartbeat" not in place.opened, "the folder has none"


def test_once_the_first_report_about_a_release_is_known_none_before_it_is_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reads(place, monkeypatch):
        before = place.look()
        assert f"web/reports/{2:020}.report" in place.opened
    (place.reports / f"{2:020}.report").unlink()
    with reads(place, monkeypatch):
        place.opened.clear()
        assert place.look() == before
        assert place.verified == 0
        assert f"web/reports/{1:020}.report" not in place.opened
    serial = place.manifest().serial
    place.put(f"{4:020}.report", report(4, serial=serial, outcome="failed").line)
    for _ in range(2):
        found = web(place.look()).state
        assert (found.state, found.extra_runs, found.committed) == ("failing", 1, serial)


def test_a_report_that_can_t_be_verified_is_told_of_at_each_look(place: Place) -> None:
    (place.reports / f"{3:020}.report").rename(place.reports / f"{4:020}.report")
    place.put(f"{3:020}.report", report(3).line, key=99)
    first = place.look()
    assert web(first).notes == ("1 of its reports can't be verified",)
    assert place.look() == first


def hosts_of(opened: list[str]) -> set[str]:
    return {path.split("/")[0] for path in opened}


def test_watching_reads_the_host_that_reported_and_no_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_SETTLE", 0)
    shutil.copytree(place.root.parent / "publish/web", place.root.parent / "publish/db")
    fleet = place.fleet
    with reads(place, monkeypatch):
        states = watching.watch(fleet, load_trust(place.root), (WEB, DB), 60)
        next(states)
        assert hosts_of(place.opened) == {"web", "db"}
        place.put(f"{4:020}.report", report(4, serial=place.manifest().serial, outcome="failed").line)
        place.opened.clear()
        place.verified = 0
        found = next(states).hosts
        assert hosts_of(place.opened) == {"web"}
        assert place.verified == 1, "what was there before is not verified again"
        assert [one.state.state for one in found] == ["failing", "not published"]
        states.close()  # type: ignore[attr-defined] # a generator


def test_who_can_t_write_the_state_folder_sees_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.look()
    state = place.root.parent / "state"
    shutil.rmtree(state)
    assert place.look() == first
    assert not state.exists(), "who only looks leaves nothing behind"
    state.write_text("no folder")
    assert place.look() == first


def test_a_damaged_memory_is_none(place: Place) -> None:
    first = place.look()
    (kept,) = (place.root.parent / "state").rglob("verdicts")
    for data in (b"", b"x" * 65, json.dumps([1]).encode(), kept.read_bytes()[:-65]):
        kept.write_bytes(data)
        assert place.look() == first
        assert place.verified == 4
