"""Every way in which two releases can differ is said, and nothing else."""

from unit.samples import digest, manifest, secret

from bento.core.release_diff import Difference, differences
from bento.models.manifest import Settings, TemplateRef


def said(*found: Difference) -> list[str]:
    return [f"{one.kind} {one.name}: {one.what}" for one in found]


def template(name: str, text: str) -> TemplateRef:
    fields = secret(name).model_dump(include={"name", "owner", "group", "mode", "path", "restart", "reload"})
    return TemplateRef.model_validate({**fields, "text": text})


def test_the_same_release_has_no_differences() -> None:
    one = manifest(secrets=(secret("a"),), templates=(template("t", "x"),))
    assert differences(one, one.model_copy(update={"serial": 2000, "created": 9})) == ()


def test_secrets_come_go_and_change() -> None:
    before = manifest(secrets=(secret("kept"), secret("gone"), secret("other", digest=digest("old"))))
    after = manifest(secrets=(secret("kept"), secret("new"), secret("other", digest=digest("new"))))
    assert said(*differences(before, after)) == ["secret gone: gone", "secret new: new", "secret other: new content"]


def test_attributes_are_said_with_both_values() -> None:
    before = manifest(secrets=(secret("a", owner="root", restart=("x.service",)),))
    after = manifest(secrets=(secret("a", owner="app", restart=(), path="/etc/a"),))
    assert said(*differences(before, after)) == [
        "secret a: owner root -> app; path none -> /etc/a; restart x.service -> none"
    ]


def test_templates_and_settings_are_told_too() -> None:
    before = manifest(templates=(template("t", "x"),))
    after = manifest(templates=(template("t", "y"),), settings=Settings(action="boot", args=("--fallback", "-L")))
    assert said(*differences(before, after)) == [
        "template t: new content",
        "setting action: switch -> boot",
        "setting args: none -> --fallback -L",
    ]


def test_without_a_release_before_every_secret_is_new_and_settings_are_not_told() -> None:
    after = manifest(secrets=(secret("a"),), settings=Settings(action="boot"))
    assert said(*differences(None, after)) == ["secret a: new"]
