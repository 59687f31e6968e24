"""What a deploy publishes: serials only rise, a wrong clock is noticed, and the same content is no new release."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import FLEET, OTHER_SYSTEM, SYSTEM, WEB, digest, manifest, quick, secret

from bento.core.deploy_plan import MAX_AHEAD, compose, next_serial, same_build, same_content
from bento.errors import WorkFailed
from bento.models.manifest import ConfigRef, Manifest, Settings
from bento.models.signed import SignedDocument, sha256
from bento.names import MAX_SERIAL, Serial


@pytest.mark.parametrize(
    ("previous", "now", "serial"),
    [
        (None, 1000, 1000),
        (900, 1000, 1000),
        (999, 1000, 1000),
        (1000, 1000, 1001),
        (1001, 1000, 1002),
        (1000 + MAX_AHEAD, 1000, 1001 + MAX_AHEAD),
    ],
)
def test_a_serial_is_the_time_or_one_more_than_the_last(previous: int | None, now: int, serial: int) -> None:
    assert next_serial(None if previous is None else Serial(previous), now) == serial


def test_a_serial_more_than_ten_minutes_ahead_stops_the_deploy() -> None:
    assert MAX_AHEAD == 600
    with pytest.raises(WorkFailed, match="601 seconds in the future") as error:
        next_serial(Serial(1601), 1000)
    assert any("date" in hint for hint in error.value.hints)


@quick
@given(st.integers(1, MAX_SERIAL - 1), st.integers(1, MAX_SERIAL))
def test_a_serial_always_rises_or_is_refused(previous: int, now: int) -> None:
    try:
        serial = next_serial(Serial(previous), now)
    except WorkFailed:
        assert previous > now + MAX_AHEAD
        return
    assert serial > previous
    assert now <= serial <= max(now, previous + 1)


BEFORE = manifest(secrets=(secret("a"), secret("b")))


def same(**changes: object) -> bool:
    after = manifest(**{"secrets": BEFORE.secrets, **changes})
    return same_content(BEFORE, after.config, after.secrets, after.templates, after.settings)


def test_the_same_content_is_no_new_release() -> None:
    assert same()
    assert same(serial=2000, created=5, previous=digest("x"))


@pytest.mark.parametrize(
    "changes",
    [
        {"config": ConfigRef(digest=digest("new"), size=10240, kind="flake", attribute="web")},
        {"config": ConfigRef(digest=digest("config"), size=10240, kind="flake", attribute="other")},
        {"config": ConfigRef(digest=digest("config"), size=10240, kind="channel", attribute=None)},
        {"secrets": ()},
        {"secrets": (secret("a"),)},
        {"secrets": (secret("a"), secret("b", digest=digest("new")))},
        {"secrets": (secret("a"), secret("b", owner="nginx"))},
        {"secrets": (secret("a"), secret("b", mode="0440"))},
        {"secrets": (secret("a"), secret("b", path="/etc/a/b"))},
        {"secrets": (secret("a"), secret("b", restart=("a.service",)))},
        {"settings": Settings(action="boot")},
        {"settings": Settings(args=("--fallback",))},
        {"settings": Settings(on_difference="refuse")},
    ],
)
def test_anything_that_a_host_would_do_differently_is_a_new_release(changes: dict[str, object]) -> None:
    assert not same(**changes)


def composed(previous: tuple[SignedDocument, Manifest] | None, kind: str = "flake") -> Manifest:
    config = ConfigRef.model_validate({"digest": digest("config"), "size": 1, "kind": kind, "attribute": None})
    return compose(
        fleet=FLEET,
        host=WEB,
        now=1000,
        previous=previous,
        config=config,
        system=SYSTEM,
        secrets=(secret(),),
        templates=(),
        settings=Settings(action="boot"),
    )


def test_a_first_release_has_nothing_before_it() -> None:
    first = composed(None)
    assert (first.serial, first.created, first.previous) == (1000, 1000, None)
    assert (first.fleet, first.host, first.system) == (FLEET, WEB, SYSTEM)
    assert first.secrets == (secret(),)
    assert first.settings.action == "boot"


def test_a_next_release_names_the_whole_file_before_it_and_rises() -> None:
    document = SignedDocument(manifest(1005).line, (b"armour",))
    after = composed((document, manifest(1005)))
    assert after.serial == 1006
    assert after.created == 1000
    assert after.previous == sha256(document.raw) != sha256(document.line)


def test_a_channel_host_is_promised_no_path() -> None:
    assert composed(None, "channel").system is None


def test_another_system_is_another_release_only_for_a_host_that_takes_it_as_it_is() -> None:
    by_server = manifest(settings=Settings(evaluate="server"))
    for before, new in ((manifest(), False), (by_server, True)):
        same = same_content(before, before.config, (), (), before.settings, OTHER_SYSTEM)
        assert same is not new
        other = before.model_copy(update={"system": OTHER_SYSTEM})
        assert same_build(before, other) is not new
        assert same_build(before, before)


def test_a_channel_host_that_takes_a_system_as_it_is_is_told_which() -> None:
    for evaluate, named in (("host", None), ("server", SYSTEM)):
        made = compose(
            fleet="acme", host=WEB, now=1, previous=None, system=SYSTEM, secrets=(), templates=(),
            config=manifest().config.model_copy(update={"kind": "channel", "attribute": None}),
            settings=Settings.model_validate({"evaluate": evaluate}),
        )  # fmt: skip
        assert made.system == named
