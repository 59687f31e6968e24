"""Which signatures a release needs, so that no host is left with a release that it can't accept.

Keys are named by their fingerprints. A host accepts a release if any one of its signers signed it.
"""

from collections.abc import Set as AbstractSet


def missing(published: AbstractSet[str], ours: AbstractSet[str]) -> frozenset[str]:
    """Our keys that haven't signed what is published. Armours are added, never taken away: the line stays the same."""
    return frozenset(ours - published)


def accepted(published: AbstractSet[str], ours: AbstractSet[str], known: AbstractSet[str] | None) -> bool:
    """Whether the host can accept a new release that only `ours` sign. `published` signed the one that it has now.

    `known` is what the host itself says that it trusts, None if it never did. Where no key is dropped there is nothing
    to know: whoever could accept the release before can accept this one.
    """
    return published <= ours or bool(known is not None and known & ours)
