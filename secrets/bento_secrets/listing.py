"""What `bento secret list` shows of the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from bento_secrets.ages import too_old
from bento_secrets.check import CopyState, copy_state
from bento_secrets.copies import Found, copy_path
from bento_secrets.declared import Declaration
from bento_secrets.lock import Copies
from bento_secrets.members import Member, adopted, effective
from bento_secrets.names import Digest, HostName
from bento_secrets.recipients import Recipient, texts


@dataclass(frozen=True)
class HostCopy:
    """One host's copy; `sealed` is its content's age, UTC seconds. Both are None if the lock knows none of this secret.

    Stale: today it would be sealed to others.
    """

    host: HostName
    state: CopyState
    sealed: int | None
    must_rotate: bool
    digest: Digest | None = None


@dataclass(frozen=True)
class Row:
    """One declaration, and the copies of the hosts that it is in effect for."""

    declaration: Declaration
    copies: tuple[HostCopy, ...]

    @property
    def sealed(self) -> int | None:
        """When the youngest content was first sealed, UTC seconds; None if there is none."""
        return max((copy.sealed for copy in self.copies if copy.sealed is not None), default=None)

    def too_old(self, now: int) -> bool:
        """Whether a copy's content is older than the secret's max_age."""
        if self.declaration.max_age is None:
            return False
        max_age = self.declaration.max_age
        return any(copy.sealed is not None and too_old(max_age, copy.sealed, now) for copy in self.copies)


def rows(
    declarations: Sequence[Declaration],
    lock: Copies,
    members: Sequence[Member],
    admins: Sequence[Recipient],
    found: Found | None = None,
) -> tuple[Row, ...]:
    """One row a declaration, in the file's order; hosts by name. InputError as members.effective.

    Without `found` the files are taken to be what the lock says.
    """
    wanted = effective(declarations, members)
    lock = adopted(lock, declarations, members)
    recipients = {member.name: texts([member.recipient, *admins]) for member in members}
    hosts: dict[tuple[str, str], list[HostName]] = {}
    for host, names in sorted(wanted.items()):
        for name, one in names.items():
            hosts.setdefault((one.target, name), []).append(host)

    def copy_of(host: HostName, declaration: Declaration) -> HostCopy:
        copy = lock.get((host, declaration.name))
        digest = copy.sha256 if copy is not None else None
        there = digest if found is None else found.digests.get(copy_path(host, declaration.name))
        state = copy_state(declaration, copy, there, recipients[host])
        if copy is None or copy.target != declaration.target:
            return HostCopy(host, state, None, must_rotate=False)
        return HostCopy(host, state, copy.sealed, copy.must_rotate, digest)

    return tuple(
        Row(one, tuple(copy_of(host, one) for host in hosts.get((one.target, one.name), []))) for one in declarations
    )
