"""Field types for the pydantic models: names parsed by their own rules, numbers and texts with bounds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StringConstraints

from bento.models.limits import LIMITS
from bento.names import Digest, HostName, SecretName, Serial, SystemPath
from bento_secrets.names import parse_account, parse_link_path, parse_mode, parse_unit


class Frozen(BaseModel):
    """The base of everything written or sent: strict types, no unknown keys, no change after parsing."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 — pydantic turns only ValueErrors into its own
    return value


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")  # noqa: TRY004 — as above
    return value


HostField = Annotated[HostName, PlainValidator(lambda value: HostName.parse(_text(value)))]
SecretField = Annotated[SecretName, PlainValidator(lambda value: SecretName.parse(_text(value)))]
DigestField = Annotated[Digest, PlainValidator(lambda value: Digest.parse(_text(value)))]
SerialField = Annotated[Serial, PlainValidator(lambda value: Serial.parse(_number(value)))]
SystemField = Annotated[SystemPath, PlainValidator(lambda value: SystemPath.parse(_text(value)))]
AccountField = Annotated[str, PlainValidator(lambda value: parse_account(_text(value)))]
ModeField = Annotated[str, PlainValidator(lambda value: parse_mode(_text(value)))]
LinkField = Annotated[str, PlainValidator(lambda value: parse_link_path(_text(value)))]
UnitField = Annotated[str, PlainValidator(lambda value: parse_unit(_text(value)))]
UnitsField = Annotated[tuple[UnitField, ...], Field(max_length=LIMITS.units)]

# What a nixosConfigurations name may be; always quoted when it reaches Nix.
AttributeField = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
# A Nix command-line argument: printable, so that it can be shown and can't carry a newline.
ArgField = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,1024}$")]
ArgsField = Annotated[tuple[ArgField, ...], Field(max_length=LIMITS.args)]
# An input's name in a flake, as Nix takes it on its command line: it can't be taken for an option.
InputField = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
InputsField = Annotated[tuple[InputField, ...], Field(max_length=LIMITS.inputs)]
# A part of the day by a host's own clock, for example 02:00-05:00; core/reboots.py reads it.
WindowField = Annotated[
    str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$")
]
NoticeField = Annotated[int, Field(ge=0, le=24 * 60)]  # minutes
Seconds = Annotated[int, Field(ge=0, le=2**53 - 1)]  # UTC seconds since 1970
