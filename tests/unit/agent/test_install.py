"""Which units a new set of secrets concerns: exactly those of what changed."""

from types import SimpleNamespace
from unittest.mock import patch

import pytest
from unit.samples import digest, manifest, secret

from bento.adapters.systemd import Units
from bento.agent import install
from bento.agent.install import installed
from bento.models.manifest import Manifest, SecretRef

WITH_UNITS = {"restart": ("a.service",), "reload": ("b.service",)}
BEFORE = secret("db", **WITH_UNITS)


class Unseen:
    """A runtime whose generations can't be compared: then a digest decides."""

    def same_content(self, *_: object) -> None:
        return None


def changed_units(before: Manifest | None, after: Manifest | None) -> Units:
    """As the agent asks, with two releases in its state."""
    releases = {1: before, 2: after}
    host = SimpleNamespace(runtime=Unseen(), for_users=Unseen())
    with patch.object(install, "stored_manifest", lambda _, serial: releases[serial]):
        return install.changed_units(host, 1 if before else None, 2 if after else None)  # type: ignore[arg-type]


def release(*secrets: SecretRef) -> Manifest:
    return manifest(secrets=secrets)


def test_the_same_secrets_concern_nobody() -> None:
    assert changed_units(release(BEFORE), release(BEFORE)) == Units()
    moved = secret("db", path="/etc/a/b", size=7, recipient="age1y", **WITH_UNITS)
    assert changed_units(release(BEFORE), release(moved)) == Units()


@pytest.mark.parametrize(
    "change", [{"digest": digest("new")}, {"owner": "nginx"}, {"group": "nginx"}, {"mode": "0440"}]
)
def test_other_content_owner_group_or_mode_concern_its_units(change: dict[str, object]) -> None:
    after = secret("db", **{**WITH_UNITS, **change})
    assert changed_units(release(BEFORE), release(after)) == Units(("a.service",), ("b.service",))


def test_the_units_are_those_of_the_new_release() -> None:
    after = secret("db", digest=digest("new"), restart=("c.service",))
    assert changed_units(release(BEFORE), release(after)) == Units(("c.service",), ())


def test_a_first_install_restarts_nothing() -> None:
    assert changed_units(None, release(BEFORE)) == Units()


def test_an_added_secret_concerns_its_units() -> None:
    assert changed_units(release(), release(BEFORE)) == Units(("a.service",), ("b.service",))
    added = secret("new", restart=("c.service",))
    assert changed_units(release(BEFORE), release(BEFORE, added)) == Units(("c.service",), ())


def test_a_removed_secret_restarts_nothing() -> None:
    assert changed_units(release(BEFORE), release()) == Units()
    assert changed_units(release(BEFORE), None) == Units()
    assert changed_units(None, None) == Units()


def test_each_unit_comes_once_and_restarting_beats_reloading() -> None:
    names = ("one", "two", "three")
    before = [secret(name) for name in names]
    after = [
        secret("one", digest=digest("x"), restart=("a.service", "b.service"), reload=("c.service",)),
        secret("two", digest=digest("y"), restart=("b.service", "a.service"), reload=("a.service", "c.service")),
        secret("three", restart=("untouched.service",)),
    ]
    assert changed_units(release(*before), release(*after)) == Units(("a.service", "b.service"), ("c.service",))


def test_a_unit_to_reload_by_one_secret_and_to_restart_by_another_is_restarted_only() -> None:
    before = [secret("one"), secret("two")]
    after = [
        secret("one", digest=digest("x"), reload=("a.service",)),
        secret("two", digest=digest("y"), restart=("a.service",)),
    ]
    assert changed_units(release(*before), release(*after)) == Units(("a.service",), ())


def test_what_is_installed_is_what_was_signed() -> None:
    one = secret("a/b", owner="nginx", group="www", mode="0440", path="/etc/a/b", restart=("a.service",), reload=())
    (item,) = installed(release(one))
    for name in ("name", "owner", "group", "mode", "path", "restart", "reload", "digest"):
        assert getattr(item, name) == getattr(one, name)
