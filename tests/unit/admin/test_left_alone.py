"""A host that stands as the last deploy left it is left alone; one of which anything differs is not."""

import json
import os
import shutil
from collections.abc import Callable

import pytest
from unit.desk import START, SYSTEM, Desk, edit, keeping_times
from unit.samples import WEB, key_file, public

from bento.adapters import folder, nix
from bento.adapters.folder import PublishFolder
from bento.admin import deploy, waves
from bento.admin.build import How
from bento.admin.inventory import load_fleet, load_trust
from bento.errors import EnvironmentFailed
from bento.models.declaration import parse_declaration
from bento.models.limits import LIMITS
from bento.names import HostName, SecretName, Target
from bento_secrets.declared import Attributes
from bento_secrets.sealing import Plaintext


def make_executable(desk: Desk) -> None:
    desk.file().chmod(0o755)


def add_one(desk: Desk) -> None:
    desk.file("more/two.nix").write_text("{ }\n")


def test_hosts_that_stand_as_they_were_left_are_not_looked_at_and_with_rebuild_all_are(desk: Desk) -> None:
    desk.settle()
    assert desk.looked_at(lambda: desk.changed(How(anew=True))) == {"web", "db"}


def test_a_host_is_looked_at_again_where_its_release_is_younger_than_a_tick(desk: Desk) -> None:
    desk.young(3600)
    for _ in range(4):
        assert desk.looked_at(desk.deploy) == {"web", "db"}


def spoil_manifest(desk: Desk) -> None:
    keeping_times(desk.publish / "web/release/manifest", edit)


def lose_manifest(desk: Desk) -> None:
    (desk.publish / "web/release/manifest").unlink()


def spoil_object(desk: Desk) -> None:
    keeping_times(desk.published_tree(), edit)


def lose_object(desk: Desk) -> None:
    desk.published_tree().unlink()


def lose_reports(desk: Desk) -> None:
    (desk.publish / "web/reports").rmdir()


def lose_what_was_published_from_here(desk: Desk) -> None:
    (kept,) = (desk.root.parent / "state").rglob("releases")
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(line for line in lines if not line.startswith("web ")))


def change_a_setting(desk: Desk) -> None:
    text = (desk.root / "bento.toml").read_text()
    (desk.root / "bento.toml").write_text(text.replace("[hosts.web]", '[hosts.web]\naction = "boot"'))


def add_a_secret(desk: Desk) -> None:
    fleet = load_fleet(desk.root)
    fleet.store.add(
        Target.parse("web"), SecretName("password"), Attributes(), Plaintext(b"x"), fleet.members, fleet.admins,
        replace=False, now=START,
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        spoil_manifest,
        lose_manifest,
        spoil_object,
        lose_object,
        lose_reports,
        lose_what_was_published_from_here,
        change_a_setting,
        add_a_secret,
        make_executable,
        add_one,
    ],
)
def test_a_host_of_which_anything_differs_is_looked_at_and_no_other(desk: Desk, change: Callable[[Desk], None]) -> None:
    desk.settle()
    change(desk)
    assert desk.looked_at(desk.deploy) == {"web"}


