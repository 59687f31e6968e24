"""A host leaves the fleet: which of its secrets go with it, and which the others must change."""

from collections.abc import Sequence
from dataclasses import dataclass

from bento_secrets.declared import Declaration
from bento_secrets.drafts import Draft
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName


@dataclass(frozen=True)
class Forgotten:
    """`declared` are secrets that nobody else has; `copies` the host's sealed copies, by name.

    `exposed` are secrets that other hosts keep and that this one could open: their contents must be changed.
    """

    declared: tuple[Declaration, ...]
    copies: tuple[SecretName, ...]
    exposed: tuple[Declaration, ...]


def forget(draft: Draft, host: HostName, members: Sequence[Member]) -> Forgotten:
    """Take out the host's copies, and declarations that would be for nobody. `members` still has the host."""
    others = {f"@{tag}" for member in members if member.name != host for tag in member.tags}
    mine = {str(host), *(f"@{tag}" for member in members if member.name == host for tag in member.tags)}
    declared = tuple(one for one in draft.declarations if str(one.target) in mine - others)
    keys = sorted(key for key in draft.lock if key[0] == host)
    lost = {(draft.lock[key].target, key[1]) for key in keys}
    for one in declared:
        draft.undeclare(one.target, one.name)
    for key in keys:
        draft.drop(key)
    exposed = tuple(one for one in draft.declarations if (one.target, one.name) in lost)
    return Forgotten(declared, tuple(name for _, name in keys), exposed)
