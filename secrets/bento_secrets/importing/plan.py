"""What an import would do: which secret goes to whom, and what is left out, and why. No I/O, and nothing is opened."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from bento_secrets.errors import InputError
from bento_secrets.importing.found import Found
from bento_secrets.importing.keys import canonical
from bento_secrets.members import Member, effective
from bento_secrets.names import HostName, SecretName, Target, clash
from bento_secrets.store import StoreState, copy_path


@dataclass(frozen=True)
class Step:
    """One declaration to make; or, if `target` is None, nothing. `why` says why to that target, or why not at all."""

    found: Found
    name: SecretName | None
    target: Target | None
    hosts: tuple[HostName, ...]
    why: str


@dataclass(frozen=True)
class Plan:
    """The steps in the order found; and of each key of nobody in the fleet, as written, how many secrets it opens.

    `exposed`: what somebody can open in the other tool's file who doesn't get it here.
    """

    steps: tuple[Step, ...]
    strangers: Mapping[str, int]
    exposed: frozenset[Found] = frozenset()

    @property
    def taken(self) -> tuple[Step, ...]:
        """What would be imported."""
        return tuple(step for step in self.steps if step.target is not None)


def make_plan(
    found: Sequence[Found],
    members: Sequence[Member],
    keys: Mapping[str, HostName],
    admins: Collection[str],
    state: StoreState,
) -> Plan:
    """`keys` leads from a host's keys, as `canonical` gives them, to the host; `admins` are such texts too.

    A secret is for the hosts that could open it so far. What a host has already stays; of two secrets that would be
    in each other's way on a host, the first is taken. InputError for a private key among the public ones.
    """
    present = {
        host: {name: f"declared for {one.target}" for name, one in wanted.items()}
        for host, wanted in effective(state.declarations, members).items()
    }
    declared = {(one.target, one.name) for one in state.declarations}
    steps: list[Step] = []
    strangers: dict[str, int] = {}
    for one in found:
        hosts = set()
        for key in dict.fromkeys(one.keys):
            known = _canonical(one, key)
            if known in keys:
                hosts.add(keys[known])
            elif known not in admins:
                strangers[key] = strangers.get(key, 0) + 1
        steps += _steps(one, hosts, members, present, declared)
    return Plan(tuple(steps), strangers, _exposed(steps, members, admins))


def _exposed(steps: Sequence[Step], members: Sequence[Member], admins: Collection[str]) -> frozenset[Found]:
    """As for a copy of the store, a key counts that isn't among today's recipients: a host's older one too."""
    recipients = {member.name: member.recipient.text for member in members}
    readers: dict[Found, set[str]] = {}
    for step in steps:
        if step.target is not None:
            readers.setdefault(step.found, set(admins)).update(recipients[host] for host in step.hosts)
    return frozenset(one for one, today in readers.items() if not {_canonical(one, key) for key in one.keys} <= today)


def _steps(
    one: Found,
    hosts: AbstractSet[HostName],
    members: Sequence[Member],
    present: Mapping[HostName, dict[SecretName, str]],
    declared: AbstractSet[tuple[Target, SecretName]],
) -> Iterator[Step]:
    if one.problem is not None:
        yield Step(one, None, None, (), one.problem)
        return
    try:
        name = SecretName.parse(one.name)
        copy_path(HostName("host"), name)
    except InputError as error:
        yield Step(one, None, None, (), error.message)
        return
    if not hosts:
        yield Step(one, name, None, (), "it is sealed to no host of this fleet")
        return
    for target, receivers, why in _targets(hosts, members):
        obstacle = _obstacle(name, receivers, present)
        if obstacle is None and (target, name) in declared:
            obstacle = f"it is declared for {target} already"
        if obstacle is not None:
            yield Step(one, name, None, receivers, obstacle)
            continue
        for host in receivers:
            present[host][name] = f"from {one.source}"
        yield Step(one, name, target, receivers, why)


def _targets(
    hosts: AbstractSet[HostName], members: Sequence[Member]
) -> Iterator[tuple[Target, tuple[HostName, ...], str]]:
    tags = {tag for member in members for tag in member.tags}
    same = sorted(tag for tag in tags if {member.name for member in members if tag in member.tags} == hosts)
    if len(hosts) > 1 and len(same) == 1:
        yield Target(f"@{same[0]}"), tuple(sorted(hosts)), f"sealed to just the hosts of @{same[0]}"
        return
    several = f", as to {len(hosts) - 1} more" if len(hosts) > 1 else ""
    for host in sorted(hosts):
        yield Target(host), (host,), f"sealed to {host}'s key{several}"


def _obstacle(
    name: SecretName, receivers: Sequence[HostName], present: Mapping[HostName, dict[SecretName, str]]
) -> str | None:
    for host in receivers:
        if name in present[host]:
            return f"{host} has one of that name already, {present[host][name]}"
        other = clash(name, present[host])
        if other is not None:
            return f"it can't share {host} with {other}: one is the other's folder, or case differs"
    return None


def _canonical(one: Found, key: str) -> str:
    try:
        return canonical(key)
    except InputError as error:
        raise InputError(f"{one.source}: {error.message}", *error.hints) from None
