"""What a deploy publishes: whether a release is new, its serial, and its manifest."""

from bento.errors import WorkFailed
from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings, TemplateRef
from bento.models.signed import SignedDocument, sha256
from bento.names import MAX_SERIAL, HostName, Serial, SystemPath

MAX_AHEAD = 600  # seconds a published serial may lie in the future before somebody's clock must be looked at


class ClockOff(WorkFailed):
    """This machine's clock is wrong, or was when the release before was signed."""


def next_serial(previous: Serial | None, now: int) -> Serial:
    """max(previous + 1, UTC seconds). Raises ClockOff where a clock is clearly wrong."""
    if previous is not None and previous > now + MAX_AHEAD:
        raise ClockOff(
            f"the serial {previous} of the release before lies {previous - now} seconds in the future",
            "look at this machine's clock: date -u",
        )
    return Serial.parse(min(max(now, (previous or 0) + 1), MAX_SERIAL))


def same_content(
    previous: Manifest,
    config: ConfigRef,
    secrets: tuple[SecretRef, ...],
    templates: tuple[TemplateRef, ...],
    settings: Settings,
    system: SystemPath | None = None,
) -> bool:
    """Nothing a host would do differently: nothing is written and the serial stays.

    `system` counts where the host takes it as it is: a host that evaluates looks at the configuration.
    """
    before = (previous.config, previous.secrets, previous.templates, previous.settings)
    if settings.evaluate == "server" and previous.system != system:
        return False
    return before == (config, secrets, templates, settings)


def same_build(one: Manifest, other: Manifest) -> bool:
    """Whether a host gets the same system from both."""
    fetched = other.settings.evaluate == "server"
    return (one.config, one.settings) == (other.config, other.settings) and not (fetched and one.system != other.system)


def compose(
    *,
    fleet: str,
    host: HostName,
    now: int,
    previous: tuple[SignedDocument, Manifest] | None,
    config: ConfigRef,
    system: SystemPath | None,
    secrets: tuple[SecretRef, ...],
    templates: tuple[TemplateRef, ...],
    settings: Settings,
    signed: Serial | None = None,
) -> Manifest:
    """The next release of `host`. `now` in UTC seconds; `previous` is what is published, verified.

    `signed` is the highest serial that is remembered: hosts may stand there even if the server doesn't.
    """
    document, before = previous if previous is not None else (None, None)
    serials = (before.serial if before is not None else None, signed)
    highest = max((serial for serial in serials if serial is not None), default=None)
    return Manifest(
        fleet=fleet,
        host=host,
        serial=next_serial(highest, now),
        created=now,
        previous=sha256(document.raw) if document is not None else None,
        config=config,
        system=system if config.kind == "flake" or settings.evaluate == "server" else None,
        secrets=secrets,
        templates=templates,
        settings=settings,
    )
