"""Two deploys never work on one publish folder or one workspace at a time, and the second says why it waits."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bento.adapters.files import Busy
from bento.adapters.folder import PublishFolder
from bento.admin import deploy as module
from bento.admin import rollback
from bento.admin.build import Built
from bento.admin.deploy import deploy
from bento.admin.inventory import load_fleet, load_trust
from bento.admin.workspace import Workspace
from bento.errors import BentoError
from bento.names import HostName


@pytest.fixture(autouse=True)
def no_nix(fleet_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(fleet_root.parent / "state"))
    monkeypatch.setattr(module.nix, "require_nix", lambda: None)
    (fleet_root.parent / "publish").mkdir()


@contextmanager
def held(root: Path, what: str) -> Iterator[None]:
    with ExitStack() as stack:
        locks: dict[str, PublishFolder | Workspace] = {
            "publish": PublishFolder(root.parent / "publish"),
            "workspace": Workspace(root),
        }
        stack.enter_context(locks[what].locked())
        yield


@pytest.mark.parametrize("what", ["publish", "workspace"])
def test_a_deploy_beside_another_is_refused_before_it_builds(
    fleet_root: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "systems_to_publish", lambda *_: pytest.fail("it built"))
    fleet, trust = load_fleet(fleet_root), load_trust(fleet_root)
    with held(fleet_root, what), pytest.raises(Busy, match="under way already"):
        deploy(fleet, trust, tuple(fleet.hosts), lambda: 1000, lambda *_: None)


def test_a_deploy_beside_another_from_here_doesn_t_take_over_the_lock_of_a_target(
    fleet_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SFTP a lock of the same workspace counts as left over: the workspace's own must be had before."""
    monkeypatch.setattr(PublishFolder, "locked", lambda *_: pytest.fail("it went for the target's lock"))
    fleet, trust = load_fleet(fleet_root), load_trust(fleet_root)
    with held(fleet_root, "workspace"), pytest.raises(Busy, match="under way already"):
        deploy(fleet, trust, tuple(fleet.hosts), lambda: 1000, lambda *_: None)


@pytest.mark.parametrize("what", ["publish", "workspace"])
def test_both_locks_are_held_while_it_builds_and_while_it_publishes(
    fleet_root: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def look(step: str) -> None:
        with pytest.raises(Busy), held(fleet_root, what):
            pass
        looked.append(step)

    def build(*_: object) -> tuple[tuple[Built, ...], dict[HostName, BentoError]]:
        look("build")
        return (), {}

    def publish(*_: object, **__: object) -> str:
        look("publish")
        return "published"

    monkeypatch.setattr(module, "systems_to_publish", build)
    monkeypatch.setattr(module, "publish_prepared", publish)
    fleet, trust = load_fleet(fleet_root), load_trust(fleet_root)
    deploy(fleet, trust, tuple(fleet.hosts), lambda: 1000, lambda *_: None)
    assert looked == ["build", "publish"]
    with held(fleet_root, what):  # and none afterwards
        pass


@pytest.mark.parametrize("what", ["publish", "workspace"])
def test_a_rollback_beside_a_deploy_is_refused_before_it_writes(
    fleet_root: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "plan_rollback", lambda *_: None)  # there is something to go back to
    fleet, trust = load_fleet(fleet_root), load_trust(fleet_root)
    before = (fleet_root / "bento.toml").read_bytes()
    with held(fleet_root, what), pytest.raises(Busy, match="under way already"):
        rollback.roll_back(fleet, trust, fleet.hosts[HostName("web")], None, lambda: 1000, lambda *_: None)
    assert (fleet_root / "bento.toml").read_bytes() == before
