"""Several publish targets, and what this machine remembers: one signed release everywhere, and no way back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from unit.admin.test_publish import DAY, START, Place
from unit.samples import WEB, digest

from bento.adapters.folder import PublishFolder
from bento.adapters.protocol import ServerAway
from bento.admin import memory as memory_module
from bento.admin.memory import Known, Memory
from bento.admin.shares import Shares
from bento.admin.standing import read_published
from bento.errors import BentoError, EnvironmentFailed
from bento.models.signed import sha256
from bento.names import Digest, HostName, Serial

DIGEST = digest("a line")


class Mirror(PublishFolder):
    """A folder that can be told to fail as a server does, at one of its works."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        super().__init__(root)
        self.fails_at: str | None = None

    def _maybe(self, what: str) -> None:
        if self.fails_at in (what, "all"):
            raise ServerAway(f"{self.name}: the connection broke")

    def read_manifest(self, host: HostName) -> bytes | None:
        self._maybe("read_manifest")
        return super().read_manifest(host)

    def present(self, host: HostName, wanted: Mapping[Digest, int]) -> frozenset[Digest]:
        self._maybe("present")
        return super().present(host, wanted)

    def put_objects(
        self, host: HostName, objects: Sequence[tuple[Digest, bytes]], manifest: bytes | None = None
    ) -> None:
        self._maybe("put_objects")
        super().put_objects(host, objects, manifest)

    def put_manifest(self, host: HostName, raw: bytes) -> None:
        self._maybe("put_manifest")
        super().put_manifest(host, raw)

    def drop_objects(self, host: HostName, names: Iterable[str]) -> None:
        self._maybe("drop_objects")
        super().drop_objects(host, names)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def mirrors(tmp_path: Path) -> tuple[Mirror, Mirror]:
    return Mirror(tmp_path / "a"), Mirror(tmp_path / "b")


def objects(mirror: Mirror) -> set[str]:
    return {path.name for path in (mirror.root / "web/release/objects").iterdir()}


def test_all_mirrors_get_the_same_signed_manifest_and_all_objects(place: Place, mirrors: tuple[Mirror, Mirror]) -> None:
    a, b = mirrors
    done = place.publish(place.content("one", "sealed"), to=mirrors)
    assert (done.missed, done.healed) == ({}, ())
    assert a.read_manifest(WEB) == b.read_manifest(WEB) is not None
    assert objects(a) == objects(b) == {digest("one"), digest("sealed")}
    assert place.publish(place.content("one", "sealed"), START + 5, to=mirrors).changed is None


@pytest.mark.parametrize("where", ["read_manifest", "present", "put_objects", "put_manifest", "all"])
@pytest.mark.parametrize("bad", [0, 1])
def test_a_failing_mirror_is_named_harms_no_other_and_the_next_deploy_heals_it(
    place: Place, mirrors: tuple[Mirror, Mirror], where: str, bad: int
) -> None:
    failing, good = mirrors[bad], mirrors[1 - bad]
    place.publish(place.content("one", "sealed"), to=mirrors)
    old = failing.read_manifest(WEB)
    failing.fails_at = where
    done = place.publish(place.content("two", "other"), START + 10, to=mirrors)
    assert done.missed.keys() == {failing.name}
    assert done.changed == ("configuration", "secrets")
    found = read_published(good, WEB, place.trust)
    assert found is not None
    assert found[1].serial == done.serial
    failing.fails_at = None
    assert failing.read_manifest(WEB) == old
    again = place.publish(place.content("two", "other"), START + 20, to=mirrors)
    assert (again.changed, again.healed, again.missed) == (None, (failing.name,), {})
    assert failing.read_manifest(WEB) == good.read_manifest(WEB) == found[0].raw
    assert {digest("two"), digest("other")} <= objects(failing)
    last = place.publish(place.content("two", "other"), START + 30, to=mirrors)
    assert (last.changed, last.healed) == (None, ())


def test_a_mirror_without_an_object_is_healed_from_what_is_here(place: Place, mirrors: tuple[Mirror, Mirror]) -> None:
    content = place.content("one", "sealed")
    serial = place.publish(content, to=mirrors).serial
    (mirrors[1].root / "web/release/objects" / digest("sealed")).write_bytes(b"damage")
    done = place.publish(content, START + 5, to=mirrors)
    assert (done.changed, done.healed, done.serial) == (None, (mirrors[1].name,), serial)
    assert mirrors[1].read_object(WEB, digest("sealed"), 100) == b"sealed"


def test_a_host_that_fetches_while_a_mirror_is_healed_can_go_on(place: Place, mirrors: tuple[Mirror, Mirror]) -> None:
    place.publish(place.content("old", "sealed"), to=mirrors)
    mirrors[1].fails_at = "all"
    for number in range(1, 6):
        place.publish(place.content(f"new {number}"), START + number * 2 * DAY, to=mirrors)
    mirrors[1].fails_at = None
    assert place.publish(place.content("new 5"), START + 11 * DAY, to=mirrors).healed == (mirrors[1].name,)
    assert {digest("old"), digest("sealed"), digest("new 5")} <= objects(mirrors[1])
    assert digest("old") not in objects(mirrors[0])


