"""Which copies aren't sealed to today's recipients, and why; and sealing them anew, which takes an identity."""

from collections.abc import Sequence
from dataclasses import dataclass

from bento_secrets.copies import CopyReader
from bento_secrets.declared import Declaration
from bento_secrets.drafts import Draft
from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.lock import Copy
from bento_secrets.members import Member, effective
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.recipients import Recipient, texts
from bento_secrets.sealing import Opener


@dataclass(frozen=True)
class Step:
    """One copy to seal anew (or, without `declaration`, to remove), and why: phrases such as "admin added"."""

    host: HostName
    name: SecretName
    declaration: Declaration | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Rekeyed:
    """What was done; and what no identity opens, which only partial work leaves."""

    done: tuple[Step, ...]
    left: tuple[Step, ...] = ()


class NeedsFile(InputError):
    """Secrets whose content is needed again, because no identity at hand opens a copy."""

    def __init__(self, message: str, steps: Sequence[Step], *first: str) -> None:
        super().__init__(message, *first, *add_again(steps))
        self.steps = tuple(steps)


def add_again(steps: Sequence[Step]) -> tuple[str, ...]:
    """The commands that bring them back, each secret once."""
    declared = dict.fromkeys((one.declaration.target, one.name) for one in steps if one.declaration is not None)
    return tuple(f"bento secret add {target} FILE --name {name} --replace" for target, name in declared)


def plan(
    draft: Draft, reader: CopyReader, members: Sequence[Member], admins: Sequence[Recipient], only: Target | None
) -> tuple[Step, ...]:
    """What isn't as it should be, by host and name. `only` is a host, or a tag's secrets."""
    wanted = effective(draft.declarations, members)
    by_name = {member.name: member for member in members}
    steps = []
    for host, name in sorted({*draft.lock, *((host, name) for host, names in wanted.items() for name in names)}):
        declaration, copy = wanted.get(host, {}).get(name), draft.lock.get((host, name))
        target = declaration.target if declaration is not None else copy.target if copy is not None else None
        if only is not None and str(only) != host and only != target:
            continue
        if declaration is None:
            steps.append(Step(host, name, None, (_why_unwanted(draft, copy, name),)))
            continue
        reasons = _reasons(declaration, copy, reader, by_name[host], admins)
        if reasons:
            steps.append(Step(host, name, declaration, reasons))
    return tuple(steps)


def carry_out(
    steps: Sequence[Step],
    draft: Draft,
    reader: CopyReader,
    members: Sequence[Member],
    admins: Sequence[Recipient],
    identities: Sequence[Opener],
    *,
    partial: bool = False,
) -> Rekeyed:
    """Put the steps into the draft. NeedsFile for what can't be opened; `partial` marks that instead, and goes on."""
    by_name = {member.name: member for member in members}
    done: list[Step] = []
    left: list[Step] = []
    for step in steps:
        key = (step.host, step.name)
        if step.declaration is None:
            draft.drop(key)
            done.append(step)
            continue
        try:
            plaintext, source = reader.opened(step.declaration, step.host, identities)
        except OpenFailed:
            left.append(step)
            continue
        draft.put(by_name[step.host], step.declaration, plaintext, admins, source.sealed)
        done.append(step)
    if left and not partial:
        raise _needs_file(left, identities, admins)
    for step in left:
        copy = draft.lock.get((step.host, step.name))
        if step.declaration is not None and copy is not None and copy.target == step.declaration.target:
            draft.mark(step.declaration)
    return Rekeyed(tuple(done), tuple(left))


def _needs_file(left: Sequence[Step], identities: Sequence[Opener], admins: Sequence[Recipient]) -> NeedsFile:
    what = ", ".join(dict.fromkeys(f"{one.name} for {one.host}" for one in left))
    if not admins:
        why = "nobody on this side can open a secret: bento.toml names no admin recipient"
    elif not identities:
        return NeedsFile(
            f"nothing was changed: {what} can't be sealed without an identity that opens a copy", left,
            "name your identity: bento secret rekey --identity FILE",
        )  # fmt: skip
    else:
        why = "no identity at hand opens a copy"
    return NeedsFile(f"nothing was changed: {what} can't be sealed again, because {why}", left)


def _reasons(
    declaration: Declaration, copy: Copy | None, reader: CopyReader, member: Member, admins: Sequence[Recipient]
) -> tuple[str, ...]:
    """Why the copy has to be sealed anew; nothing if it is as it should be."""
    if copy is None:
        return (f"joined {declaration.target}" if declaration.target.tag else "its copy is missing",)
    if copy.target != declaration.target:
        return (f"gets it from {declaration.target} now",)
    if reader.sound((member.name, declaration.name)) is None:
        return ("its file is missing, or isn't the one in secrets.lock",)
    return changed_recipients(copy, member, admins)


def changed_recipients(copy: Copy, member: Member, admins: Sequence[Recipient]) -> tuple[str, ...]:
    """How today's recipients differ from the copy's, in phrases."""
    before, today = set(copy.recipients), set(texts([member.recipient, *admins]))
    replaced = member.recipient.text not in before
    gone = len(before - today) - replaced  # one of them was the host's
    reasons = []
    if replaced:
        reasons.append("host key replaced")
    if today - before - {member.recipient.text}:
        reasons.append("admin added")
    if gone > 0:
        reasons.append("admin removed")
    return tuple(reasons)


def _why_unwanted(draft: Draft, copy: Copy | None, name: SecretName) -> str:
    declared = {(one.target, one.name) for one in draft.declarations}
    if copy is not None and copy.target is not None and copy.target.tag and (copy.target, name) in declared:
        return f"left {copy.target}"
    return "not declared any more"
