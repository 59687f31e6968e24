"""`bento-agent run`: poll → verify → fetch → open → build → activate → confirm → report."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bento.adapters.files import publish_text
from bento.agent.facts import facts_of, textfile
from bento.agent.host import Host
from bento.agent.link import MANIFEST, admitted
from bento.agent.reboot import reboot_if_wanted
from bento.agent.reporting import deliver, make_report, send_heartbeat, send_spooled
from bento.agent.state import Damaged
from bento.agent.suspend import suspended
from bento.agent.turn import locked, refuse_busy
from bento.core import trust_rules
from bento.core.self_update import is_due
from bento.core.trust_rules import Floor, NothingNew, Refuse
from bento.errors import BentoError, EnvironmentFailed, InputError, Refused
from bento.models.limits import LIMITS
from bento.models.signed import SignedDocument, sha256, split
from bento.models.trust import NAMESPACE_RELEASE
from bento.names import Digest, Serial

if TYPE_CHECKING:
    from bento.agent.link import Session
    from bento.models.manifest import Manifest
    from bento.models.report import Outcome

EXIT = {
    "succeeded": 0,
    "reboot-needed": 0,
    "auto-updated": 0,
    "failed": 1,
    "unconfirmed": 1,
    "degraded": 4,
    "rolled-back": 5,
    "refused": 6,
}


@dataclass(frozen=True)
class Ran:
    """How a run ended. `outcome` is None where there was nothing to report.

    `settled`: the server has nothing else than what is installed.
    """

    outcome: "Outcome | None"
    message: str
    code: int
    settled: bool = False


def run(host: Host, pushed: "Session | None" = None) -> Ran:
    """One run, with the server or with what was `pushed`.

    Raises AgentBusy, RuntimeUnsafe, Damaged, EnvironmentFailed (no server); the rest is in the result.
    """
    with locked(host):
        try:
            host.ensure_runtime()
            ran = _run(host, pushed)
            if suspended(host) is None:
                reboot_if_wanted(host)
        except BentoError as error:
            if isinstance(error, Damaged | Refused):
                _tell(host, error)
            write_metrics(host, error.exit_code)
            raise
        write_metrics(host, ran.code)
    return ran


def _tell(host: Host, error: Damaged | Refused) -> None:
    """Have the admin hear, once, why this host takes nothing: its own memory, or what shows itself as the server.

    Never raises: that it says so here comes first. What no server can be told now, it is told when there is a link.
    """
    told = sha256(error.message.encode())
    try:
        if host.state.last_told() != told:
            floor = host.state.floor() if isinstance(error, Refused) else None
            outcome: Outcome = "refused" if isinstance(error, Refused) else "failed"
            make_report(host, outcome, error.message, serial=None if floor is None else floor.serial)
            host.state.write_told(told, damage=isinstance(error, Damaged))
    except BentoError as unreported:
        host.say(f"that can't be reported: {unreported.message}")
    if isinstance(error, Damaged):
        deliver(host)


def write_metrics(host: Host, code: int) -> None:
    """Leave the facts for Prometheus, where the settings name a file. Never raises: it is no part of the work."""
    if host.settings.metrics is None:
        return
    try:
        facts = facts_of(host)
    except BentoError:
        facts = None  # how the run ended says enough of it
    try:
        publish_text(host.settings.metrics, textfile(facts, host.clock(), code))
    except BentoError as error:
        host.say(f"the metrics can't be written: {error.message}")


def _run(host: Host, pushed: "Session | None") -> Ran:
    recovered = _recover(host)
    if recovered is not None and host.state.journal().phase != "idle":
        # Neither forward nor back: no release is taken over a switch whose old system isn't in force again.
        deliver(host)
        return recovered
    polled = _poll(host, pushed)
    if isinstance(polled, Ran) and polled.settled and recovered is None and pushed is None:
        return _self_update(host) or polled
    if isinstance(polled, Ran):
        return recovered or polled if polled.outcome is None and polled.code == 0 else polled
    from bento.agent.take import take_release

    taken = take_release(host, *polled)
    deliver(host)
    return Ran(taken.outcome, f"release {polled[0].serial}: {taken.outcome}: {taken.reason}", EXIT[taken.outcome])


def _self_update(host: Host) -> Ran | None:
    """Move the inputs on that the installed release's settings name; None where there was nothing to report."""
    serial = host.state.journal().committed.serial
    if serial is None or not is_due(host.state.tried(), host.clock()) or suspended(host) is not None:
        return None
    # A line without the key, as most hosts have it, is told apart without what could parse it.
    if serial not in host.state.serials() or b'"self_update":' not in host.state.manifest_line(serial):
        return None
    from bento.agent.self_update import self_update

    taken = self_update(host)
    if taken is None:
        return None
    deliver(host)
    return Ran(taken.outcome, f"{taken.outcome}: {taken.reason}", EXIT[taken.outcome])


