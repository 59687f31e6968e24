"""`--on`: which hosts a command is for."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from bento.errors import InputError
from bento.names import HostName, TagName, did_you_mean, printable


def select(patterns: Sequence[str], hosts: Mapping[HostName, Collection[TagName]]) -> tuple[HostName, ...]:
    """The hosts that names, globs, `@tags` or comma-separated lists of them mean, in the fleet's order.

    No pattern means every host. Raises InputError for one that matches nothing.
    """
    words = [word.strip() for pattern in patterns for word in pattern.split(",")]
    words = [word for word in words if word]
    if not patterns:
        return tuple(hosts)
    if not words:
        raise InputError("--on names no host", "leave it out to mean every host, or see: bento host list")
    chosen: set[HostName] = set()
    for word in words:
        found = {name for name, tags in hosts.items() if _matches(word, name, tags)}
        if not found:
            raise _unknown(word, hosts)
        chosen |= found
    return tuple(name for name in hosts if name in chosen)


def _matches(word: str, name: HostName, tags: Collection[TagName]) -> bool:
    if word.startswith("@"):
        return word[1:] in tags
    return fnmatchcase(name, word)


def _unknown(word: str, hosts: Mapping[HostName, Collection[TagName]]) -> InputError:
    if word.startswith("@"):
        known = {"@" + tag for tags in hosts.values() for tag in tags}
        return InputError(
            f"no host has the tag '{printable(word)}'", *did_you_mean(word, known), "see: bento host list"
        )
    tagged = any(word == tag for tags in hosts.values() for tag in tags)
    meant = (f"it is a tag: @{word}",) if tagged else did_you_mean(word, hosts)
    return InputError(f"no host is called '{printable(word)}'", *meant, "see: bento host list")
