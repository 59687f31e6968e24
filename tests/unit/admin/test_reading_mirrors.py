"""Reading from mirrors, one of which breaks off in the middle: what the others say is shown, and it is named."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.admin.test_rollback_plan import Desk
from unit.samples import WEB

from bento.adapters.folder import PublishFolder
from bento.adapters.protocol import ServerAway
from bento.admin import hold
from bento.admin.diff import diff
from bento.admin.inventory import load_trust
from bento.admin.logs import logs
from bento.admin.plan import plan_deploy
from bento.admin.rollback import earlier_releases, plan_rollback
from bento.admin.status import status
from bento.errors import BentoError, InputError
from bento.models.signed import sha256

METHODS = ("read_manifest", "read_object", "present", "read_words")
Break = Callable[..., None]


@pytest.fixture
def desk(fleet_root: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Two releases of the host web."""
    monkeypatch.setenv("XDG_STATE_HOME", str(fleet_root.parent / "state"))
    monkeypatch.setattr("bento.adapters.nix.require_nix", lambda: None)
    (fleet_root.parent / "publish").mkdir()
    desk = Desk(fleet_root)
    desk.publish("one", token="a")
    desk.publish("two", token="b")
    return desk


@pytest.fixture
def mirrored(desk: Desk) -> Desk:
    """The same, on two mirrors alike."""
    here, settings = desk.root.parent, desk.root / "bento.toml"
    shutil.copytree(here / "publish", here / "mirror")
    both = f'to = ["{here}/mirror", "{here}/publish"]'
    settings.write_text(re.sub(r"^to = .*$", both, settings.read_text(), flags=re.MULTILINE))
    return desk


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Have a method of these targets, by their folders' names, fail as a server does."""

    def breaks(method: str, *names: str) -> None:
        real = getattr(PublishFolder, method)

        def fails(self: PublishFolder, *args: Any) -> Any:
            if self.root.name in names:
                raise ServerAway(f"{method}: the connection broke")
            return real(self, *args)

        monkeypatch.setattr(PublishFolder, method, fails)

    return breaks


def every(desk: Desk, warn: Callable[[str], None]) -> list[Any]:
    """What each command that only shows finds."""
    fleet, trust = desk.fleet, load_trust(desk.root)
    host = fleet.hosts[WEB]
    return [
        status(fleet, trust, [WEB], warn),
        logs(fleet, trust, host, 5, warn),
        earlier_releases(fleet, trust, host, warn),
        diff(fleet, trust, (WEB,), desk.now, following=False, warn=warn).hosts,
    ]


@pytest.mark.parametrize("method", METHODS)
def test_a_mirror_that_fails_in_the_middle_is_named_and_nothing_is_lost(
    mirrored: Desk, breaks: Break, method: str
) -> None:
    said: list[str] = []
    whole = every(mirrored, said.append)
    assert said == []
    breaks(method, "mirror")
    assert every(mirrored, said.append) == whole
    assert said
    for sentence in said:
        assert re.search(r"/mirror can't be read: .* broke; shown is what the other mirrors know$", sentence)


@pytest.mark.parametrize("method", ["read_manifest", "read_words"])
def test_a_target_without_a_mirror_that_fails_is_an_error_not_an_empty_answer(
    mirrored: Desk, breaks: Break, method: str
) -> None:
    breaks(method, "mirror", "publish")
    with pytest.raises(BentoError, match="the connection broke"):
        status(mirrored.fleet, load_trust(mirrored.root), [WEB])


def test_a_rollback_is_planned_from_the_mirror_that_answers_and_the_other_is_named(
    mirrored: Desk, breaks: Break
) -> None:
    breaks("read_object", "mirror")
    fleet, trust = mirrored.fleet, load_trust(mirrored.root)
    back = plan_rollback(fleet, trust, fleet.hosts[WEB], None)
    assert back.earlier.serial < back.published.serial
    assert [Path(name).name for name in back.missed] == ["mirror"]


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_rollback_gets_what_one_mirror_lacks_from_the_other(mirrored: Desk, harm: str) -> None:
    fleet, trust = mirrored.fleet, load_trust(mirrored.root)
    earlier = plan_rollback(fleet, trust, fleet.hosts[WEB], None).earlier
    # each lacks something: none of the two is enough by itself
    for name, digest in (("mirror", earlier.secrets[0].digest), ("publish", earlier.config.digest)):
        path = mirrored.root.parent / name / "web/release/objects" / digest
        path.write_bytes(b"x" * path.stat().st_size) if harm == "damaged" else path.unlink()
    for tar in Path(mirrored.root.parent / "state").rglob("*.tar"):
        tar.unlink()
    assert plan_rollback(fleet, trust, fleet.hosts[WEB], None).earlier == earlier
    mirrored.back()
    for name in ("mirror", "publish"):
        objects = mirrored.root.parent / name / "web/release/objects"
        for digest in (earlier.secrets[0].digest, earlier.config.digest):
            assert sha256((objects / digest).read_bytes()) == digest


@pytest.mark.parametrize("kind", ["secret", "configuration"])
def test_a_dry_run_for_a_held_host_whose_published_objects_are_gone_fails_as_the_deploy(desk: Desk, kind: str) -> None:
    desk.back()
    manifest = desk.manifest()
    lost = manifest.secrets[0].digest if kind == "secret" else manifest.config.digest
    (desk.folder.root / "web/release/objects" / lost).unlink()
    for tar in Path(desk.root.parent / "state").rglob("*.tar"):
        tar.unlink()
    fleet = desk.fleet
    planned = plan_deploy(fleet, load_trust(desk.root), (WEB,), desk.now)
    real = desk.deploy_held().failed
    assert {name: error.message for name, error in planned.failed.items()} == {
        name: error.message for name, error in real.items()
    }
    assert isinstance(planned.failed[WEB], hold.ObjectsGone)


def test_a_dry_run_for_a_held_host_counts_what_is_packed_here_as_the_deploy_does(desk: Desk) -> None:
    desk.back()
    workspace_tar = next(Path(desk.root.parent / "state").rglob(f"*{desk.manifest().config.digest}*"))
    assert workspace_tar.is_file()
    (desk.folder.root / "web/release/objects" / desk.manifest().config.digest).unlink()
    planned = plan_deploy(desk.fleet, load_trust(desk.root), (WEB,), desk.now)
    assert (planned.failed, planned.hosts[WEB].changes) == ({}, ("objects",))
    assert desk.deploy_held().published[WEB].changed == ("objects",)


def test_what_is_published_for_nobody_is_said_whatever_the_mirrors(mirrored: Desk, breaks: Break) -> None:
    breaks("read_manifest", "mirror")
    fleet = mirrored.fleet
    with pytest.raises(InputError, match="nothing is published"):
        earlier_releases(fleet, load_trust(mirrored.root), next(one for one in fleet.hosts.values() if one.name != WEB))
