"""Carry a plan out: everything is opened first, in memory, and then stored at once, or nothing is."""

from collections.abc import Callable, Sequence

from bento_secrets.declared import Attributes
from bento_secrets.errors import InputError
from bento_secrets.importing.found import Found
from bento_secrets.importing.limits import IMPORT_LIMITS
from bento_secrets.importing.plan import Plan
from bento_secrets.members import Member
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext
from bento_secrets.store import NewSecret, SecretStore


def take(
    plan: Plan,
    open_all: Callable[[Sequence[Found]], Sequence[Plaintext]],
    store: SecretStore,
    members: Sequence[Member],
    admins: Sequence[Recipient],
    *,
    now: int,
) -> None:
    """Store what `plan` takes, root's and 0400, marked "must rotate" if exposed; `now` is UTC seconds.

    Raises what `open_all` and the store raise, and nothing was written then.
    """
    steps = plan.taken
    wanted = list(dict.fromkeys(step.found for step in steps))
    if not wanted:
        store.create()  # finishes an import that was cut after its commit, which is why nothing is wanted
        return
    opened = dict(zip(wanted, open_all(wanted), strict=True))
    if sum(map(len, opened.values())) > IMPORT_LIMITS.MAX_TOTAL:
        raise InputError(f"that is more than {IMPORT_LIMITS.MAX_TOTAL} bytes at once", "import folder by folder")
    items = [
        NewSecret(step.target, step.name, Attributes(), opened[step.found], exposed=step.found in plan.exposed)
        for step in steps
        if step.target is not None and step.name is not None
    ]
    store.add_many(items, members, admins, replace=False, now=now)
