"""What a host would get or lose between two releases, secret by secret and setting by setting."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bento.models.manifest import Manifest, SecretRef, Settings, TemplateRef

Kind = Literal["secret", "template", "setting"]


@dataclass(frozen=True)
class Difference:
    """`what` says it in words: new, gone, new content, owner root -> app."""

    kind: Kind
    name: str
    what: str


def differences(before: Manifest | None, after: Manifest) -> tuple[Difference, ...]:
    """All of them, by name. Without a release before, every secret and template is new, and settings are not told."""
    found = [
        *_files("secret", before.secrets if before is not None else (), after.secrets),
        *_files("template", before.templates if before is not None else (), after.templates),
    ]
    if before is not None:
        found.extend(_settings(before.settings, after.settings))
    return tuple(found)


def _files(
    kind: Kind, before: Sequence[SecretRef | TemplateRef], after: Sequence[SecretRef | TemplateRef]
) -> Iterator[Difference]:
    then = {one.name: one for one in before}
    now = {one.name: one for one in after}
    for name in sorted({*then, *now}):
        if name not in then:
            yield Difference(kind, name, "new")
        elif name not in now:
            yield Difference(kind, name, "gone")
        elif then[name] != now[name]:
            yield Difference(kind, name, "; ".join(_attributes(then[name], now[name])))


def _attributes(then: SecretRef | TemplateRef, now: SecretRef | TemplateRef) -> Iterator[str]:
    content = ("digest", "size", "text")
    if any(getattr(then, key, None) != getattr(now, key, None) for key in content):
        yield "new content"  # or the same, sealed anew: only the host can tell
    for key in type(now).model_fields:
        if key not in content and getattr(then, key) != getattr(now, key):
            yield f"{key} {_said(getattr(then, key))} -> {_said(getattr(now, key))}"


def _settings(then: Settings, now: Settings) -> Iterator[Difference]:
    for key in Settings.model_fields:
        before, after = getattr(then, key), getattr(now, key)
        if before != after:
            yield Difference("setting", key, f"{_said(before)} -> {_said(after)}")


def _said(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value)