def test_when_all_fail_nothing_is_published_and_the_first_error_is_raised(
    place: Place, mirrors: tuple[Mirror, Mirror]
) -> None:
    place.publish(place.content("one"), to=mirrors)
    before = [mirror.read_manifest(WEB) for mirror in mirrors]
    for where in ("all", "put_objects", "put_manifest"):
        mirrors[0].fails_at = mirrors[1].fails_at = where
        with pytest.raises(BentoError, match=mirrors[0].name):
            place.publish(place.content("two"), START + 5, to=mirrors)
    mirrors[0].fails_at = mirrors[1].fails_at = None
    assert [mirror.read_manifest(WEB) for mirror in mirrors] == before


def test_what_can_t_be_tidied_is_said_and_the_release_is_out(place: Place, mirrors: tuple[Mirror, Mirror]) -> None:
    place.publish(place.content("one"), to=mirrors)
    mirrors[0].fails_at = "drop_objects"
    done = place.publish(place.content("two"), START + 5, to=mirrors)
    assert (done.changed, done.missed) == (("configuration",), {})
    assert "couldn't be removed" in "".join(done.warnings)


def test_no_serial_ever_stands_for_two_releases(place: Place, mirrors: tuple[Mirror, Mirror]) -> None:
    a, b = mirrors
    seen: dict[int, bytes] = {}
    for number in range(12):  # each mirror away in turn, both changed contents, the same second
        for mirror, away in ((a, number % 3 == 1), (b, number % 3 == 2)):
            mirror.fails_at = "all" if away else None
        place.publish(place.content(f"text {number % 4}"), START, to=mirrors)
        for mirror in mirrors:
            mirror.fails_at = None
            found = read_published(mirror, WEB, place.trust)
            if found is not None:
                assert seen.setdefault(found[1].serial, found[0].line) == found[0].line


def test_a_mirror_that_was_away_never_gets_its_old_release_confirmed(
    place: Place, mirrors: tuple[Mirror, Mirror]
) -> None:
    a, b = mirrors
    place.publish(place.content("one"), to=mirrors)
    a.fails_at = "all"
    newer = place.publish(place.content("two"), START + 5, to=mirrors).serial
    a.fails_at, b.fails_at = None, "all"
    # `a` still has "one", and "one" is what is wanted again: hosts that saw "two" would refuse it
    done = place.publish(place.content("one"), START + 5, to=mirrors)
    assert done.serial > newer
    assert "older" in "".join(done.warnings)
    b.fails_at = None
    assert place.publish(place.content("one"), START + 6, to=mirrors).healed == (b.name,)
    assert a.read_manifest(WEB) == b.read_manifest(WEB)


@pytest.mark.parametrize("wanted", ["one", "two"])
def test_rivals_under_one_serial_are_replaced_by_a_third(
    place: Place, mirrors: tuple[Mirror, Mirror], wanted: str
) -> None:
    a, b = mirrors
    place.publish(place.content("one"), to=[a])
    (place.path / "memory").unlink()  # another admin, who reaches the other mirror only
    place.publish(place.content("two"), to=[b])
    (place.path / "memory").unlink()
    done = place.publish(place.content(wanted), to=mirrors)
    assert done.serial > START
    assert a.read_manifest(WEB) == b.read_manifest(WEB)


def put_back(place: Place) -> Callable[[], None]:
    raw = place.raw()
    return lambda: place.folder.put_manifest(WEB, raw)


def test_an_older_release_that_was_put_back_is_noticed_and_published_over(place: Place) -> None:
    """Its content is today's, so it looked unchanged; hosts refuse it, for they have seen a newer one."""
    place.publish(place.content("one"))
    restore = put_back(place)
    newer = place.publish(place.content("two"), START + 5).serial
    place.publish(place.content("one"), START + 6)
    restore()
    done = place.publish(place.content("one"), START + 6)
    assert done.changed is not None
    assert done.serial > newer + 1
    assert "older" in "".join(done.warnings)
    assert place.publish(place.content("one"), START + 7).changed is None


def test_serials_go_on_after_a_tampered_manifest_and_after_a_lost_server(place: Place) -> None:
    for number in range(5):
        last = place.publish(place.content(f"text {number}")).serial
    assert last == START + 4
    place.folder.put_manifest(WEB, b"garbage\n")
    after = place.publish(place.content("text 4")).serial
    assert after == last + 1
    (place.folder.root / "web/release/manifest").unlink()
    done = place.publish(place.content("text 4"))
    assert done.serial == after + 1
    assert "is gone" in "".join(done.warnings)


def test_a_serial_that_was_signed_but_not_published_is_not_used_again(place: Place, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "m")
    first = place.publish(place.content("one"), to=[mirror]).serial
    mirror.fails_at = "put_manifest"
    with pytest.raises(BentoError):
        place.publish(place.content("two"), to=[mirror])
    mirror.fails_at = None
    done = place.publish(place.content("three"), to=[mirror])
    assert done.serial == first + 2
    assert done.warnings == ()


