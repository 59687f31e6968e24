"""A host that stands as the last deploy left it is left alone; one of which anything differs is not."""

import shutil
from collections.abc import Callable

import pytest
from unit.desk import START, Desk, edit, keeping_times
from unit.samples import WEB, key_file, public

from bento.adapters import folder, nix
from bento.admin.build import How
from bento.admin.inventory import load_fleet
from bento.models.limits import LIMITS
from bento.names import SecretName, Target
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
    (kept,) = (desk.root.parent / "state").rglob("published/web.json")
    kept.unlink()


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
