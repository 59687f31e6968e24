"""What a host says of a run, and the sign of life it leaves at each poll. Both signed by the host key."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bento.models.fields import DigestField, Frozen, HostField, Seconds, SecretField, SerialField
from bento.models.limits import LIMITS
from bento.models.line import SignedLine, parse_line

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


class Report(SignedLine):
    """One run of note. `serial` and `digest` (of the manifest's JSON line) name the release it is about, if any."""

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


class Heartbeat(SignedLine):
    """A poll that went well. `after` is the counter of the newest report made before it; `serial` the committed one.

    `signers` are the fingerprints of those whose releases the host accepts.
    """

    fleet: Annotated[str, Field(max_length=64)]
    host: HostField
    after: Annotated[int, Field(ge=0, le=2**53 - 1)]
    time: Seconds
    serial: SerialField | None
    running: PathText | None
    signers: Annotated[tuple[Fingerprint, ...], Field(max_length=LIMITS.signers)] = ()


def parse_report(line: bytes) -> Report:
    """A verified report's line. Raises InputError."""
    return parse_line(Report, line, "the report")


def parse_heartbeat(line: bytes) -> Heartbeat:
    """A verified heartbeat's line. Raises InputError."""
    return parse_line(Heartbeat, line, "the heartbeat")
