"""The manifest: the signed description of one release (docs/reference.md, The manifest)."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from bento.errors import InputError
from bento.models.fields import (
    AccountField,
    ArgsField,
    AttributeField,
    DigestField,
    Frozen,
    HostField,
    InputsField,
    LinkField,
    ModeField,
    NoticeField,
    Seconds,
    SecretField,
    SerialField,
    SystemField,
    UnitsField,
    WindowField,
)
from bento.models.limits import LIMITS
from bento.models.line import SignedLine, parse_line
from bento.names import SecretName, did_you_mean
from bento_secrets.templates import parse_template

ConfigKind = Literal["flake", "channel"]
Action = Literal["switch", "boot"]
OnDifference = Literal["report", "refuse"]
Evaluate = Literal["host", "server"]
RebootPolicy = Literal["never", "when-needed"]


class ConfigRef(Frozen):
    """The configuration's tar. `attribute` is null for channel hosts."""

    digest: DigestField
    size: Annotated[int, Field(ge=0, le=LIMITS.config)]
    kind: ConfigKind
    attribute: AttributeField | None


class SecretRef(Frozen):
    """One sealed file and how it is to be installed. `recipient` says which of the host's it is sealed to.

    One for `users` is installed in a phase of its own, before there are users: a password's hash, for example.
    """

    name: SecretField
    digest: DigestField
    size: Annotated[int, Field(ge=1, le=LIMITS.ciphertext)]
    recipient: Annotated[str, Field(max_length=4096)]
    owner: AccountField
    group: AccountField
    mode: ModeField
    path: LinkField | None
    restart: UnitsField
    reload: UnitsField
    users: bool = False


class TemplateRef(Frozen):
    """A text with secrets named in it, rendered on the host. It is signed, and no secret itself."""

    name: SecretField
    text: Annotated[str, Field(max_length=LIMITS.template)]
    owner: AccountField
    group: AccountField
    mode: ModeField
    path: LinkField | None
    restart: UnitsField
    reload: UnitsField


class Settings(Frozen):
    """What the admin asks of the host. `args` are Nix's, for the host's build.

    `rebuild` is when the admin last asked a channel host to build the same files anew (UTC seconds): a new value is a
    new setting, so the host builds. With `evaluate` by the server the host only fetches the signed system path.
    `reboot_window` is part of a day by the host's clock; `reboot_notice` in minutes; with `reboot_kexec` a reboot for a
    new kernel leaves out the firmware and the boot loader, where that can be done. `self_update`: inputs of its flake
    that the host may move on by itself.
    """

    action: Action = "switch"
    on_difference: OnDifference = "report"
    args: ArgsField = ()
    rebuild: Seconds | None = None
    evaluate: Evaluate = "host"
    reboot: RebootPolicy = "never"
    reboot_window: WindowField | None = None
    reboot_notice: NoticeField = 5
    reboot_kexec: bool = False
    self_update: InputsField = ()


class Manifest(SignedLine):
    """One release. `created` in UTC seconds; `previous` is the sha256 of the manifest file before, itself an object."""

    fleet: Annotated[str, Field(min_length=1, max_length=64)]
    host: HostField
    serial: SerialField
    created: Seconds
    previous: DigestField | None
    config: ConfigRef
    system: SystemField | None
    secrets: Annotated[tuple[SecretRef, ...], Field(max_length=LIMITS.secrets)]
    templates: Annotated[tuple[TemplateRef, ...], Field(max_length=LIMITS.templates)] = ()
    settings: Settings


def parse_manifest(line: bytes, *, known: bool = False) -> Manifest:
    """The manifest of a line whose signature has been verified. Raises InputError on any but the canonical form.

    `known`: these bytes were found to be such a line before.
    """
    manifest = parse_line(Manifest, line, "the manifest", known=known)
    if not known:
        check_contents(manifest.secrets, manifest.templates)
    return manifest


def check_contents(secrets: Sequence[SecretRef], templates: Sequence[TemplateRef]) -> None:
    """Whether a host can install these: asked before they are signed, and again by the host. Raises InputError."""
    files: list[SecretRef | TemplateRef] = [*secrets, *templates]
    _check_names([one.name for one in files])
    _check_links([one.path for one in files if one.path is not None])
    for secret in secrets:
        if secret.users and (secret.owner, secret.group, secret.mode, secret.path) != ("root", "root", "0400", None):
            raise InputError(
                f"the secret {secret.name} is needed before there are users: it is root's, 0400, and has no link",
                "leave out its owner, group, mode and path, or users",
            )
    known = {secret.name for secret in secrets}
    for template in templates:
        for name in parse_template(template.text, f"the template {template.name}").secrets:
            if name not in known:
                raise InputError(
                    f"the template {template.name} names the secret {name}, which the host doesn't have",
                    *did_you_mean(name, known),
                )


def _check_names(names: Sequence[SecretName]) -> None:
    """Secrets and templates are files of one folder: no name may equal another but for case, or be its folder."""
    seen: set[str] = set()
    for name in sorted(str(name).lower() for name in names):
        parts = name.split("/")
        if any("/".join(parts[:depth]) in seen for depth in range(1, len(parts) + 1)):
            raise InputError(
                f"two secrets or templates of one host can't share the name {name}, or one is the other's folder",
                "rename one of them",
            )
        seen.add(name)


def _check_links(paths: Sequence[str]) -> None:
    seen: set[str] = set()
    for path in sorted(paths, key=lambda path: path.count("/")):
        parts = path.split("/")
        if any("/".join(parts[:depth]) in seen for depth in range(2, len(parts) + 1)):
            raise InputError(f"two links of one host collide at {path}", "give one of them another path")
        seen.add(path)
