"""Changes of the secret store, with the public halves that they make, hand on or make stale.

Order, so that a cut never leaves a public half whose private half no host has: the old one goes, then the secret store
commits, then the new one is written. After a cut in between the file is missing, which Nix says loudly; where another
host of the tag has it, the next rekey brings it back.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from bento.admin import public_halves
from bento.admin.inventory import Fleet
from bento.admin.public_halves import Half, public_half
from bento.names import HostName, SecretName, Target
from bento_secrets.declared import Attributes, Declaration
from bento_secrets.drafts import NewSecret
from bento_secrets.generate import Generated
from bento_secrets.members import adopted, effective, with_targets
from bento_secrets.rekey import Rekeyed
from bento_secrets.sealing import Opener
from bento_secrets.store import Removed, StoreState

Say = Callable[[str], None]  # a line for the person: what became of a public half


def add_generated(
    fleet: Fleet,
    target: Target,
    name: SecretName,
    attributes: Attributes,
    make: Callable[[], Generated],
    *,
    replace: bool,
    now: int,
) -> tuple[Generated, tuple[HostName, ...]]:
    """What `make` made, and the hosts it was sealed for, as SecretStore.add gives them.

    Their public half is the new one afterwards, or gone if there is none.
    """
    halves = _receivers(fleet, [(target, name)])
    generated = make()
    with public_halves.put_aside(fleet.root, halves):
        receivers = fleet.store.add(
            target, name, attributes, generated.plaintext, fleet.members, fleet.admins, replace=replace, now=now
        )
    if generated.public is not None:
        for host in receivers:
            public_halves.write_public(fleet.root, host, name, generated.public)
    return generated, receivers


def add_given(
    fleet: Fleet, items: Sequence[NewSecret], say: Say, *, replace: bool, now: int, seen: StoreState | None = None
) -> tuple[tuple[HostName, ...], ...]:
    """As SecretStore.add_many; of content that somebody brought, no public half is known, so an old one goes."""
    there = public_halves.find_public(fleet.root)
    stale = there & _receivers(fleet, [(item.target, item.name) for item in items]) if there else there
    with public_halves.put_aside(fleet.root, stale) as gone:
        hosts = fleet.store.add_many(items, fleet.members, fleet.admins, replace=replace, now=now, seen=seen)
    _tell_gone(gone, say)
    return hosts


def remove_secret(fleet: Fleet, target: Target, name: SecretName, identities: Sequence[Opener], say: Say) -> Removed:
    """As SecretStore.remove. A host that now gets a tag's secret of that name gets its public half too."""
    state = fleet.store.read()
    lock = adopted(state.lock, state.declarations, fleet.members)
    holders = {key for key, copy in lock.items() if (copy.target, key[1]) == (target, name)}
    with public_halves.put_aside(fleet.root, holders) as gone:
        done = fleet.store.remove(target, name, fleet.members, fleet.admins, identities)
    shared = _share(fleet)
    _tell_gone(set(gone) - shared, say)
    _tell_written(shared, say)
    return done


def rekey_secrets(
    fleet: Fleet, identities: Sequence[Opener], only: Target | None, say: Say, *, partial: bool = False
) -> Rekeyed:
    """As SecretStore.rekey. A host that gets a copy of another's secret gets its public half too."""
    moving = _moving(fleet, only) if public_halves.find_public(fleet.root) else set()
    with public_halves.put_aside(fleet.root, moving) as before:
        done = fleet.store.rekey(fleet.members, fleet.admins, identities, only, partial=partial)
    for half in before.keys() & {(step.host, step.name) for step in done.left}:
        public_halves.write_public(fleet.root, *half, before[half])
    shared = _share(fleet)
    _tell_gone(before.keys() - public_halves.find_public(fleet.root), say)
    _tell_written(shared, say)
    return done


def _moving(fleet: Fleet, only: Target | None) -> set[Half]:
    """Whose secret will be another one after a rekey, or none."""
    state = fleet.store.read()
    lock = adopted(state.lock, state.declarations, fleet.members)
    moving = set()
    for step in fleet.store.rekey_plan(fleet.members, fleet.admins, only):
        copy = lock.get((step.host, step.name))
        if step.declaration is None or copy is None or copy.target != step.declaration.target:
            moving.add((step.host, step.name))
    return moving


def _share(fleet: Fleet) -> set[Half]:
    """Give the public half of a tag's pair to those of its hosts that lack it; whose were written."""
    there = public_halves.find_public(fleet.root)
    if not there:
        return set()
    state = fleet.store.read()
    lock = adopted(state.lock, state.declarations, fleet.members)
    wanted = effective(with_targets(state.declarations, fleet.members), fleet.members)
    hosts: dict[tuple[Target, SecretName], list[Half]] = {}
    for host, names in wanted.items():
        for name, one in names.items():
            copy = lock.get((host, name))
            if one.target.tag is not None and copy is not None and copy.target == one.target:
                hosts.setdefault((one.target, name), []).append((host, name))
    written = set()
    for halves in hosts.values():
        known = next((half for half in halves if half in there), None)
        content = public_halves.read_public(fleet.root, *known) if known is not None else None
        if content is None:
            continue
        for half in set(halves) - there:
            public_halves.write_public(fleet.root, *half, content)
            written.add(half)
    return written


def _receivers(fleet: Fleet, wanted: Collection[tuple[Target, SecretName]]) -> frozenset[Half]:
    """Who would get these secrets: not the hosts of a tag that have their own of that name. InputError."""
    new = {pair: Declaration(*pair) for pair in wanted}
    others = [one for one in fleet.store.read().declarations if (one.target, one.name) not in new]
    found = effective([*others, *new.values()], fleet.members)
    return frozenset(
        (host, name)
        for host, names in found.items()
        for name, one in names.items()
        if new.get((one.target, name)) is one
    )


def _tell_gone(halves: Iterable[Half], say: Say) -> None:
    for half in sorted(halves):
        say(f"removed {public_half(*half)}: it belonged to another private half")


def _tell_written(halves: Iterable[Half], say: Say) -> None:
    for half in sorted(halves):
        say(f"wrote {public_half(*half)}")