def test_another_admin_s_newer_release_is_taken_as_it_is(place: Place) -> None:
    place.publish(place.content("one"))
    mine = (place.path / "memory").read_bytes()
    place.publish(place.content("two"), START + 50)
    (place.path / "memory").write_bytes(mine)
    assert place.publish(place.content("two"), START + 60).changed is None
    assert place.memory.last(WEB) == Known(Serial(START + 50), Serial(START + 50), sha256(place.manifest().line))


def test_another_admin_s_newer_release_that_says_something_else_is_not_replaced_silently(place: Place) -> None:
    assert not place.publish(place.content("one")).took_over
    assert not place.publish(place.content("mine"), START + 10).took_over
    mine = (place.path / "memory").read_bytes()
    place.publish(place.content("theirs"), START + 50)
    (place.path / "memory").write_bytes(mine)
    assert place.publish(place.content("mine"), START + 60).took_over
    assert not place.publish(place.content("mine again"), START + 70).took_over
    (place.path / "memory").unlink()  # a new machine
    assert place.publish(place.content("from a new machine"), START + 80).took_over


@pytest.mark.parametrize(
    "line",
    [
        "",
        "web",
        "web 5 4",
        "web x 4 -",
        "web 5 x -",
        "web 5 4 abc",
        f"web 5 4 {DIGEST} ",
        "web 0 - -",
        "\x00",
        "web \xb2 - -",
        "w/b 5 - -",
        "web " + "9" * 5000 + " - -",
    ],
)
def test_a_damaged_line_of_the_memory_is_none_and_harms_no_other(tmp_path: Path, line: str) -> None:
    memory = tmp_path / "memory"
    memory.write_text(f"db 5 4 {DIGEST}\n{line}\nrouter 7 - -\n")
    assert Memory(memory).last(WEB) is None
    assert Memory(memory).last(HostName("db")) == Known(Serial(5), Serial(4), DIGEST)
    assert Memory(memory).last(HostName("router")) == Known(Serial(7))
    assert Memory(tmp_path / "nothing").last(WEB) is None


def test_what_was_published_is_remembered_with_all_other_hosts_in_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[Path] = []
    real = memory_module.store

    def kept(path: Path, data: bytes, mode: int) -> None:
        writes.append(path)
        real(path, data, mode)

    monkeypatch.setattr(memory_module, "store", kept)
    memory = Memory(tmp_path / "state/memory")
    names = [HostName(f"host-{number}") for number in range(20)]
    memory.will_publish(dict.fromkeys(names, Serial(7)))
    assert Memory(memory.path).last(names[3]) == Known(Serial(7))
    for name in names:
        memory.has_published(name, Serial(7), DIGEST)
    memory.keep()
    memory.keep()
    assert len(writes) == 2
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert all(Memory(memory.path).last(name) == Known(Serial(7), Serial(7), DIGEST) for name in names)


def test_what_could_not_be_kept_is_kept_the_next_time(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    memory = Memory(tmp_path / "memory")
    with pytest.raises(EnvironmentFailed, match="can't write"):
        memory.will_publish({WEB: Serial(7)})
    (tmp_path / "memory").rmdir()
    memory.keep()
    assert Memory(tmp_path / "memory").last(WEB) == Known(Serial(7))


def test_a_release_that_was_cut_off_before_it_was_noted_is_this_machine_s_all_the_same(place: Place) -> None:
    place.publish(place.content("one"))
    before = (place.path / "memory").read_text()
    serial = place.publish(place.content("two"), START + 50).serial
    old = before.split()
    (place.path / "memory").write_text(f"web {serial} {old[2]} {old[3]}\n")  # signed, and no more
    done = place.publish(place.content("three"), START + 60)
    assert (done.took_over, done.warnings) == (False, ())


def test_a_host_s_old_reports_go_at_a_deploy_even_if_nothing_is_new(place: Place) -> None:
    place.publish(place.content("one"))
    reports = place.folder.root / "web/reports"
    for counter in range(300):
        (reports / f"{counter:020}.report").write_bytes(b"x")
    (reports / "heartbeat").write_bytes(b"x")
    assert place.publish(place.content("one"), START + DAY).changed is None
    left = sorted(path.name for path in reports.iterdir())
    assert left == [f"{counter:020}.report" for counter in range(100, 300)] + ["heartbeat"]


def test_a_host_that_waits_for_another_s_upload_puts_its_own_if_that_fails(place: Place, tmp_path: Path) -> None:
    mirror, shares, db = Mirror(tmp_path / "m"), Shares(), HostName("db")
    mirror.ensure_host(WEB)
    mirror.ensure_host(db)
    mirror.fails_at = "put_objects"
    with pytest.raises(ServerAway), shares.turn(mirror, digest("x"), WEB):
        mirror.put_objects(WEB, [(digest("x"), b"x")])
    mirror.fails_at = None
    with shares.turn(mirror, digest("x"), db) as linked:
        assert not linked
        mirror.put_objects(db, [(digest("x"), b"x")])
    assert mirror.read_object(db, digest("x"), 10) == b"x"
