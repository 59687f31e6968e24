"""What `bento secret list` shows, from the declarations and the lock alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bento_secrets.declared import Declaration
from bento_secrets.lock import Copies
from bento_secrets.members import Member, effective
from bento_secrets.names import HostName
from bento_secrets.recipients import Recipient, texts

CopyState = Literal["ok", "missing", "stale"]


@dataclass(frozen=True)
class HostCopy:
    """One host's copy: sealed when (UTC seconds; None if missing). Stale: today it would be sealed to others."""

    host: HostName
    state: CopyState
    sealed: int | None
    must_rotate: bool


@dataclass(frozen=True)
class Row:
    """One declaration, and the copies of the hosts that it is in effect for."""

    declaration: Declaration
    copies: tuple[HostCopy, ...]

    @property
    def sealed(self) -> int | None:
        """When a copy was last sealed, UTC seconds; None if none is."""
        return max((copy.sealed for copy in self.copies if copy.sealed is not None), default=None)


def rows(
    declarations: Sequence[Declaration], lock: Copies, members: Sequence[Member], admins: Sequence[Recipient]
) -> tuple[Row, ...]:
    """One row a declaration, in the file's order; hosts by name. InputError as members.effective."""
    wanted = effective(declarations, members)
    recipients = {member.name: texts([member.recipient, *admins]) for member in members}

    def copy_of(host: HostName, declaration: Declaration) -> HostCopy:
        copy = lock.get((host, declaration.name))
        if copy is None:
            return HostCopy(host, "missing", None, must_rotate=False)
        state: CopyState = "ok" if copy.recipients == recipients[host] else "stale"
        return HostCopy(host, state, copy.sealed, copy.must_rotate)

    return tuple(
        Row(one, tuple(copy_of(host, one) for host in sorted(wanted) if wanted[host].get(one.name) is one))
        for one in declarations
    )
