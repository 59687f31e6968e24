"""What a host says of itself: read from the targets as hostile input, believed only where its own key signed it."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from bento.adapters import signatures
from bento.adapters.transport import PublishTarget
from bento.adapters.verdicts import About
from bento.admin.inventory import Host
from bento.admin.standing import each_target
from bento.errors import InputError
from bento.models.line import parse_line
from bento.models.report import Heartbeat, Report
from bento.models.signed import line_of, split
from bento.models.trust import NAMESPACE_REPORT, Trust

Word = TypeVar("Word", Report, Heartbeat)


def verified_report(raw: bytes | None, host: Host, trust: Trust, verdicts: About | None = None) -> Report:
    """The report of these bytes. Raises InputError, saying why it isn't one of this host; its bytes are not quoted.

    With `verdicts` the same bytes are verified only once.
    """
    return _verified(Report, raw, host, trust, verdicts)


def newest_heartbeat(targets: Sequence[PublishTarget], host: Host, trust: Trust, notes: list[str]) -> Heartbeat | None:
    """The host's last sign of life on any target; a note for each that can't be verified, or read.

    Raises what the first target raised where none can be read.
    """
    read = each_target(targets, {}, lambda target: heartbeat_of(next(target.read_words(host.name)), host, trust, notes))
    found = [one for _, one in read if one is not None]
    return last_of(found)


def last_of(found: Iterable[Heartbeat]) -> Heartbeat | None:
    """The newest of a host's signs of life."""
    return max(found, key=lambda one: (one.after, one.time), default=None)


def heartbeat_of(
    raw: bytes | None, host: Host, trust: Trust, notes: list[str], verdicts: About | None = None
) -> Heartbeat | None:
    """The host's sign of life of these bytes; a note for one that can't be verified. `verdicts` as for reports."""
    if raw is None:
        return None
    try:
        return _verified(Heartbeat, raw, host, trust, verdicts)
    except AnothersWord:
        return None
    except InputError:
        notes.append("its heartbeat can't be verified")
        return None


class AnothersWord(InputError):
    """It is signed by the host, and about another one or another fleet."""


def _verified(kind: type[Word], raw: bytes | None, host: Host, trust: Trust, verdicts: About | None) -> Word:
    if raw is None:
        raise InputError("it is no plain file, too large, or unreadable")
    if verdicts is not None and verdicts.has(kind.__name__, raw):
        return parse_line(kind, line_of(raw), "the report", known=True)
    document = split(raw, "the report")
    if not signatures.verified_here(document, host.keys, NAMESPACE_REPORT):
        raise InputError("it is not signed by the host")
    word = parse_line(kind, document.line, "the report")
    if (word.host, word.fleet) != (host.name, trust.fleet):
        raise AnothersWord("it is about another host or fleet")
    if verdicts is not None:
        verdicts.add(kind.__name__, raw)
    return word
