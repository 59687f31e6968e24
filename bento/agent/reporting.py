"""Reports and heartbeats: made, signed with the host key, kept until the server has them."""

import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bento.adapters import signatures
from bento.agent.host import Host
from bento.agent.install import live_manifest
from bento.core import spool
from bento.errors import BentoError
from bento.models.limits import LIMITS
from bento.models.signed import canonical, sha256
from bento.models.trust import NAMESPACE_REPORT
from bento.names import Digest, SecretName, Serial

if TYPE_CHECKING:
    from bento.agent.link import Session
    from bento.models.manifest import Manifest
    from bento.models.report import Outcome, SecretReport


def plain(text: str, limit: int) -> str:
    """Text for a report: control characters taken out but newlines and tabs, the end kept, at most `limit` bytes.

    A report is read on the admin's terminal.
    """
    clean = "".join(char for char in text if char in "\n\t" or char.isprintable())
    return clean.encode("ascii", "backslashreplace")[-limit:].decode("ascii")


def make_report(
    host: Host,
    outcome: "Outcome",
    reason: str,
    *,
    manifest: "Manifest | None" = None,
    serial: Serial | None = None,
    digest: Digest | None = None,
    systems: tuple[str | None, str | None] = (None, None),
    log: str = "",
) -> None:
    """Put a report into the spool. `systems` are the old and the new one; `digest` that of the manifest's JSON line."""
    from bento.models.report import Report

    counter = host.state.next_counter(host.clock())
    report = Report(
        fleet=host.trust.fleet,
        host=host.name,
        counter=counter,
        time=host.clock(),
        serial=manifest.serial if manifest is not None else serial,
        digest=sha256(manifest.line) if manifest is not None else digest,
        outcome=outcome,
        reason=plain(reason, LIMITS.reason),
        old_system=systems[0],
        new_system=systems[1],
        running=host.running(),
        secrets=_secret_states(host, manifest),
        log_tail=plain(log, LIMITS.log_tail // 2),
    )
    signed = signatures.sign(report.line, host.settings.identities[:1], NAMESPACE_REPORT)
    host.state.put_in_spool(counter, signed.raw)


def _secret_states(host: Host, manifest: "Manifest | None") -> "tuple[SecretReport, ...]":
    """Each secret of the release, as it is on the tmpfs now; without a release, what is live."""
    from bento.models.report import SecretReport

    live = live_manifest(host)
    have: Mapping[SecretName, Digest] = {} if live is None else {one.name: one.digest for one in live.secrets}
    about = manifest if manifest is not None else live
    states: list[SecretReport] = []
    for secret in () if about is None else about.secrets:
        there = have.get(secret.name)
        if there is None:
            states.append(SecretReport(name=secret.name, digest=secret.digest, state="failed"))
        else:
            same = there == secret.digest
            states.append(SecretReport(name=secret.name, digest=there, state="installed" if same else "kept"))
    return tuple(states)


def send_spooled(host: Host, session: "Session") -> None:
    """Send what waits, oldest first; each is dropped only once the server has it.

    One that the disk doesn't give keeps no other from being sent, nor this host from its releases.
    """
    for path in host.state.spooled():
        try:
            raw = path.read_bytes()
        except OSError as error:
            host.say(f"the report {path} can't be read: {error.strerror}")
            continue
        session.put(f"reports/{path.name}", raw)
        host.state.sent(path)


def send_heartbeat(host: Host, session: "Session") -> None:
    """Leave a sign of life. Written without pydantic: this is the poll path (models/report.py reads it)."""
    serial = host.state.journal().committed.serial
    line = canonical(
        {
            "format": 1,
            "fleet": host.trust.fleet,
            "host": host.name,
            "after": host.state.last_counter(),
            "time": host.clock(),
            "serial": serial,
            "running": host.running(),
            "signers": sorted(signer.fingerprint for signer in host.trust.signers)[: LIMITS.signers],
        }
    )
    signed = signatures.sign(line, host.settings.identities[:1], NAMESPACE_REPORT)
    session.put("reports/heartbeat", signed.raw)


def deliver(host: Host) -> bool:
    """Send the spool and a heartbeat over a connection of their own, in a few tries; False: at the next run, then."""
    from bento.adapters.sftp import ServerAway
    from bento.agent.link import connected

    number = 0
    while True:
        number += 1
        try:
            with connected(host) as session:
                send_spooled(host, session)
                send_heartbeat(host, session)
        except BentoError as error:
            seconds = spool.pause(number, random.random()) if isinstance(error, ServerAway) else None  # noqa: S311 — spreads load, guards nothing
            if seconds is None:
                host.say(f"the report waits to be sent: {error.message}")
                return False
            time.sleep(seconds)
        else:
            return True