def _recover(host: Host) -> Ran | None:
    """Finish or undo what a run that died was doing, and have the secrets of the running system live."""
    journal = host.state.journal()
    if journal.phase != "idle":
        from bento.agent.recover import recover

        refuse_busy(host)
        done = recover(host, journal)
        return Ran(done.outcome, done.reason, EXIT[done.outcome])
    if journal.committed.serial is not None and host.runtime.live() is None:
        from bento.agent.recover import reinstall

        try:
            reinstall(host, host.running())
        except BentoError as error:
            # The next release may mend it, so the run goes on.
            host.say(f"the secrets can't be installed: {error.message}")
    return None


def _poll(host: Host, pushed: "Session | None") -> "Ran | tuple[Manifest, Floor]":
    """Ask the server, decide by the trust rules, fetch. A Ran where there is nothing to take."""
    from bento.adapters.sftp import NotThere

    with admitted(host) if pushed is None else nullcontext(pushed) as session:
        _send(host, session)
        try:
            raw = session.read(MANIFEST, LIMITS.manifest)
        except NotThere:
            _send(host, session, heartbeat=True)
            return Ran(None, "nothing is published for this host yet", 0)
        except Refused as error:
            return _refuse(host, session, error.message, b"", None)
        try:
            return _judge(host, session, raw)
        except Refused as error:
            return _refuse(host, session, error.message, raw, _line_digest(raw))
        except NotThere as error:
            # The publisher collected it between our two reads, or the server lost it: the next run sees.
            raise EnvironmentFailed(
                f"the release isn't whole on the server: {error.message}",
                "publish it anew, on the admin's machine: bento deploy",
            ) from None


def _judge(host: Host, session: "Session", raw: bytes) -> "Ran | tuple[Manifest, Floor]":
    from bento.adapters.sftp import ServerAway

    document = _split(raw)
    floor = host.state.floor()
    if floor is not None and document.line_digest == floor.line:
        known = trust_rules.again(floor, None if floor.until is None else host.circumstances(), host.clock())
        if isinstance(known, NothingNew):
            _store_again(host, session, document, floor)
            return _nothing_new(host, session, known, floor)
    manifest = _verified(host, document)
    offer = trust_rules.Offer(manifest.fleet, manifest.host, manifest.serial, document.line_digest)
    verdict = trust_rules.judge(offer, host.trust.fleet, host.name, floor)
    if isinstance(verdict, Refuse):
        raise Refused(verdict.reason)
    pause = suspended(host)
    if pause is not None:
        _send(host, session, heartbeat=True)
        return Ran(None, f"release {manifest.serial} waits: updates are suspended {pause}", 0)
    host.say(f"release {manifest.serial}: taking it")
    try:
        _keep(host, session, manifest, raw, verdict.floor)
    except ServerAway:
        raise
    except EnvironmentFailed as error:
        return _cannot_keep(host, session, manifest, error)
    host.state.write_told(None)
    return manifest, verdict.floor


def _keep(host: Host, session: "Session", manifest: "Manifest", raw: bytes, floor: Floor) -> None:
    """Have the release on this host's disk: its manifest, the floor, its objects."""
    from bento.agent.fetch import fetch

    host.state.write_floor(floor)  # first: a stored manifest is evidence that the floor was that high
    host.state.keep_manifest(manifest.serial, raw)
    fetch(host, session, manifest)


