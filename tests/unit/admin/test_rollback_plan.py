"""Going back: along the signed history only, whole or not at all, and held there until the line goes."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from unit.samples import SYSTEM, WEB, digest, key_file, public, secret

from bento.adapters.folder import PublishFolder
from bento.admin.content import Content
from bento.admin.deploy import Deployed, Plan, prepare, publish_prepared
from bento.admin.edit import set_hold
from bento.admin.history import KEEP_SECONDS, history
from bento.admin.hold import ObjectsGone, held_content
from bento.admin.inventory import Fleet, load_fleet, load_trust
from bento.admin.plan import plan_deploy
from bento.admin.rollback import earlier_releases, let_go, plan_rollback, roll_back
from bento.admin.shares import Shares
from bento.admin.standing import read_published
from bento.admin.targets import targets_of, writing
from bento.admin.workspace import Workspace
from bento.errors import InputError
from bento.models.manifest import ConfigRef, Manifest, Settings
from bento.models.signed import sha256
from bento.names import Digest, Serial
from bento_secrets.recipients import Recipient
from rig.publishing import publish

DAY = KEEP_SECONDS
START = 1_700_000_000
OWN = Recipient.of_host_key(public(11)).text


def quiet(*_: object) -> None:
    """No progress."""


@dataclass
class Desk:
    """A fleet whose releases are published without a build."""

    root: Path
    now: int = START
    said: list[str] = field(default_factory=list)

    @property
    def fleet(self) -> Fleet:
        return load_fleet(self.root)

    @property
    def folder(self) -> PublishFolder:
        return PublishFolder(self.root.parent / "publish")

    def publish(self, text: str, later: int = 60, recipient: str = OWN, **secrets: str) -> Serial:
        """A release of the host web."""
        self.now += later
        trust = load_trust(self.root)
        sealed = {name: f"sealed {content}".encode() for name, content in secrets.items()}
        refs = tuple(
            secret(name, digest=sha256(data), size=len(data), recipient=recipient) for name, data in sealed.items()
        )
        tar = self.root.parent / "tar"
        tar.write_text(text)
        config = ConfigRef(digest=digest(text), size=len(text), kind="flake", attribute="web")
        content = Content(WEB, config, SYSTEM, refs, Settings(), tar, {sha256(one): one for one in sealed.values()})
        memory = Workspace(self.root).memory()
        done = publish([self.folder], content, trust, self.fleet.signing_keys, self.now, memory, Shares())
        return done.serial

    def manifest(self) -> Manifest:
        found = read_published(self.folder, WEB, load_trust(self.root))
        assert found is not None
        return found[1]

    def back(self, serial: Serial | None = None) -> Deployed:
        self.now += 60
        fleet = self.fleet
        done = roll_back(fleet, load_trust(self.root), fleet.hosts[WEB], serial, lambda: self.now, quiet)[1]
        assert not done.failed
        return done

    def deploy_held(self) -> Deployed:
        """What a deploy does for the host while it is held."""
        self.now += 60
        fleet, trust = self.fleet, load_trust(self.root)
        workspace = Workspace(fleet.root)
        plan = Plan((), (fleet.hosts[WEB],), {}, {}, {}, (), workspace.stamps())
        with workspace.locked(), writing(targets_of(fleet, trust)) as reached:
            prepared = prepare(plan, fleet, trust, reached.targets, workspace, quiet)
            return publish_prepared(prepared, (WEB,), fleet, trust, reached, workspace, lambda: self.now, quiet)

    def objects(self) -> set[str]:
        return {path.name for path in (self.folder.root / WEB / "release/objects").iterdir()}


@pytest.fixture
def desk(fleet_root: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("XDG_STATE_HOME", str(fleet_root.parent / "state"))
    (fleet_root.parent / "publish").mkdir()
    return Desk(fleet_root)


def contents(manifest: Manifest) -> tuple[Digest, tuple[str, ...]]:
    return manifest.config.digest, tuple(one.digest for one in manifest.secrets)


def test_the_release_before_comes_back_under_a_new_serial_and_the_host_is_held_there(desk: Desk) -> None:
    first = desk.publish("one", token="a")
    before = contents(desk.manifest())
    second = desk.publish("two", token="b")
    desk.back()
    assert contents(desk.manifest()) == before
    assert desk.manifest().serial > second
    assert desk.fleet.hosts[WEB].hold == first


def test_bento_toml_keeps_its_comments_and_the_line_goes_without_a_trace(desk: Desk) -> None:
    before = (desk.root / "bento.toml").read_text()
    first = desk.publish("one")
    desk.publish("two")
    desk.back()
    held = (desk.root / "bento.toml").read_text()
    assert [line for line in held.splitlines() if line not in before.splitlines()] == [f"hold = {first}"]
    fleet = desk.fleet
    assert let_go(fleet, fleet.hosts[WEB]) == first
    assert (desk.root / "bento.toml").read_text() == before
    with pytest.raises(InputError, match="not held"):
        let_go(desk.fleet, desk.fleet.hosts[WEB])


def test_a_hold_in_the_local_file_is_not_this_commands_to_change(desk: Desk) -> None:
    (desk.root / "bento.local.toml").write_text("[hosts.web]\nhold = 5\n")
    before = (desk.root / "bento.toml").read_bytes()
    for serial in (None, Serial(6)):
        with pytest.raises(InputError, match=r"bento\.local\.toml"):
            set_hold(desk.root, WEB, serial)
    assert (desk.root / "bento.toml").read_bytes() == before


def test_going_back_twice_goes_back_further_not_forth_again(desk: Desk) -> None:
    first, second = desk.publish("one"), desk.publish("two")
    desk.publish("three")
    desk.back()
    assert desk.fleet.hosts[WEB].hold == second
    desk.back()
    assert desk.fleet.hosts[WEB].hold == first
    assert desk.manifest().config.digest == digest("one")
    with pytest.raises(InputError, match="no earlier release"):
        desk.back()


def test_a_release_of_the_same_content_is_no_step_back(desk: Desk) -> None:
    first = desk.publish("one")
    desk.publish("two")
    (desk.folder.root / WEB / "release/objects" / digest("two")).unlink()
    desk.publish("two")  # its object had gone: the same content under another serial
    desk.back()
    assert desk.fleet.hosts[WEB].hold == first


def test_a_deploy_of_a_held_host_keeps_it_there_says_so_and_writes_nothing(desk: Desk) -> None:
    first = desk.publish("one", token="a")
    desk.publish("two", token="b")
    desk.back()
    before = desk.folder.read_manifest(WEB)
    done = desk.deploy_held()
    assert done.published[WEB].changed is None
    assert any(f"web is held at release {first}" in one and "--release" in one for one in done.warnings)
    assert desk.folder.read_manifest(WEB) == before


def test_a_hold_that_was_written_by_a_rollback_cut_short_is_published_by_the_next_deploy(desk: Desk) -> None:
    first = desk.publish("one", token="a")
    desk.publish("two", token="b")
    set_hold(desk.root, WEB, first)
    done = desk.deploy_held()
    assert done.published[WEB].changed == ("configuration", "secrets")
    assert desk.manifest().config.digest == digest("one")


def test_what_a_host_is_held_at_outlives_garbage_collection_and_so_does_the_way_there(desk: Desk) -> None:
    first = desk.publish("one", token="a")
    for number in range(2, 5):
        desk.publish(f"config {number}", 60)
    desk.back(first)
    desk.now += 10 * DAY
    for _ in range(4):  # each of these is a new release, whose publisher collects
        desk.now += 2 * DAY
        (desk.folder.root / WEB / "release/objects" / digest("one")).unlink()
        assert desk.deploy_held().published[WEB].changed == ("objects",)
    kept = desk.objects()
    assert {digest("one"), sha256(b"sealed a")} <= kept
    assert digest("config 2") not in kept
    assert first in [one.serial for _, one in history(desk.folder, _newest(desk))]


def _newest(desk: Desk):
    found = read_published(desk.folder, WEB, load_trust(desk.root))
    assert found is not None
    return found


def test_without_a_hold_old_releases_still_go(desk: Desk) -> None:
    desk.publish("one")
    for number in range(2, 7):
        desk.publish(f"config {number}", 2 * DAY)
    assert digest("one") not in desk.objects()
    with pytest.raises(InputError, match="can't be found") as error:
        desk.back(Serial(START + 60))
    assert "bento rollback web --list" in error.value.hints[0]


def test_objects_that_are_gone_stop_it_before_anything_is_written(desk: Desk) -> None:
    desk.publish("one", token="a")
    desk.publish("two", token="b")
    (desk.folder.root / WEB / "release/objects" / sha256(b"sealed a")).unlink()
    settings, manifest = (desk.root / "bento.toml").read_bytes(), desk.folder.read_manifest(WEB)
    with pytest.raises(ObjectsGone, match="garbage collection"):
        desk.back()
    with pytest.raises(ObjectsGone, match="garbage collection"):  # a dry run says so too
        plan_rollback(desk.fleet, load_trust(desk.root), desk.fleet.hosts[WEB], None)
    assert ((desk.root / "bento.toml").read_bytes(), desk.folder.read_manifest(WEB)) == (settings, manifest)
    fleet = desk.fleet
    listed = earlier_releases(fleet, load_trust(desk.root), fleet.hosts[WEB])
    assert [one.gone for one in listed] == [0, 1]


def test_an_object_that_was_changed_on_the_server_is_not_published_again(desk: Desk) -> None:
    desk.publish("one", token="a")
    desk.publish("two", token="b")
    (desk.folder.root / WEB / "release/objects" / sha256(b"sealed a")).write_bytes(b"sealed x")
    settings = (desk.root / "bento.toml").read_bytes()
    with pytest.raises(ObjectsGone, match="somebody changed it on the server"):
        desk.back()
    assert (desk.root / "bento.toml").read_bytes() == settings


def test_a_history_that_was_changed_on_the_server_ends_there(desk: Desk) -> None:
    first = desk.publish("one")
    desk.publish("two")
    desk.publish("three")
    middle = desk.manifest().previous
    assert middle is not None
    path = desk.folder.root / WEB / "release/objects" / middle
    path.write_bytes(path.read_bytes().replace(digest("two").encode(), digest("evil").encode()))
    with pytest.raises(InputError, match="no earlier release"):
        desk.back()
    with pytest.raises(InputError, match="can't be found"):
        desk.back(first)


def test_secrets_sealed_to_a_former_host_key_are_named_and_refused(desk: Desk) -> None:
    former = Recipient.of_host_key(public(40)).text
    first = desk.publish("one", recipient=former, token="a", other="b")
    desk.publish("two", token="c")
    settings, manifest = (desk.root / "bento.toml").read_bytes(), desk.folder.read_manifest(WEB)
    with pytest.raises(InputError, match="former host key of web: token, other"):
        desk.back()
    assert ((desk.root / "bento.toml").read_bytes(), desk.folder.read_manifest(WEB)) == (settings, manifest)
    # The same where the host was rekeyed after it was held: that host fails, and is told what to do.
    set_hold(desk.root, WEB, first)
    failed = desk.deploy_held().failed[WEB]
    assert "former host key" in failed.message
    assert any("--release" in hint for hint in failed.hints)


def test_it_says_which_secrets_come_back_return_and_leave(desk: Desk) -> None:
    desk.publish("one", same="s", changed="old", removed="r")
    desk.publish("two", same="s", changed="new", added="a")
    fleet = desk.fleet
    back = plan_rollback(fleet, load_trust(desk.root), fleet.hosts[WEB], None)
    assert (back.secrets.changed, back.secrets.returning, back.secrets.leaving) == (
        ("changed",),
        ("removed",),
        ("added",),
    )


def test_a_plan_writes_nothing_at_all(desk: Desk) -> None:
    desk.publish("one", token="a")
    desk.publish("two")
    before = {path: path.stat().st_mtime_ns for path in desk.root.parent.rglob("*")}
    fleet = desk.fleet
    plan_rollback(fleet, load_trust(desk.root), fleet.hosts[WEB], None)
    assert {path: path.stat().st_mtime_ns for path in desk.root.parent.rglob("*")} == before


def test_a_host_that_was_never_published_has_nothing_to_go_back_to(desk: Desk) -> None:
    with pytest.raises(InputError, match="nothing is published for web"):
        desk.back()
    set_hold(desk.root, WEB, Serial(5))
    fleet = desk.fleet
    with pytest.raises(InputError, match="nothing is published for web"):
        held_content([desk.folder], fleet.hosts[WEB], load_trust(desk.root), Workspace(desk.root))


def test_what_is_true_of_two_folders_is_said_once(desk: Desk) -> None:
    settings = desk.root / "bento.toml"
    other = desk.root.parent / "other"
    other.mkdir()
    settings.write_text(
        settings.read_text().replace('/publish"', f'/publish", "{other}"]').replace('to = "', 'to = ["')
    )
    desk.publish("first")
    desk.publish("second")
    done = desk.back()
    assert len(done.published) == 1
    assert (other / "web/release/manifest").is_file()
    assert any("no account on this machine" in one for one in done.warnings)
    assert len(set(done.warnings)) == len(done.warnings)


def test_a_deploy_and_its_dry_run_say_whose_release_they_replace(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bento.adapters.nix.require_nix", lambda: None)
    desk.publish("one", token="a")
    desk.publish("two", token="b")
    desk.back()
    desk.publish("from another machine", token="c")
    Workspace(desk.root).memory().path.unlink()
    planned = plan_deploy(desk.fleet, load_trust(desk.root), (WEB,), desk.now).warnings
    done = desk.deploy_held().warnings
    for said in (planned, done):
        (sentence,) = (one for one in said if "another machine" in one)
        assert sentence.startswith("what was published for web came from another machine")
        assert sentence.endswith("(git pull) and deploy again; to go back: bento rollback web")
    desk.publish("three", token="d")
    assert not [one for one in desk.deploy_held().warnings if "another machine" in one]


def test_a_dry_run_asks_together_whom_hosts_trust_where_a_key_is_dropped(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bento.adapters.nix.require_nix", lambda: None)
    heard: list[object] = []
    monkeypatch.setattr(PublishFolder, "hear", lambda _, hosts: heard.append(hosts))
    desk.publish("one", token="a")
    desk.publish("two", token="b")
    desk.back()
    desk.publish("from another machine", token="c")
    assert not plan_deploy(desk.fleet, load_trust(desk.root), (WEB,), desk.now).failed
    assert heard == []
    key_file(desk.root.parent / "other", 2)
    settings, trust = desk.root / "bento.toml", desk.root / "utils/trust.toml"
    settings.write_text(settings.read_text().replace(f"{desk.root.parent}/signing", f"{desk.root.parent}/other"))
    trust.write_text(trust.read_text().replace("signers = [", f'signers = ["{public(2).line}", '))
    planned = plan_deploy(desk.fleet, load_trust(desk.root), (WEB,), desk.now)
    assert "has never said whom it trusts" in planned.failed[WEB].message
    assert heard == [[WEB]]
