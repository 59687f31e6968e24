"""Is every secret where it should be, and sealed to whom it should? Rules only: no I/O, no private key."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from bento_secrets.ages import ahead, too_old
from bento_secrets.copies import Found, copy_path
from bento_secrets.declared import Declaration
from bento_secrets.lock import Copies, Copy
from bento_secrets.lost import LOCK, from_git, in_git
from bento_secrets.members import Key, Member, adopted, effective
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.recipients import Recipient, texts
from bento_secrets.rekey import changed_recipients

CopyState = Literal["ok", "missing", "changed", "stale"]
Kind = Literal["missing", "changed", "stale", "orphaned", "too old", "must rotate", "differ"]


@dataclass(frozen=True)
class Finding:
    """One thing that isn't right: a sentence, and what to type. `breaks`: those hosts couldn't install the secret.

    `target` is whose secret it is, and `name` which; for a file that belongs to nothing, None and its path.
    """

    kind: Kind
    target: Target | None
    name: str
    hosts: tuple[HostName, ...]
    message: str
    hints: tuple[str, ...]
    breaks: bool = False


def copy_state(
    declaration: Declaration, copy: Copy | None, digest: str | None, recipients: tuple[str, ...]
) -> CopyState:
    """One host's copy. `digest` is its file's, None without a file; `recipients` are today's, as texts."""
    if copy is None or copy.target != declaration.target or digest is None:
        return "missing"
    if digest != copy.sha256:
        return "changed"
    return "ok" if copy.recipients == recipients else "stale"


def check(
    declarations: Sequence[Declaration],
    lock: Copies,
    found: Found,
    members: Sequence[Member],
    admins: Sequence[Recipient],
    now: int,
) -> tuple[Finding, ...]:
    """What is wrong, by secret and host; nothing if all is right. `now` is UTC seconds.

    That copies differ can only be told from `found.contents`, which take an identity. InputError as members.effective.
    """
    lock = adopted(lock, declarations, members)
    wanted = effective(declarations, members)
    by_name = {member.name: member for member in members}
    keys: dict[tuple[Target, SecretName], list[Key]] = {}
    for host, names in sorted(wanted.items()):
        for name, one in names.items():
            keys.setdefault((one.target, name), []).append((host, name))
    findings: list[Finding] = []
    for declaration in declarations:
        mine = keys.get((declaration.target, declaration.name), [])
        for key in mine:
            findings += _of_copy(declaration, key, lock.get(key), found, by_name[key[0]], admins)
        findings += _of_content(declaration, [key for key in mine if key in lock], lock, found, now)
    findings += _orphaned(wanted, lock, found)
    return tuple(findings)


def _of_copy(
    declaration: Declaration,
    key: Key,
    copy: Copy | None,
    found: Found,
    member: Member,
    admins: Sequence[Recipient],
) -> Iterator[Finding]:
    host, name = key
    path = copy_path(*key)
    recipients = texts([member.recipient, *admins])
    state = copy_state(declaration, copy, found.digests.get(path), recipients)
    if state == "ok":
        return
    hints = []
    if (state == "changed" or path not in found.digests) and copy is not None and in_git(found.folder):
        hints.append(from_git(found.folder, path, LOCK))
    if admins:
        hints.append(f"bento secret rekey {declaration.target}")
    hints.append(_again(declaration))
    breaks = True
    if state == "stale" and copy is not None:
        why = ", ".join(changed_recipients(copy, member, admins))
        said = f"the copy of {name} for {host} is sealed to other recipients than today's: {why}"
        breaks = member.recipient.text not in copy.recipients
    elif state == "changed":
        said = (
            f"the copy of {name} for {host} isn't the file that secrets.lock names: changed, or merged without the lock"
        )
    elif copy is not None and copy.target != declaration.target:
        said = f"{host} has no copy of {name} for {declaration.target}, only one of {copy.target}'s"
    elif copy is not None:
        said = f"the copy of {name} for {host} is missing: there is no secrets/{path}"
    else:
        said = f"{host} has no copy of {name} for {declaration.target}"
    yield Finding(state, declaration.target, name, (host,), said, tuple(hints), breaks)


def _of_content(
    declaration: Declaration, keys: Sequence[Key], lock: Copies, found: Found, now: int
) -> Iterator[Finding]:
    """What concerns the secret's content, and so all of its hosts at once."""
    target, name = declaration.target, declaration.name
    keys = [key for key in keys if lock[key].target == target]
    if declaration.max_age is not None:
        old = tuple(host for host, _ in keys if too_old(declaration.max_age, lock[host, name].sealed, now))
        if old:
            said = f"{name} for {target} is older than its max_age, {declaration.max_age}"
            if all(ahead(lock[host, name].sealed, now) for host in old):
                said = f"{name} for {target} has an unknown age: by this clock it was sealed in the future"
            yield Finding("too old", target, name, old, said, (_again(declaration),))
    marked = tuple(host for host, _ in keys if lock[host, name].must_rotate)
    if marked:
        said = f"{name} for {target} must be changed: somebody who could open it no longer may"
        yield Finding("must rotate", target, name, marked, said, (_again(declaration),))
    if len({found.contents[key] for key in keys if key in found.contents}) > 1:
        hosts = tuple(host for host, _ in keys)
        said = f"the copies of {name} for {target} hold different contents"
        yield Finding("differ", target, name, hosts, said, (_again(declaration),))


def _orphaned(
    wanted: Mapping[HostName, Mapping[SecretName, Declaration]], lock: Copies, found: Found
) -> Iterator[Finding]:
    known = set()
    for host, name in sorted({*lock, *((host, name) for host, names in wanted.items() for name in names)}):
        known.add(f"{host}/{name}.age")
        if name not in wanted.get(host, {}):
            said = f"{host} has a copy of {name} that it no longer gets"
            yield Finding("orphaned", lock[host, name].target, name, (host,), said, ("bento secret rekey",))
    for path in sorted(found.digests.keys() - known):
        said = f"secrets/{path} belongs to no secret"
        yield Finding("orphaned", None, path, (), said, (f"if it is of no use: rm {quote(f'secrets/{path}')}",))


def _again(declaration: Declaration) -> str:
    return f"bento secret add {declaration.target} FILE --name {declaration.name} --replace"
