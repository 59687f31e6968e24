"""What was published from this machine, so that a server that has lost it or has an older one is noticed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from bento.adapters.files import read_capped, store
from bento.errors import BentoError, EnvironmentFailed
from bento.names import BadName, Digest, HostName, Serial

_LARGEST: Final = 64 * 1024 * 1024  # bytes: some hundred thousand hosts
_NONE: Final = "-"
_FIELDS: Final = 4


@dataclass(frozen=True)
class Known:
    """`signed` is the highest serial signed here; `serial` and `line` (sha256 of the JSON) are what was published."""

    signed: Serial
    serial: Serial | None = None
    line: Digest | None = None


class Memory:
    """A file with a line for each host: its name, then what is known. A person may take lines out.

    Losing it costs the notice, not safety: hosts keep their own floors. It is read once: while a deploy has the
    workspace's lock, nobody else writes it. A damaged line is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[HostName, Known] | None = None
        self._new = False  # whether something has to be kept

    def last(self, host: HostName) -> Known | None:
        """What is remembered; None where nothing is, or it can't be read."""
        return self._all().get(host)

    def will_publish(self, serials: Mapping[HostName, Serial]) -> None:
        """Releases of these serials are signed: kept before anybody can see them, so no others get their numbers.

        Raises EnvironmentFailed.
        """
        for host, serial in serials.items():
            before = self.last(host) or Known(serial)
            if before.signed <= serial:
                self._put(host, Known(serial, before.serial, before.line))
        self.keep()

    def has_published(self, host: HostName, serial: Serial, line: Digest) -> None:
        """It is there for hosts to see. To be kept by `keep`; hosts may be worked on at once."""
        before = self.last(host)
        self._put(host, Known(max(serial, before.signed if before is not None else serial), serial, line))

    def keep(self) -> None:
        """Write what is news. Raises EnvironmentFailed."""
        if not self._new:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"can't make {self.path.parent}: {error.strerror}",
                f"see whose it is: ls -ld {quote(str(self.path.parent.parent))}",
            ) from None
        self._new = False  # before they are copied: what comes meanwhile is kept the next time
        try:
            store(self.path, "".join(_said(*one) for one in sorted(self._all().copy().items())).encode(), 0o600)
        except EnvironmentFailed:
            self._new = True
            raise

    def _put(self, host: HostName, known: Known) -> None:
        if self._all().get(host) != known:
            self._all()[host] = known
            self._new = True

    def _all(self) -> dict[HostName, Known]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> dict[HostName, Known]:
        try:
            raw = read_capped(self.path, _LARGEST, "what was published from here") or b""
        except BentoError:
            return {}
        return dict(filter(None, map(_parsed, raw.decode("ascii", "replace").splitlines())))


def _said(host: HostName, known: Known) -> str:
    return f"{host} {known.signed} {known.serial or _NONE} {known.line or _NONE}\n"


def _parsed(line: str) -> tuple[HostName, Known] | None:
    fields = line.split(" ")
    if len(fields) != _FIELDS:
        return None
    host, signed, serial, digest = fields
    try:
        return HostName.parse(host), Known(
            Serial.parse(int(signed)),
            None if serial == _NONE else Serial.parse(int(serial)),
            None if digest == _NONE else Digest.parse(digest),
        )
    except (BadName, ValueError):
        return None