def sign_with_two(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    second = key_file(desk.root.parent / "second", 2, pub=True)
    for name, old, new in (
        ("utils/trust.toml", f'signers = ["{public(1).line}"', f'signers = ["{public(1).line}", "{public(2).line}"'),
        ("bento.toml", f'"{desk.root.parent}/signing"', f'"{desk.root.parent}/signing", "{second}"'),
    ):
        text = (desk.root / name).read_text()
        assert old in text
        (desk.root / name).write_text(text.replace(old, new))


def publish_elsewhere_too(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    (desk.root.parent / "mirror").mkdir()
    text = (desk.root / "bento.toml").read_text()
    old = f'to = "{desk.publish}"'
    assert old in text
    (desk.root / "bento.toml").write_text(text.replace(old, f'to = ["{desk.publish}", "{desk.publish}/../mirror"]'))


def use_another_nix(_desk: Desk, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nix, "version", lambda: "nix 2.9")


def lose_the_systems(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    desk.in_store = False


def give_accounts(_desk: Desk, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(folder, "local_groups", lambda: {"web": 12345, "db": 12346})


@pytest.mark.parametrize(
    "change", [sign_with_two, publish_elsewhere_too, use_another_nix, lose_the_systems, give_accounts]
)
def test_what_concerns_all_hosts_has_all_of_them_looked_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, change: Callable[[Desk, pytest.MonkeyPatch], None]
) -> None:
    desk.settle()
    change(desk, monkeypatch)
    assert desk.looked_at(desk.deploy) == {"web", "db"}


def test_a_deploy_notes_that_the_hosts_keys_are_in_order(desk: Desk) -> None:
    desk.deploy()
    assert len(list((desk.root.parent / "state").rglob("keys"))) == 1


def test_a_system_that_the_store_has_lost_is_built_again(desk: Desk) -> None:
    desk.settle()
    built, desk.in_store = desk.builds, False
    assert desk.deploy().built == 2
    assert desk.builds == built + 2


def test_old_reports_go_and_other_hosts_share_the_tree_also_of_a_host_that_is_left_as_it_is(desk: Desk) -> None:
    desk.settle()
    reports = desk.publish / "web/reports"
    for number in range(LIMITS.reports_kept + 3):
        (reports / f"{number:020}.report").touch()
    shutil.copytree(desk.root / "hosts/web", desk.root / "hosts/third", symlinks=True)
    text = (desk.root / "bento.toml").read_text()
    (desk.root / "bento.toml").write_text(f'{text}\n[hosts.third]\nkeys = ["{public(9).line}"]\n')
    assert desk.looked_at(desk.deploy) == {"third"}
    assert len(list(reports.iterdir())) == LIMITS.reports_kept
    assert (desk.publish / "third/release/objects" / desk.published_tree().name).samefile(desk.published_tree())


def test_a_mirror_that_is_away_and_comes_back_with_less_is_healed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_elsewhere_too(desk, monkeypatch)
    desk.settle()
    mirror = desk.root.parent / "mirror"
    mirror.rename(desk.root.parent / "away")
    for _ in range(3):
        desk.deploy()
    assert desk.looked_at(desk.deploy) == set()
    (desk.root.parent / "away").rename(mirror)
    (mirror / "web/release/manifest").unlink()
    assert desk.deploy().published[WEB].healed == (f"{desk.publish}/../mirror",)


def test_a_mirror_that_goes_away_in_mid_deploy_is_not_taken_for_one_in_order(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_elsewhere_too(desk, monkeypatch)
    desk.settle()
    mirror = desk.root.parent / "mirror/web/release/manifest"
    old = mirror.read_bytes()
    change_a_setting(desk)
    desk.settle()
    mirror.write_bytes(old)

    def gone(target: PublishFolder) -> None:
        if target.name.endswith("mirror"):
            raise EnvironmentFailed("away", "look there")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PublishFolder, "refresh", gone)  # as a server does in hours of building
        for _ in range(2):
            assert list(desk.deploy().missed) == [f"{desk.publish}/../mirror"]
    assert desk.deploy().published[WEB].healed == (f"{desk.publish}/../mirror",)
    assert mirror.read_bytes() == (desk.publish / "web/release/manifest").read_bytes()


def come_back(desk: Desk) -> None:
    """The mirror."""
    (desk.root.parent / "away").rename(desk.root.parent / "mirror")


@pytest.mark.parametrize("meanwhile", [lose_manifest, lose_object, come_back])
def test_what_happens_to_the_others_while_canaries_are_waited_for_is_seen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Desk], None]
) -> None:
    publish_elsewhere_too(desk, monkeypatch)
    desk.settle()
    if meanwhile is come_back:
        (desk.root.parent / "mirror/web/release/manifest").unlink()
        (desk.root.parent / "mirror").rename(desk.root.parent / "away")
        for _ in range(3):
            desk.deploy()
    monkeypatch.setattr(waves, "_wait", lambda *_: meanwhile(desk))
    clocks = waves.Clocks(lambda: desk.clock, lambda: 0.0, lambda _: None)
    fleet, trust = load_fleet(desk.root), load_trust(desk.root)
    names = tuple(fleet.hosts)
    done = waves.deploy_in_waves(fleet, trust, names, (HostName("db"),), 1, clocks, lambda *_: None).done
    assert done.published[WEB].healed
    first, mirror = (folder / "web/release/manifest" for folder in (desk.publish, desk.root.parent / "mirror"))
    assert first.read_bytes() == mirror.read_bytes()
    assert desk.published_tree()


def test_hosts_that_came_after_canaries_are_left_alone_by_the_next_deploy(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.settle()
    monkeypatch.setattr(waves, "_wait", lambda *_: None)
    clocks = waves.Clocks(lambda: desk.clock, lambda: 0.0, lambda _: None)
    fleet, trust = load_fleet(desk.root), load_trust(desk.root)

    def in_waves() -> None:
        waves.deploy_in_waves(fleet, trust, tuple(fleet.hosts), (HostName("db"),), 1, clocks, lambda *_: None)

    assert desk.looked_at(in_waves) == {"web"}
    assert desk.looked_at(desk.deploy) == set()


def test_what_a_system_declares_is_asked_for_once_it_is_built_also_where_deploys_only_evaluate(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (desk.root / "bento.toml").read_text()
    (desk.root / "bento.toml").write_text(f'{text}\n[build]\nmode = "dry-build"\n')
    add_a_secret(desk)
    there = False
    real = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: there if path == SYSTEM else real(path))
    one = {"name": "password", "owner": "nginx", "group": "root", "mode": "0400", "path": None, "restart": []}
    said = {"format": 1, "secrets": [{**one, "reload": [], "users": False}], "templates": []}
    declared = parse_declaration(json.dumps(said).encode(), "declared")
    monkeypatch.setattr(deploy, "declaration_of", lambda _: declared if there else None)
    for _ in range(3):
        desk.deploy(names=["web"])
    assert desk.looked_at(lambda: desk.deploy(names=["web"])) == set()
    there = True
    assert desk.changed(names=["web"]) == {"web": ("secrets",)}


def test_root_gives_hosts_their_folders_also_after_a_deploy_by_somebody_who_could_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_accounts(desk, monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        desk.settle()
    assert (desk.publish / "web/reports").stat().st_gid == 0
    desk.deploy()
    assert (desk.publish / "web/reports").stat().st_gid == 12345
