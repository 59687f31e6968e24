"""The manifest: the signed description of one release (design: Release)."""

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bento.errors import InputError
from bento.models.fields import (
    AccountField,
    ArgsField,
    AttributeField,
    DigestField,
    Frozen,
    HostField,
    LinkField,
    ModeField,
    Seconds,
    SecretField,
    SerialField,
    SystemField,
    UnitsField,
)
from bento.models.limits import LIMITS
from bento.models.signed import canonical
from bento.names import printable

ConfigKind = Literal["flake", "channel"]
Action = Literal["switch", "boot"]
OnDifference = Literal["report", "refuse"]


class ConfigRef(Frozen):
    """The configuration's tar. `attribute` is null for channel hosts."""

    digest: DigestField
    size: Annotated[int, Field(ge=0, le=LIMITS.config)]
    kind: ConfigKind
    attribute: AttributeField | None


class SecretRef(Frozen):
    """One sealed file and how it is to be installed. `recipient` says which of the host's it is sealed to."""

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


class Settings(Frozen):
    """What the admin asks of the host. `args` are Nix's, for the host's build."""

    action: Action = "switch"
    on_difference: OnDifference = "report"
    args: ArgsField = ()


class Manifest(Frozen):
    """One release. `created` in UTC seconds; `previous` is the sha256 of the manifest file before, itself an object."""

    format: Literal[1] = 1
    fleet: Annotated[str, Field(min_length=1, max_length=64)]
    host: HostField
    serial: SerialField
    created: Seconds
    previous: DigestField | None
    config: ConfigRef
    system: SystemField | None
    secrets: Annotated[tuple[SecretRef, ...], Field(max_length=LIMITS.secrets)]
    settings: Settings

    @property
    def line(self) -> bytes:
        """The canonical JSON line that is signed."""
        return canonical(self.model_dump(mode="json"))


def parse_manifest(line: bytes) -> Manifest:
    """The manifest of a line whose signature has been verified. Raises InputError on any but the canonical form."""
    try:
        manifest = Manifest.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise InputError(f"the manifest's {printable(where)} is wrong: {printable(first['msg'])}") from None
    if manifest.line != line:
        # Duplicate keys and other spellings of the same thing have no place in what is signed.
        raise InputError("the manifest is not in canonical form")
    names = {secret.name.lower() for secret in manifest.secrets}
    folders = {"/".join(name.split("/")[:depth]) for name in names for depth in range(1, name.count("/") + 1)}
    if len(names) != len(manifest.secrets) or names & folders:
        raise InputError("the manifest names a secret twice, or one below another")
    return manifest
