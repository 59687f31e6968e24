"""A signing key rotates without a host left behind, and without a new release where nothing changed."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from unit.samples import FLEET, SYSTEM, WEB, digest, key_file, public

from bento.adapters.folder import PublishFolder
from bento.adapters.signatures import sign, signed_by, verified
from bento.admin.content import Content
from bento.admin.inventory import Host, load_fleet
from bento.admin.memory import Memory
from bento.admin.publish import Published
from bento.admin.shares import Shares
from bento.admin.signing import check_accepted, known_signers
from bento.errors import InputError
from bento.models.manifest import ConfigRef, Settings
from bento.models.report import Heartbeat
from bento.models.signed import SignedDocument, split
from bento.models.trust import Trust
from bento.names import HostName
from rig.publishing import publish

OLD, NEW = public(1), public(2)
SPACE = "bento-release"


@dataclass
class Place:
    root: Path
    host: Host
    old: Path
    new: Path

    def __post_init__(self) -> None:
        (self.root / "publish").mkdir()
        self.folder = PublishFolder(self.root / "publish")
        self.trust = Trust(FLEET, (OLD, NEW), ())

    def publish(self, *keys: Path, text: str = "one", now: int = 1000, guarded: bool = False) -> Published:
        tar = self.root / "tar"
        tar.write_text(text)
        config = ConfigRef(digest=digest(text), size=len(text), kind="flake", attribute="web")
        content = Content(WEB, config, SYSTEM, (), Settings(), tar, {})

        def guard(signed: frozenset[str] | None) -> None:
            if guarded:
                check_accepted([self.folder], self.host, self.trust, keys, signed)

        memory = Memory(self.root / "memory")
        return publish([self.folder], content, self.trust, keys, now, memory, Shares(), guard)

    def document(self) -> SignedDocument:
        raw = self.folder.read_manifest(WEB)
        assert raw is not None
        return split(raw, "it")

    def says_it_trusts(self, *fingerprints: str, signer: int = 11, host: str = "web", fleet: str = FLEET) -> None:
        heartbeat = Heartbeat(
            fleet=fleet, host=HostName(host), after=0, time=5, serial=None, running=None, signers=fingerprints
        )
        key = key_file(self.root / "host-key", signer)
        reports = self.folder.root / "web" / "reports"
        reports.mkdir(parents=True, exist_ok=True)
        (reports / "heartbeat").write_bytes(sign(heartbeat.line, [key], "bento-report").raw)


@pytest.fixture
def place(fleet_root: Path) -> Place:
    fleet = load_fleet(fleet_root)
    old, new = key_file(fleet_root / "old", 1, pub=True), key_file(fleet_root / "new", 2, pub=True)
    return Place(fleet_root, fleet.hosts[WEB], old, new)


def test_whose_signatures_a_document_has_is_found_by_verifying_not_by_what_it_says(place: Place) -> None:
    line = b"{}\n"
    one, other = sign(line, [place.old], SPACE), sign(b"{ }\n", [place.new], SPACE)
    assert signed_by(one, (OLD, NEW), SPACE) == (OLD,)
    assert signed_by(sign(line, [place.new, place.old], SPACE), (OLD, NEW), SPACE) == (OLD, NEW)
    assert signed_by(SignedDocument(line, (*one.armours, *other.armours)), (OLD, NEW), SPACE) == (OLD,)
    assert signed_by(one, (OLD, NEW), "bento-report") == ()
    garbage = b"-----BEGIN SSH SIGNATURE-----\n!\n-----END SSH SIGNATURE-----\n"
    assert signed_by(SignedDocument(line, (garbage,)), (OLD, NEW), SPACE) == ()


def test_a_second_key_signs_what_is_unchanged_and_the_release_stays_the_same(place: Place) -> None:
    first = place.publish(place.old)
    before = place.document()
    done = place.publish(place.old, place.new, now=2000)
    assert done.changed == ("signatures",)
    assert (done.serial, done.system) == (first.serial, first.system)
    after = place.document()
    assert after.line == before.line
    assert after.armours[:1] == before.armours
    for signer in (OLD, NEW):
        assert verified(after, (signer,), SPACE)
    assert place.publish(place.old, place.new, now=3000).changed is None
    assert place.document() == after


def test_a_key_that_no_longer_signs_keeps_its_signature_on_what_is_unchanged(place: Place) -> None:
    place.publish(place.old, place.new)
    before = place.document()
    assert place.publish(place.new, now=2000, guarded=True).changed is None
    assert place.document() == before


def test_two_admins_with_a_key_each_add_theirs_once_and_then_write_nothing(place: Place) -> None:
    place.publish(place.old)
    assert place.publish(place.new, now=2000).changed == ("signatures",)
    for key in (place.old, place.new):
        assert place.publish(key, now=3000).changed is None


def test_the_old_key_is_not_left_out_before_the_host_said_that_it_trusts_the_new(place: Place) -> None:
    place.publish(place.old)
    before = place.document()
    with pytest.raises(InputError, match="never said whom it trusts"):
        place.publish(place.new, text="two", now=2000, guarded=True)
    place.says_it_trusts(OLD.fingerprint)
    with pytest.raises(InputError, match="trusts none of the keys that sign now") as error:
        place.publish(place.new, text="two", now=2000, guarded=True)
    assert any("--drop-signers" in hint for hint in error.value.hints)
    assert place.document() == before
    place.says_it_trusts(OLD.fingerprint, NEW.fingerprint)
    assert place.publish(place.new, text="two", now=2000, guarded=True).changed == ("configuration",)


def test_both_keys_together_need_no_word_of_the_host(place: Place) -> None:
    place.publish(place.old)
    assert place.publish(place.old, place.new, text="two", now=2000, guarded=True).changed == ("configuration",)
    assert place.publish(place.old, place.new, text="three", now=3000, guarded=True).changed == ("configuration",)


def test_a_key_swapped_in_the_trust_file_at_one_stroke_is_seen_too(place: Place) -> None:
    """What is published is then signed by nobody of the fleet's: that must not count as nothing published."""
    place.publish(place.old)
    place.trust = replace(place.trust, signers=(NEW,))
    for signed in (None, frozenset[str](), frozenset({OLD.fingerprint})):
        with pytest.raises(InputError, match="refuse the release"):
            check_accepted([place.folder], place.host, place.trust, [place.new], signed)
    place.says_it_trusts(NEW.fingerprint)
    check_accepted([place.folder], place.host, place.trust, [place.new], None)


@pytest.mark.parametrize(
    "how", [{"signer": 12}, {"host": "db"}, {"fleet": "other"}], ids=["another host's key", "another host", "fleet"]
)
def test_a_word_that_is_not_this_host_s_own_counts_for_nothing(place: Place, how: dict[str, object]) -> None:
    place.says_it_trusts(NEW.fingerprint)
    assert known_signers([place.folder], place.host, place.trust) == {NEW.fingerprint}
    place.says_it_trusts(NEW.fingerprint, **how)  # type: ignore[arg-type]
    assert known_signers([place.folder], place.host, place.trust) is None


@pytest.mark.parametrize("raw", [b"", b"\xff" * 500, b"{}\n", b"x\n-----BEGIN SSH SIGNATURE-----\n"])
def test_a_damaged_heartbeat_is_no_word(place: Place, raw: bytes) -> None:
    place.says_it_trusts(NEW.fingerprint)
    (place.folder.root / "web/reports/heartbeat").write_bytes(raw)
    assert known_signers([place.folder], place.host, place.trust) is None


def test_a_host_of_before_this_field_has_not_said_anything(place: Place) -> None:
    place.says_it_trusts()
    assert known_signers([place.folder], place.host, place.trust) is None
