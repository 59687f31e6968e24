"""Which secrets each host gets: the rules that turn targets into hosts. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from bento_secrets.declared import Declaration
from bento_secrets.errors import InputError
from bento_secrets.lock import Copies, Copy
from bento_secrets.names import HostName, SecretName, TagName, Target, did_you_mean
from bento_secrets.recipients import Recipient


@dataclass(frozen=True)
class Member:
    """A host as secrets see it: its name, whom its copies are sealed to, its tags.

    A recipient that takes a while to derive may be given as what derives it.
    """

    name: HostName
    sealed_to: Recipient | Callable[[], Recipient]
    tags: frozenset[TagName]

    @property
    def recipient(self) -> Recipient:
        """Whom its copies are sealed to."""
        return self.sealed_to if isinstance(self.sealed_to, Recipient) else self.sealed_to()


Key = tuple[HostName, SecretName]
Effective = dict[HostName, dict[SecretName, Declaration]]


def effective(declarations: Sequence[Declaration], members: Sequence[Member], noun: str = "secret") -> Effective:
    """For each host (also those without secrets) its secrets by name; InputError if the rules are broken.

    `noun` is what errors call one: templates follow the same rules.

    A host's own declaration beats its tag's. Two tags with the same name on one host, names or link paths that can't
    stand side by side, an unknown host and a tag without hosts are errors.
    """
    hosts = {member.name for member in members}
    tags = {tag for member in members for tag in member.tags}
    for declaration in declarations:
        _check_target(declaration, hosts, tags, noun)
    by_target: dict[str, list[tuple[int, Declaration]]] = {}
    for number, one in enumerate(declarations):
        by_target.setdefault(str(one.target), []).append((number, one))
    result: Effective = {}
    for member in members:
        own = {one.name: one for _, one in by_target.get(str(member.name), [])}
        tagged: dict[SecretName, Declaration] = {}
        for _, one in sorted(
            (item for tag in member.tags for item in by_target.get(f"@{tag}", [])), key=lambda item: item[0]
        ):
            if one.name in own:
                continue
            if one.name in tagged:
                raise InputError(
                    f"host {member.name} gets {one.name} twice: from {tagged[one.name].target} and from {one.target}",
                    f"rename one, or give the host its own: bento secret add {member.name} FILE --name {one.name}",
                )
            tagged[one.name] = one
        result[member.name] = tagged | own
        _check_side_by_side(member.name, result[member.name].values(), noun)
    return result


def with_targets(declarations: Sequence[Declaration], members: Sequence[Member]) -> list[Declaration]:
    """Those whose host or tag is there. A person removes the others one by one, so each must be removable."""
    known = {str(member.name) for member in members} | {f"@{tag}" for member in members for tag in member.tags}
    return [one for one in declarations if str(one.target) in known]


def adopted(lock: Copies, declarations: Sequence[Declaration], members: Sequence[Member]) -> dict[Key, Copy]:
    """`lock`, where each copy that doesn't say whose it is belongs to what its host gets today."""
    declared = {(str(one.target), one.name) for one in declarations}
    tags = {member.name: [f"@{tag}" for tag in sorted(member.tags)] for member in members}
    result = dict(lock)
    for key, copy in lock.items():
        if copy.target is None:
            targets = [target for target in (str(key[0]), *tags.get(key[0], [])) if (target, key[1]) in declared]
            result[key] = replace(copy, target=Target(targets[0])) if targets else copy
    return result


def _check_target(declaration: Declaration, hosts: AbstractSet[str], tags: AbstractSet[TagName], noun: str) -> None:
    tag = declaration.target.tag
    if tag is None and str(declaration.target) not in hosts:
        raise InputError(
            f"{noun} {declaration.name} is for the host {declaration.target}, which the fleet doesn't have",
            *did_you_mean(declaration.target, hosts),
            "see the hosts: bento host list",
        )
    if tag is not None and tag not in tags:
        raise InputError(
            f"{noun} {declaration.name} is for {declaration.target}, and no host has that tag",
            *did_you_mean(declaration.target, (f"@{known}" for known in tags)),
            "give a host the tag in bento.toml, or see the tags: bento host list",
        )


def _check_side_by_side(host: HostName, secrets: Iterable[Declaration], noun: str) -> None:
    names: dict[str, SecretName] = {}  # in lower case
    folders: dict[str, SecretName] = {}
    linked: dict[str, SecretName] = {}
    for one in secrets:
        lowered = one.name.lower()
        above = _folders(lowered)
        other = (
            names.get(lowered) or folders.get(lowered) or next((names[path] for path in above if path in names), None)
        )
        if other is not None:
            raise InputError(
                f"{noun}s {other} and {one.name} can't share host {host}: one is the other's folder, or case differs",
                "rename one of them",
            )
        names[lowered] = one.name
        folders |= dict.fromkeys(above, one.name)
        if one.path is None:
            continue
        for path, name in linked.items():
            if f"{path}/".startswith(f"{one.path}/") or f"{one.path}/".startswith(f"{path}/"):
                raise InputError(
                    f"{noun}s {name} and {one.name} can't share host {host}: links {path} and {one.path} collide",
                    "give one of them another path",
                )
        linked[one.path] = one.name


def _folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
