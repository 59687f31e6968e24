"""A change of the store, worked out in memory before anything is written: declarations, lock, files."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bento_secrets.copies import copy_path
from bento_secrets.declared import Attributes, Declaration, drop_declaration, parse_declarations, put_declarations
from bento_secrets.errors import InputError
from bento_secrets.lock import Copy
from bento_secrets.members import Key, Member, effective
from bento_secrets.names import Digest, SecretName, Target, did_you_mean
from bento_secrets.recipients import Recipient, texts
from bento_secrets.sealing import Plaintext, seal


@dataclass(frozen=True)
class NewSecret:
    """One secret to add, or to give new content.

    `exposed`: somebody can open the same content elsewhere who doesn't get it here, so it "must rotate".
    """

    target: Target
    name: SecretName
    attributes: Attributes
    plaintext: Plaintext
    exposed: bool = False


@dataclass
class Draft:
    """The store as it will be. `files` holds what changes: path to content, or None for a file that goes.

    Who could open a content and no longer gets it is noticed here, whatever the change: all copies of that content are
    marked "must rotate", until new content comes.
    """

    toml: str
    toml_path: str
    declarations: tuple[Declaration, ...]
    lock: dict[Key, Copy]
    files: dict[str, bytes | None] = field(default_factory=dict)
    _lost: set[tuple[Target, SecretName]] = field(default_factory=set)
    _fresh: set[tuple[Target, SecretName]] = field(default_factory=set)
    _exposed: set[tuple[Target, SecretName]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for key, copy in self.lock.items():
            if copy.must_rotate:
                self._lose(key, copy)

    def declare(self, declarations: Sequence[Declaration]) -> None:
        """Add these, or change them where they stand."""
        self.toml = put_declarations(self.toml, declarations, self.toml_path)
        self.declarations = parse_declarations(self.toml, self.toml_path)

    def undeclare(self, target: Target, name: SecretName) -> None:
        """Take one away; InputError if it isn't there."""
        self.toml = drop_declaration(self.toml, target, name, self.toml_path)
        self.declarations = parse_declarations(self.toml, self.toml_path)

    def renew(self, declaration: Declaration, *, exposed: bool) -> None:
        """Its content is new: what was sealed before is of no account, and copies that no host wants go."""
        identity = (declaration.target, declaration.name)
        self._fresh.add(identity)
        if exposed:
            self._exposed.add(identity)
        for key in self.copies_of(declaration):
            self.drop(key)

    def copies_of(self, declaration: Declaration) -> list[Key]:
        """The copies that were sealed for it, whether or not their hosts still get it."""
        wanted = (declaration.name, declaration.target)
        return [key for key, copy in self.lock.items() if (key[1], copy.target) == wanted]

    def put(
        self, member: Member, declaration: Declaration, plaintext: Plaintext, admins: Sequence[Recipient], sealed: int
    ) -> None:
        """Seal `plaintext` for a host. `sealed` is when this content was first sealed."""
        key = (member.name, declaration.name)
        recipients = [member.recipient, *admins]
        before = self.lock.get(key)
        again = before is not None and before.target == declaration.target
        if before is not None and not (again and set(before.recipients) <= set(texts(recipients))):
            self._lose(key, before)
        content = seal(plaintext, recipients)
        digest = Digest(hashlib.sha256(content).hexdigest())
        self.lock[key] = Copy(digest, texts(recipients), sealed, target=declaration.target)
        self.files[copy_path(*key)] = content

    def drop(self, key: Key) -> None:
        """Remove a copy."""
        self._lose(key, self.lock.pop(key))
        self.files[copy_path(*key)] = None

    def mark(self, declaration: Declaration) -> None:
        """Its content must be changed."""
        self._lost.add((declaration.target, declaration.name))

    def finished(self) -> Mapping[Key, Copy]:
        """The lock, with its marks."""
        marked = (self._lost - self._fresh) | self._exposed
        return {
            key: replace(copy, must_rotate=True) if (copy.target, key[1]) in marked else copy
            for key, copy in self.lock.items()
        }

    def _lose(self, key: Key, copy: Copy) -> None:
        if copy.target is not None:
            self._lost.add((copy.target, key[1]))


def add(
    draft: Draft,
    items: Sequence[NewSecret],
    members: Sequence[Member],
    admins: Sequence[Recipient],
    *,
    replace: bool,
    now: int,
) -> list[tuple[Member, ...]]:
    """Declare each item and seal it for the hosts that get it; those hosts, by name, an item at a time."""
    seen: set[tuple[Target, SecretName]] = set()
    for item in items:
        if (item.target, item.name) in seen:
            raise InputError(f"secret {item.name} for {item.target} is named twice", "name it once")
        seen.add((item.target, item.name))
    declared = {(one.target, one.name): one for one in draft.declarations}
    new = [item.attributes.over(_base(declared, item.target, item.name, replace=replace)) for item in items]
    draft.declare(new)
    wanted = effective(draft.declarations, members)
    answer = []
    for item, declaration in zip(items, new, strict=True):
        receivers = sorted(
            (member for member in members if _is(wanted[member.name].get(item.name), declaration)),
            key=lambda member: member.name,
        )
        if not receivers:
            raise InputError(
                f"every host of {item.target} has its own secret {item.name}",
                f"replace it there: bento secret add HOST FILE --name {item.name} --replace",
            )
        draft.renew(declaration, exposed=item.exposed)
        for member in receivers:
            draft.put(member, declaration, item.plaintext, admins, now)
        answer.append(tuple(receivers))
    return answer


def _is(one: Declaration | None, other: Declaration) -> bool:
    return one is not None and one.target == other.target


def _base(
    declared: Mapping[tuple[Target, SecretName], Declaration], target: Target, name: SecretName, *, replace: bool
) -> Declaration:
    """What is declared so far, or a new declaration; InputError if `replace` says otherwise."""
    one = declared.get((target, name))
    if one is not None and not replace:
        raise InputError(
            f"secret {name} for {target} exists already", "to give it new content, the same command with --replace"
        )
    if one is None and replace:
        raise InputError(
            f"there is no secret {name} for {target} to replace",
            *did_you_mean(name, {key[1] for key in declared if key[0] == target}),
            "to add it, leave out --replace",
        )
    return one or Declaration(target, name)
