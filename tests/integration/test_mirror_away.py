"""Two folders to publish to, one of which isn't mounted: every command says so, and none calls it done."""

import json
import re
from pathlib import Path

import pytest

from bento.demo.systems import System
from rig.world import Machine, World, said


@pytest.fixture
def mirror(world: World) -> Path:
    """The second folder, in bento.toml beside the first."""
    folder = world.folder / "the mirror"
    folder.mkdir()
    settings = world.fleet / "bento.toml"
    text, count = re.subn(
        r"^to = .*$", f'to = ["{world.sshd.publish}", "{folder}"]', settings.read_text(), flags=re.MULTILINE
    )
    assert count == 1
    settings.write_text(text)
    return folder


@pytest.fixture
def web(world: World, mirror: Path) -> Machine:
    """A host with two releases in both folders, the second of which has gone since."""
    machine = world.add("web")
    world.bento("deploy")
    machine.write(System("second"))
    world.bento("deploy")
    mirror.rename(mirror.with_name("away"))
    return machine


def test_a_rollback_that_a_mirror_missed_is_named_and_healed_by_the_next_deploy(
    world: World, web: Machine, mirror: Path
) -> None:
    done = world.try_bento("rollback", web.name, "--json")
    assert done.returncode == 3, said(done)
    facts = json.loads(done.stdout)
    assert list(facts["missed"]) == [str(mirror)]
    assert f"error: {mirror} lacks what was published" in done.stderr.decode()
    assert f"hint: make it: mkdir -p '{mirror}'" in done.stderr.decode()

    mirror.with_name("away").rename(mirror)
    world.bento("deploy")
    manifest = mirror / web.name / "release/manifest"
    assert manifest.read_bytes() == world.manifest(web).read_bytes()
    assert json.loads(manifest.read_bytes().split(b"\n")[0])["serial"] == facts["published"]


def test_a_dry_run_ends_as_the_deploy_would_with_a_mirror_away(world: World, web: Machine, mirror: Path) -> None:
    web.write(System("third"))
    for more in ((), ("--json",)):
        planned = world.try_bento("deploy", "--dry-run", *more)
        assert planned.returncode == 3, said(planned)
        assert f"error: {mirror} would be left out: the publish folder {mirror} isn't there" in said(planned)
    assert list(json.loads(planned.stdout)["missed"]) == [str(mirror)]
    assert world.try_bento("deploy").returncode == 3


def test_status_says_that_a_mirror_is_away_not_that_it_is_empty(world: World, web: Machine, mirror: Path) -> None:
    done = world.try_bento("status")
    assert done.returncode == 0, said(done)
    assert f"the publish folder {mirror} isn't there; shown is what the other mirrors know" in done.stderr.decode()
    assert "doesn't have its newest release" not in said(done)
    assert web.name in done.stdout.decode()


@pytest.mark.parametrize("words", [("logs", "web"), ("diff",), ("rollback", "web", "--list")])
def test_what_only_shows_names_the_mirror_that_is_away_and_shows_what_the_other_says(
    world: World, web: Machine, mirror: Path, words: tuple[str, ...]
) -> None:
    web.run()
    done = world.try_bento(*(web.name if word == "web" else word for word in words))
    assert done.returncode == 0, said(done)
    assert f"the publish folder {mirror} isn't there; shown is what the other mirrors know" in done.stderr.decode()
    assert done.stdout.strip()
