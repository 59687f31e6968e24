"""What was published from this machine, by host, so that a server that has lost it or has an older one is noticed."""

import json
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from bento.adapters.files import read_capped, store
from bento.errors import BentoError, EnvironmentFailed
from bento.models.signed import canonical
from bento.names import BadName, Digest, HostName, Serial

_LARGEST = 4096  # bytes


@dataclass(frozen=True)
class Known:
    """`signed` is the highest serial signed here; `serial` and `line` (sha256 of the JSON) are what was published."""

    signed: Serial
    serial: Serial | None = None
    line: Digest | None = None


class Memory:
    """A file a host in the workspace. Losing it costs the notice, not safety: hosts keep their own floors.

    Each is read once: while a deploy has the workspace's lock, nobody else writes them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[HostName, Known | None] = {}

    def path(self, host: HostName) -> Path:
        """Where it is remembered."""
        return Path(f"{self.folder}/{host}.json")

    def last(self, host: HostName) -> Known | None:
        """What is remembered; None where nothing is, or it can't be read."""
        if host not in self._read:
            self._read[host] = self._last(host)
        return self._read[host]

    def _last(self, host: HostName) -> Known | None:
        try:
            said = json.loads(
                read_capped(f"{self.folder}/{host}.json", _LARGEST, f"what was published for {host}") or b""
            )
            serial, line = said["serial"], said["line"]
            return Known(
                Serial.parse(said["signed"]),
                None if serial is None else Serial.parse(serial),
                None if line is None else Digest.parse(line),
            )
        except (BentoError, ValueError, KeyError, TypeError, BadName):
            return None

    def will_publish(self, host: HostName, serial: Serial) -> None:
        """A release of this serial is signed: before anybody can see it, so no other gets its number."""
        before = self.last(host)
        if before is None:
            self._write(host, Known(serial))
        elif serial > before.signed:
            self._write(host, Known(serial, before.serial, before.line))

    def has_published(self, host: HostName, serial: Serial, line: Digest) -> None:
        """It is there for hosts to see. Written only where that is news."""
        before = self.last(host)
        now = Known(max(serial, before.signed if before is not None else serial), serial, line)
        if now != before:
            self._write(host, now)

    def _write(self, host: HostName, known: Known) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"can't make {self.folder}: {error.strerror}",
                f"see whose it is: ls -ld {quote(str(self.folder.parent))}",
            ) from None
        said = {"signed": known.signed, "serial": known.serial, "line": known.line}
        store(self.path(host), canonical(said), 0o600)
        self._read[host] = known
