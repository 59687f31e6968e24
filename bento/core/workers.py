"""How many of Nix's evaluations fit into memory, and how many hosts of one flake into each."""

from dataclasses import dataclass

# Of what is available. The rest is for what builds, and for hosts that are larger than the first one.
_NUMERATOR, _DENOMINATOR = 3, 4
# In one process of Nix. Its heap grows with each NixOS: five take 9 % more time than one by one, ten 21 %
# (docs/performance.md), while what the flake itself costs is down to a fifth.
MOST_HOSTS = 5


@dataclass(frozen=True)
class Workers:
    """So many evaluations at the same time, each of at most so many hosts, in at most so many bytes of memory."""

    at_once: int
    hosts: int
    memory: int | None  # None where nothing limits it


def workers(wanted: int, available: int | None, one: int | None) -> Workers:
    """At most `wanted` at once, within three quarters of the `available` bytes; at least one.

    `one`: the bytes that the evaluation of one host takes. While that isn't known one host is evaluated alone; where
    what is available isn't known, nothing is held back. An evaluation of several hosts is taken to need as much as so
    many of one host, though they share a part.
    """
    budget = None if available is None else available * _NUMERATOR // _DENOMINATOR
    if one is None:
        return Workers(1, 1, budget)
    if budget is None:
        return Workers(wanted, MOST_HOSTS, None)
    at_once = max(1, min(wanted, budget // max(1, one)))
    share = budget // at_once
    return Workers(at_once, max(1, min(MOST_HOSTS, share // max(1, one))), share)
