"""Which secrets each host gets: the rules that turn targets into hosts. No I/O."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from bento_secrets.declared import Declaration
from bento_secrets.errors import InputError
from bento_secrets.names import HostName, SecretName, TagName, clash, did_you_mean
from bento_secrets.recipients import Recipient


@dataclass(frozen=True)
class Member:
    """A host as secrets see it: its name, the recipient its copies are sealed to, its tags."""

    name: HostName
    recipient: Recipient
    tags: frozenset[TagName]


Effective = dict[HostName, dict[SecretName, Declaration]]


def effective(declarations: Sequence[Declaration], members: Sequence[Member]) -> Effective:
    """For each host (also those without secrets) its secrets by name; InputError if the rules are broken.

    A host's own declaration beats its tag's. Two tags with the same name on one host, names or link paths that can't
    stand side by side, an unknown host and a tag without hosts are errors.
    """
    hosts = {member.name for member in members}
    tags = {tag for member in members for tag in member.tags}
    for declaration in declarations:
        _check_target(declaration, hosts, tags)
    result: Effective = {}
    for member in members:
        own = {one.name: one for one in declarations if str(one.target) == str(member.name)}
        tagged: dict[SecretName, Declaration] = {}
        for one in declarations:
            if one.target.tag not in member.tags or one.name in own:
                continue
            if one.name in tagged:
                raise InputError(
                    f"host {member.name} gets {one.name} twice: from {tagged[one.name].target} and from {one.target}",
                    f"rename one, or give the host its own: bento secret add {member.name} {one.name} FILE",
                )
            tagged[one.name] = one
        result[member.name] = tagged | own
        _check_side_by_side(member.name, result[member.name].values())
    return result


def _check_target(declaration: Declaration, hosts: AbstractSet[str], tags: AbstractSet[TagName]) -> None:
    tag = declaration.target.tag
    if tag is None and str(declaration.target) not in hosts:
        raise InputError(
            f"secret {declaration.name} is for the host {declaration.target}, which the fleet doesn't have",
            *did_you_mean(declaration.target, hosts),
            "see the hosts: bento host list",
        )
    if tag is not None and tag not in tags:
        raise InputError(
            f"secret {declaration.name} is for {declaration.target}, and no host has that tag",
            *did_you_mean(declaration.target, (f"@{known}" for known in tags)),
            "give a host the tag in bento.toml, or see the tags: bento host list",
        )


def _check_side_by_side(host: HostName, secrets: Iterable[Declaration]) -> None:
    names: list[SecretName] = []
    linked: dict[str, SecretName] = {}
    for one in secrets:
        other = clash(one.name, names)
        if other is not None:
            raise InputError(
                f"secrets {other} and {one.name} can't share host {host}: one is the other's folder, or case differs",
                "rename one of them",
            )
        names.append(one.name)
        if one.path is None:
            continue
        for path, name in linked.items():
            if f"{path}/".startswith(f"{one.path}/") or f"{one.path}/".startswith(f"{path}/"):
                raise InputError(
                    f"secrets {name} and {one.name} can't share host {host}: links {path} and {one.path} collide",
                    "give one of them another path",
                )
        linked[one.path] = one.name
