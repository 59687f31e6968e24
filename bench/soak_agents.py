"""Some of the soak's hosts in one process: the agent's own session, rules and reports, without Nix and tmpfs.

Each poll is an SSH connection of the host's own account, as its own key. A JSON object goes to stdout at the end.
"""

import hashlib
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bento.adapters import signatures
from bento.adapters.sftp import NotThere, Session, connect
from bento.agent.fetch import objects_of
from bento.core import trust_rules
from bento.core.trust_rules import Floor, NothingNew, Offer, Refuse
from bento.errors import BentoError
from bento.models.limits import LIMITS
from bento.models.manifest import Manifest, parse_manifest
from bento.models.report import Heartbeat, Report
from bento.models.signed import sha256, split
from bento.models.trust import NAMESPACE_RELEASE, NAMESPACE_REPORT, Trust, read_trust
from bento.names import HostName

PAGE = 4096
EVERY = 5.0  # seconds between two looks at this process's memory


@dataclass
class Told:
    """What came of it: reports that the server took, by host, as [counter, serial]; what should never be; memory."""

    polls: int = 0
    taken: int = 0
    sent: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    mixed: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)


class Agent:
    """One host."""

    def __init__(self, name: str, key: Path, trust: Trust, told: Told) -> None:
        self.name, self.key, self.trust, self.told = HostName.parse(name), key, trust, told
        self.floor: Floor | None = None
        self.counter = 0
        self.waiting: list[tuple[int, int, bytes]] = []

    def poll(self) -> None:
        """As bento/agent/run.py does it."""
        with connect(self.trust.servers[0], self.name, self.key) as session:
            raw = session.read("release/manifest", LIMITS.manifest)
            document = split(raw, "the manifest")
            known = self.floor is not None and document.line_digest == self.floor.line
            if not (known and self.floor is not None and isinstance(trust_rules.again(self.floor), NothingNew)):
                self._take(session, raw)
            while self.waiting:
                counter, serial, data = self.waiting[0]
                session.put(f"reports/{counter:020}.report", data)
                self.told.sent.setdefault(self.name, []).append((counter, serial))
                del self.waiting[0]
            session.put("reports/heartbeat", self._heartbeat())
        self.told.polls += 1

    def _take(self, session: Session, raw: bytes) -> None:
        document = split(raw, "the manifest")
        if not signatures.verified_here(document, self.trust.signers, NAMESPACE_RELEASE):
            self._never("its manifest isn't signed")
            return
        manifest = parse_manifest(document.line)
        offer = Offer(manifest.fleet, manifest.host, manifest.serial, document.line_digest)
        verdict = trust_rules.judge(offer, self.trust.fleet, self.name, self.floor)
        if isinstance(verdict, Refuse):
            self._never(verdict.reason)
            return
        for digest, size in objects_of(manifest).items():
            try:
                data = session.read(f"release/objects/{digest}", size)
            except NotThere:
                self._never(f"the object {digest} isn't there")
                return
            if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
                self._never(f"the object {digest} is another")
                return
        self.floor = trust_rules.finished(verdict.floor)
        self.told.taken += 1
        self._report(manifest)

    def _never(self, what: str) -> None:
        self.told.mixed.append(f"{self.name}: {what}")

    def _report(self, manifest: Manifest) -> None:
        self.counter = max(self.counter + 1, int(time.time()))
        report = Report(
            fleet=self.trust.fleet, host=self.name, counter=self.counter, time=int(time.time()), serial=manifest.serial,
            digest=sha256(manifest.line), outcome="succeeded", reason="soak", old_system=None, new_system=None,
            running=None, secrets=(), log_tail="",
        )  # fmt: skip
        signed = signatures.sign(report.line, (self.key,), NAMESPACE_REPORT)
        self.waiting.append((self.counter, manifest.serial, signed.raw))

    def _heartbeat(self) -> bytes:
        beat = Heartbeat(
            fleet=self.trust.fleet, host=self.name, after=self.counter, time=int(time.time()),
            serial=None if self.floor is None else self.floor.serial, running=None,
        )  # fmt: skip
        return signatures.sign(beat.line, (self.key,), NAMESPACE_REPORT).raw


def main(keys: Path, trust: Path, seconds: float, names: list[str]) -> None:
    """Poll for all of them in turn, until the time is over and each was asked once."""
    told = Told()
    agents = [Agent(name, keys / name, read_trust(trust), told) for name in names]
    began = looked = time.monotonic()
    at = 0
    while at < len(agents) or time.monotonic() < began + seconds:
        try:
            agents[at % len(agents)].poll()
        except BentoError as error:
            told.failed[error.message] += 1
        at += 1
        if time.monotonic() > looked + EVERY:
            looked = time.monotonic()
            told.memory.append((looked - began, resident()))
    told.memory.append((time.monotonic() - began, resident()))
    sys.stdout.write(json.dumps(vars(told)))


def resident(process: int | str = "self") -> float:
    """MB that a process holds now."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE / 1024**2


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
