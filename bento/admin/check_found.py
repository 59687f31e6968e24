"""What a check says: findings, and what it couldn't look at."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from bento.errors import BentoError
from bento.names import HostName

Severity = Literal["error", "warning", "note"]
Area = Literal["fleet", "secrets", "keys", "server", "machine"]


@dataclass(frozen=True)
class Finding:
    """One thing: a lower-case sentence, which hosts it is about (none: the whole fleet), and what to type next.

    error: something fails or leaks. warning: it works, until it doesn't. note: good to know.
    """

    severity: Severity
    area: Area
    message: str
    hints: tuple[str, ...] = ()
    hosts: tuple[HostName, ...] = ()


@dataclass(frozen=True)
class Unchecked:
    """What wasn't looked at, and why; `hints` tell how it can be."""

    what: str
    why: str
    hints: tuple[str, ...] = ()


Found = Finding | Unchecked


def error_of(area: Area, error: BentoError, hosts: tuple[HostName, ...] = ()) -> Finding:
    """What a command would have failed with."""
    return Finding("error", area, error.message, error.hints, hosts)


def guarded(area: Area, found: Iterable[Found]) -> Iterator[Found]:
    """`found`, to its end or to the error that it ends with."""
    try:
        yield from found
    except BentoError as error:
        yield error_of(area, error)


def merged(found: Iterable[Found]) -> Iterator[Found]:
    """Findings that differ by host only, as one, where the first of them stood."""
    together: dict[object, Found] = {}
    for one in found:
        if isinstance(one, Unchecked):
            together.setdefault(one, one)
            continue
        key = (one.severity, one.area, one.message, one.hints)
        before = together.get(key)
        hosts = (*before.hosts, *one.hosts) if isinstance(before, Finding) else one.hosts
        together[key] = Finding(one.severity, one.area, one.message, one.hints, tuple(dict.fromkeys(hosts)))
    yield from together.values()
