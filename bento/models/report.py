"""What a host says of a run, and the sign of life it leaves at each poll. Both signed by the host key."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from bento.errors import InputError
from bento.models.fields import DigestField, Frozen, HostField, Seconds, SecretField, SerialField
from bento.models.limits import LIMITS
from bento.models.signed import canonical
from bento.names import printable

Outcome = Literal[
    "succeeded", "degraded", "reboot-needed", "auto-updated", "failed", "rolled-back", "unconfirmed", "refused"
]
SecretState = Literal["installed", "kept", "failed"]

# Running systems are told, not followed: any path without control characters will do.
PathText = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,512}$")]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]
Text = Annotated[str, Field(max_length=LIMITS.reason)]


class SecretReport(Frozen):
    """One secret of the release: opened and live, kept from the old generation, or not opened."""

    name: SecretField
    digest: DigestField
    state: SecretState


class Report(Frozen):
    """One run of note. `serial` and `digest` (of the manifest's JSON line) name the release it is about, if any."""

    format: Literal[1] = 1
    fleet: Annotated[str, Field(max_length=64)]
    host: HostField
    counter: Annotated[int, Field(ge=1, le=2**53 - 1)]
    time: Seconds
    serial: SerialField | None
    digest: DigestField | None
    outcome: Outcome
    reason: Text
    old_system: PathText | None
    new_system: PathText | None
    running: PathText | None
    secrets: Annotated[tuple[SecretReport, ...], Field(max_length=LIMITS.secrets)]
    log_tail: Annotated[str, Field(max_length=LIMITS.log_tail)]

    @property
    def line(self) -> bytes:
        """The canonical JSON line that is signed."""
        return canonical(self.model_dump(mode="json"))


class Heartbeat(Frozen):
    """A poll that went well. `after` is the counter of the newest report made before it; `serial` the committed one.

    `signers` are the fingerprints of those whose releases the host accepts.
    """

    format: Literal[1] = 1
    fleet: Annotated[str, Field(max_length=64)]
    host: HostField
    after: Annotated[int, Field(ge=0, le=2**53 - 1)]
    time: Seconds
    serial: SerialField | None
    running: PathText | None
    signers: Annotated[tuple[Fingerprint, ...], Field(max_length=LIMITS.signers)] = ()

    @property
    def line(self) -> bytes:
        """The canonical JSON line that is signed."""
        return canonical(self.model_dump(mode="json"))


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return printable(".".join(str(part) for part in first["loc"]) + ": " + first["msg"], 160)


def parse_report(line: bytes) -> Report:
    """A verified report's line. Raises InputError."""
    try:
        report = Report.model_validate_json(line)
    except ValidationError as error:
        raise InputError(f"the report is malformed: {_said(error)}") from None
    if report.line != line:
        raise InputError("the report is not in canonical form")
    return report


def parse_heartbeat(line: bytes) -> Heartbeat:
    """A verified heartbeat's line. Raises InputError."""
    try:
        heartbeat = Heartbeat.model_validate_json(line)
    except ValidationError as error:
        raise InputError(f"the heartbeat is malformed: {_said(error)}") from None
    if heartbeat.line != line:
        raise InputError("the heartbeat is not in canonical form")
    return heartbeat