def _store_again(host: Host, session: "Session", document: SignedDocument, floor: Floor) -> None:
    """Store the installed release anew where its manifest is lost: without it no boot could open its secrets.

    Its line is the one that was verified when it was accepted. Never raises: what can't be mended now is later.
    """
    if floor.progress != "finished":
        return
    try:
        if host.state.manifest(floor.serial).line_digest == floor.line:
            return
    except BentoError as error:
        host.say(error.message)
    from bento.agent.fetch import fetch
    from bento.models.manifest import parse_manifest

    try:
        fetch(host, session, parse_manifest(document.line))  # pruned, if it was lost for long
        host.state.keep_manifest(floor.serial, document.raw)
    except BentoError as error:
        host.say(f"release {floor.serial} can't be stored anew: {error.message}")
    else:
        host.say(f"release {floor.serial} is stored anew")


def _send(host: Host, session: "Session", *, heartbeat: bool = False) -> None:
    """Send what waits. A reports folder that takes nothing must not keep this host from its releases."""
    try:
        if heartbeat:
            send_heartbeat(host, session)
        else:
            send_spooled(host, session)
    except BentoError as error:
        host.say(f"the report waits to be sent: {error.message}")


def _split(raw: bytes) -> SignedDocument:
    try:
        return split(raw, "the manifest")
    except InputError as error:
        raise Refused(error.message) from None


def _verified(host: Host, document: SignedDocument) -> "Manifest":
    """Signature first, over the raw line; only then is any of it parsed."""
    from bento.adapters import signatures

    if not signatures.verified(document, host.trust.signers, NAMESPACE_RELEASE):
        if signatures.verified(document, host.trust.revoked, NAMESPACE_RELEASE):
            raise Refused("the manifest is signed by a revoked key, and by none of this host's signers")
        raise Refused("the manifest is not signed by one of this host's signers")
    from bento.models.manifest import parse_manifest

    try:
        return parse_manifest(document.line)
    except InputError as error:
        raise Refused(error.message) from None


def _nothing_new(host: Host, session: "Session", verdict: NothingNew, floor: Floor) -> Ran:
    ran = Ran(None, f"nothing new: release {floor.serial} is installed", 0, settled=True)
    if verdict.why == "failed too often":
        wait = "another" if floor.later is None else f"another, or {-(-(floor.later - host.clock()) // 60)} minutes"
        ran = Ran(None, f"release {floor.serial} failed {floor.tries} times; waiting for {wait}", 1)
    elif verdict.why == "nothing changed":
        ran = Ran(None, f"release {floor.serial} failed here, and nothing has changed since", 1)
    if host.state.told_of_damage():
        _in_order_again(host, ran, floor)
        _send(host, session)
    _send(host, session, heartbeat=True)
    host.state.write_told(None)
    return ran


def _in_order_again(host: Host, ran: Ran, floor: Floor) -> None:
    """What was told to be damaged is not any more, and no release comes of it: else nobody would hear of that."""
    from bento.agent.install import known_manifest

    running = host.running()
    outcome: Outcome = "succeeded" if ran.settled else "failed"
    manifest = known_manifest(host, floor.serial)
    reason = f"this host's memory is in order again; {ran.message}"
    make_report(host, outcome, reason, manifest=manifest, serial=floor.serial, systems=(running, running))


def _line_digest(raw: bytes) -> Digest | None:
    newline = raw.find(b"\n")
    return sha256(raw[: newline + 1]) if newline >= 0 else None


def _refuse(host: Host, session: "Session", reason: str, raw: bytes, digest: Digest | None) -> Ran:
    """Take nothing, and report each refusal once: the same file is offered again at every poll."""
    told = sha256(raw + reason.encode())
    if host.state.last_told() != told:
        floor = host.state.floor()
        serial: Serial | None = floor.serial if floor is not None else None
        make_report(host, "refused", reason, serial=serial, digest=digest)
        host.state.write_told(told)
    _send(host, session)
    return Ran("refused", reason, EXIT["refused"])


def _cannot_keep(host: Host, session: "Session", manifest: "Manifest", error: EnvironmentFailed) -> Ran:
    """This host's own disk is the trouble. It is reported once, and is no try of the release."""
    told = sha256(manifest.line + error.message.encode())
    try:
        if host.state.last_told() != told:
            running = host.running()
            make_report(host, "failed", error.message, manifest=manifest, systems=(running, manifest.system))
            host.state.write_told(told)
    except BentoError as unreported:
        host.say(f"that can't be reported: {unreported.message}")
    _send(host, session)
    return Ran("failed", error.message, EXIT["failed"])
