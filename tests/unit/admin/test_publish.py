"""Publishing: what is unchanged is not written, what is old is collected, what is broken is made whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from unit.samples import FLEET, SYSTEM, WEB, digest, key_file, public, secret

from bento.adapters.folder import PublishFolder
from bento.adapters.signatures import sign
from bento.adapters.transport import PublishTarget
from bento.admin.content import Content
from bento.admin.history import KEEP_SECONDS
from bento.admin.memory import Memory
from bento.admin.publish import Published
from bento.admin.shares import Shares
from bento.admin.signing import check_signers
from bento.admin.standing import read_published
from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento.models.manifest import ConfigRef, Manifest, Settings, parse_manifest
from bento.models.signed import sha256, split
from bento.models.trust import Trust
from bento.names import Digest, HostName
from rig.publishing import publish

DAY = KEEP_SECONDS
START = 1_700_000_000


@dataclass
class Place:
    """A publish folder and what publishing to it needs."""

    path: Path
    folder: PublishFolder = field(init=False)
    trust: Trust = field(default_factory=lambda: Trust(FLEET, (public(1),), ()))

    def __post_init__(self) -> None:
        (self.path / "publish").mkdir()
        self.folder = PublishFolder(self.path / "publish")
        self.key = key_file(self.path / "key", 1, pub=True)

    def content(self, text: str, *secrets: str, host: HostName = WEB, action: str = "switch") -> Content:
        tar = self.path / f"{digest(text)[:8]}.tar"
        tar.write_text(text)
        sealed = {sha256(one.encode()): one.encode() for one in secrets}
        refs = tuple(secret(f"s{n}", digest=key, size=len(data)) for n, (key, data) in enumerate(sealed.items()))
        config = ConfigRef(digest=digest(text), size=len(text), kind="flake", attribute="web")
        return Content(host, config, SYSTEM, refs, Settings.model_validate({"action": action}), tar, sealed)

    @property
    def memory(self) -> Memory:
        return Memory(self.path / "memory")

    def publish(
        self, content: Content, now: int = START, shares: Shares | None = None, to: Sequence[PublishTarget] = ()
    ) -> Published:
        targets = to or (self.folder,)
        return publish(targets, content, self.trust, (self.key,), now, self.memory, shares or Shares())

    def objects(self) -> set[str]:
        return {path.name for path in (self.folder.root / "web/release/objects").iterdir()}

    def raw(self) -> bytes:
        raw = self.folder.read_manifest(WEB)
        assert raw is not None
        return raw

    def manifest(self) -> Manifest:
        return parse_manifest(split(self.raw(), "it").line)

    def stamps(self) -> dict[str, tuple[int, int, int]]:
        """Of every file and folder: inode, mtime, ctime."""
        return {
            str(p): (p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_ctime_ns) for p in self.folder.root.rglob("*")
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_first_release_is_there_signed_and_whole(place: Place) -> None:
    done = place.publish(place.content("one", "sealed"))
    assert done.changed == ("first release",)
    found = read_published(place.folder, WEB, place.trust)
    assert found is not None
    assert found[1] == place.manifest()
    assert found[1].serial == done.serial
    assert place.objects() == {digest("one"), digest("sealed")}
    for one in place.objects():
        data = place.folder.read_object(WEB, Digest(one), 100)
        assert data is not None
        assert sha256(data) == one


def test_publishing_the_same_again_writes_nothing_at_all(place: Place) -> None:
    place.publish(place.content("one", "sealed"))
    before = place.stamps()
    done = place.publish(place.content("one", "sealed"), START + 5)
    assert done.changed is None
    assert done.serial == START
    assert place.stamps() == before


@pytest.mark.parametrize(
    ("text", "secrets", "action", "changed"),
    [
        ("two", ["sealed"], "switch", ("configuration",)),
        ("one", ["other"], "switch", ("secrets",)),
        ("one", [], "switch", ("secrets",)),
        ("one", ["sealed"], "boot", ("settings",)),
        ("two", ["x", "y"], "boot", ("configuration", "secrets", "settings")),
    ],
)
def test_a_change_is_a_new_release_that_names_what_changed(
    place: Place, text: str, secrets: list[str], action: str, changed: tuple[str, ...]
) -> None:
    place.publish(place.content("one", "sealed"))
    before = place.raw()
    done = place.publish(place.content(text, *secrets, action=action))
    assert done.changed == changed
    assert done.serial == START + 1
    assert place.manifest().previous == sha256(before)
    assert place.folder.read_object(WEB, sha256(before), 10_000) == before


def test_a_lost_object_is_published_anew(place: Place) -> None:
    content = place.content("one", "sealed")
    for lost in (digest("one"), digest("sealed")):
        place.publish(content)
        (place.folder.root / "web/release/objects" / lost).unlink()
        serial = place.manifest().serial
        done = place.publish(content)
        assert done.changed == ("objects",)
        assert done.serial > serial
        assert {digest("one"), digest("sealed")} <= place.objects()


def test_the_last_three_releases_stay_whole_and_older_ones_go(place: Place) -> None:
    raws = []
    for number in range(6):
        place.publish(place.content(f"config {number}", f"secret {number}"), START + number * 2 * DAY)
        raws.append(place.raw())
    kept = {digest(f"{what} {number}") for what in ("config", "secret") for number in (3, 4, 5)}
    gone = {digest(f"{what} {number}") for what in ("config", "secret") for number in (0, 1, 2)}
    assert kept <= place.objects()
    assert {sha256(raws[3]), sha256(raws[4])} <= place.objects()
    assert not gone & place.objects()
    assert sha256(raws[0]) not in place.objects()


def test_all_releases_of_the_last_day_stay(place: Place) -> None:
    for number in range(6):
        place.publish(place.content(f"config {number}"), START + number * 60)
    assert {digest(f"config {number}") for number in range(6)} <= place.objects()
    place.publish(place.content("later"), START + 2 * DAY)
    assert {digest("later"), digest("config 5"), digest("config 4")} <= place.objects()
    assert digest("config 3") not in place.objects()


def test_an_object_still_in_use_by_a_kept_release_stays(place: Place) -> None:
    for number in range(6):
        place.publish(place.content(f"config {number}", "the same secret"), START + number * 2 * DAY)
    assert digest("the same secret") in place.objects()


def test_left_overs_of_a_publisher_that_died_go_with_the_next_release(place: Place) -> None:
    place.publish(place.content("one"))
    (place.folder.root / "web/release/objects/.left-over.tmp").write_text("half")
    place.publish(place.content("two"))
    assert ".left-over.tmp" not in place.objects()


def tampered(place: Place, how: str) -> bytes:
    document = split(place.raw(), "it")
    other = key_file(place.path / "other", 2)
    line = place.manifest().line
    return {
        "another line": line.replace(b"acme", b"evil") + document.armours[0],
        "another signer": sign(line, [other], "bento-release").raw,
        "another purpose": sign(line, [place.key], "git").raw,
        "no signature": line,
        "garbage": b"\x00\xff" * 100,
        "empty": b"",
        "another host": sign(
            place.manifest().model_copy(update={"host": HostName("db")}).line, [place.key], "bento-release"
        ).raw,
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "another line",
        "another signer",
        "another purpose",
        "no signature",
        "garbage",
        "empty",
        "another host",
    ],
)
def test_a_manifest_that_was_tampered_with_is_never_believed_and_replaced_loudly(place: Place, how: str) -> None:
    content = place.content("one", "sealed")
    place.publish(content)
    place.folder.put_manifest(WEB, tampered(place, how))
    with pytest.raises(InputError, match="web"):
        read_published(place.folder, WEB, place.trust)
    done = place.publish(content, START + 100)
    assert len(done.warnings) == 1
    assert "a deploy replaces it" in done.warnings[0]
    assert done.changed == ("first release",)
    found = read_published(place.folder, WEB, place.trust)
    assert found is not None
    assert (found[1].serial, found[1].previous) == (START + 100, None)


def test_another_fleet_s_release_is_left_alone(place: Place) -> None:
    place.publish(place.content("one"))
    before = place.stamps()
    place.trust = replace(place.trust, fleet="other")
    with pytest.raises(InputError, match="'acme'") as error:
        place.publish(place.content("two"))
    assert error.value.hints
    assert place.stamps() == before


def test_hosts_of_one_flake_share_one_object(place: Place) -> None:
    shares = Shares()
    place.publish(place.content("one"), shares=shares)
    place.publish(place.content("one", host=HostName("db")), shares=shares)
    web, db = (place.folder.root / host / "release/objects" / digest("one") for host in ("web", "db"))
    assert web.samefile(db)


def test_a_wrong_clock_stops_before_anything_is_written(place: Place) -> None:
    place.publish(place.content("one"))
    before = place.stamps()
    with pytest.raises(WorkFailed, match="in the future"):
        place.publish(place.content("two"), START - 3600)
    assert place.stamps() == before


def test_a_key_that_can_t_sign_stops_before_anything_is_written(place: Place) -> None:
    place.publish(place.content("one"))
    before = place.stamps()
    place.key.unlink()
    with pytest.raises(InputError, match="signing key"):
        place.publish(place.content("two"))
    assert place.stamps() == before


def test_only_keys_that_hosts_accept_may_sign(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    check_signers((place.key,), place.trust)
    with pytest.raises(InputError, match="no signing key"):
        check_signers((), place.trust)
    other = key_file(place.path / "other", 2, pub=True)
    with pytest.raises(InputError, match="not among the signers"):
        check_signers((place.key, other), place.trust)
    check_signers((place.key, other), replace(place.trust, signers=(public(2), public(1))))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EnvironmentFailed, match="ssh-keygen"):
        check_signers((place.key,), place.trust)
