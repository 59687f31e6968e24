"""The secret store: a fleet's `secrets/` folder, holding sealed files, their declarations and the lock."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from bento_secrets import drafts, rekey, staging
from bento_secrets.copies import CopyReader, Found, copy_path
from bento_secrets.declared import Attributes, Declaration, parse_declarations
from bento_secrets.drafts import Draft, NewSecret
from bento_secrets.errors import InputError, StoreFailed
from bento_secrets.forget import Forgotten, forget
from bento_secrets.limits import LIMITS
from bento_secrets.lock import Copies, parse_lock, render_lock
from bento_secrets.lost import LOCK, from_git, in_git
from bento_secrets.members import Member, adopted, effective, with_targets
from bento_secrets.names import HostName, SecretName, Target, did_you_mean
from bento_secrets.opened import TOML, opened, reason, text
from bento_secrets.recipients import Recipient
from bento_secrets.rekey import Rekeyed, Step
from bento_secrets.sealing import Opener, Plaintext

__all__ = ["NewSecret", "Opened", "Removed", "SecretStore", "StoreState", "copy_path"]

_NEW_FILES = {
    ".gitignore": "# Only sealed files and their lists belong in git.\n*\n!*/\n!*.age\n"
    + "".join(f"!/{name}\n" for name in (TOML, LOCK, ".gitignore")),
    TOML: """\
# The fleet's secrets: what each is called, for whom it is, and what it looks like on a host.
# `bento secret add` writes here, and so may you. Its content is in HOST/NAME.age, sealed.
#
# [[secret]]
# target = "router"              # a host, or "@tag"
# name = "wireguard/private"
# owner = "systemd-network"      # root if left out, and so is the group
# group = "systemd-network"
# mode = "0400"
# path = "/etc/wireguard/key"    # a link to the secret; without it: /run/bento/secrets/wireguard/private
# restart = ["systemd-networkd.service"]
# reload = []
# max_age = "90d"                # `bento secret check` tells when the content is older; h, d, w or y
""",
    LOCK: render_lock({}),
}


@dataclass(frozen=True)
class StoreState:
    """What the store declares and which sealed copies it should hold."""

    declarations: tuple[Declaration, ...]
    lock: Copies


@dataclass(frozen=True)
class Opened:
    """A secret's content, the declaration it belongs to, and the store's state when it was read."""

    declaration: Declaration
    plaintext: Plaintext
    state: StoreState


@dataclass(frozen=True)
class Removed:
    """Whose copies went; and of those, who now gets a tag's secret of that name, sealed anew or still missing."""

    hosts: tuple[HostName, ...]
    resealed: tuple[Step, ...]
    missing: tuple[Step, ...]


class SecretStore:
    """The store in `folder`. Every change is all or none; a cut one is finished or dropped by the next that writes.

    Symlinks inside the folder are never followed. Methods raise InputError for what a person wrote, StoreFailed for
    what the machine can't do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder and those of its files that are missing; what is there stays."""
        try:
            self.folder.mkdir(mode=0o755)
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreFailed(
                f"{self.folder} can't be made: {reason(error)}",
                f"see whose it is: ls -ld {quote(str(self.folder.parent))}",
            ) from None
        with opened(self.folder, writing=True) as folder_fd:
            staging.settle(folder_fd)
            missing = {name: content.encode() for name, content in _NEW_FILES.items() if not _exists(folder_fd, name)}
            if missing:
                staging.commit(folder_fd, missing)

    def read(self) -> StoreState:
        """The store as of now. Writes nothing: a change that was cut after its commit is read as if finished."""
        with opened(self.folder, writing=False) as folder_fd:
            return self._state(folder_fd, staging.read_plan(folder_fd))[0]

    def survey(self, identities: Sequence[Opener] = ()) -> tuple[StoreState, Found]:
        """The store's lists and its sealed files at one moment, for check.check; opened, if there are identities."""
        with opened(self.folder, writing=False) as folder_fd:
            plan = staging.read_plan(folder_fd)
            state, _ = self._state(folder_fd, plan)
            return state, CopyReader(folder_fd, plan, state.lock).find(self.folder, identities)

    def add(
        self,
        target: Target,
        name: SecretName,
        attributes: Attributes,
        plaintext: Plaintext,
        members: Sequence[Member],
        admins: Sequence[Recipient],
        *,
        replace: bool,
        now: int,
    ) -> tuple[HostName, ...]:
        """As add_many, for one secret; the hosts, by name."""
        item = NewSecret(target, name, attributes, plaintext)
        return self.add_many([item], members, admins, replace=replace, now=now)[0]

    def add_many(
        self,
        items: Sequence[NewSecret],
        members: Sequence[Member],
        admins: Sequence[Recipient],
        *,
        replace: bool,
        now: int,
        seen: StoreState | None = None,
    ) -> tuple[tuple[HostName, ...], ...]:
        """Seal each item for the hosts that get it by its target, and declare it; its hosts, by name. All or none.

        A host of a tag that has its own secret of that name is left out. With `replace` the secrets must exist, and
        what an item's attributes don't say stays as declared; without it, they mustn't. `now` is UTC seconds. `seen` is
        the state that the new content was made from: InputError if somebody has changed these secrets since.
        """
        with self._change(members) as (draft, _):
            if seen is not None:
                _check_same(draft, seen, items)
            receivers = drafts.add(draft, items, members, admins, replace=replace, now=now)
        return tuple(tuple(member.name for member in one) for one in receivers)

    def remove(
        self,
        target: Target,
        name: SecretName,
        members: Sequence[Member],
        admins: Sequence[Recipient],
        identities: Sequence[Opener] = (),
    ) -> Removed:
        """Drop the declaration and its copies.

        Where a tag's secret of that name comes into effect, its content is sealed for the host from another host's
        copy, if an identity opens one; else it is missing there, and the answer says so.
        """
        with self._change(members) as (draft, reader):
            draft.undeclare(target, name)
            dropped = sorted(key for key, copy in draft.lock.items() if (key[1], copy.target) == (name, target))
            for key in dropped:
                draft.drop(key)
            wanted = effective(with_targets(draft.declarations, members), members)
            heirs = [
                Step(host, name, heir, (f"gets it from {heir.target} now",))
                for host, _ in dropped
                if (heir := wanted.get(host, {}).get(name)) is not None
            ]
            done = rekey.carry_out(heirs, draft, reader, members, admins, identities, partial=True)
        return Removed(tuple(host for host, _ in dropped), done.done, done.left)

    def forget(self, host: HostName, members: Sequence[Member], *, dry_run: bool = False) -> Forgotten:
        """Drop all that is only for a host that leaves; mark what it shared "must rotate". `dry_run` writes nothing.

        `members` still has the host.
        """
        if dry_run:
            with opened(self.folder, writing=False) as folder_fd:
                draft, _ = self._draft(folder_fd, members, staging.read_plan(folder_fd))
                return forget(draft, host, members)
        with self._change(members) as (draft, _):
            return forget(draft, host, members)

    def rekey_plan(
        self, members: Sequence[Member], admins: Sequence[Recipient], only: Target | None = None
    ) -> tuple[Step, ...]:
        """What `rekey` would do, if all can be opened. Writes nothing."""
        with opened(self.folder, writing=False) as folder_fd:
            draft, reader = self._draft(folder_fd, members, staging.read_plan(folder_fd))
            return rekey.plan(draft, reader, members, admins, only)

    def rekey(
        self,
        members: Sequence[Member],
        admins: Sequence[Recipient],
        identities: Sequence[Opener],
        only: Target | None = None,
        *,
        partial: bool = False,
    ) -> Rekeyed:
        """Seal anew what isn't sealed to today's recipients, or is missing but can be had from another host's copy.

        Copies that no host gets go. All or none: NeedsFile if something can't be opened; with `partial` that is left as
        it is, marked "must rotate". `only` is a host or a tag. Contents stay, and with them their age.
        """
        with self._change(members) as (draft, reader):
            steps = rekey.plan(draft, reader, members, admins, only)
            return rekey.carry_out(steps, draft, reader, members, admins, identities, partial=partial)

    def open(self, target: Target, name: SecretName, members: Sequence[Member], identities: Sequence[Opener]) -> Opened:
        """What the target's secret is, a host's own or that of its tag; OpenFailed if no identity opens a copy."""
        with opened(self.folder, writing=False) as folder_fd:
            plan = staging.read_plan(folder_fd)
            state, _ = self._state(folder_fd, plan)
            declaration = _declared(state.declarations, members, target, name)
            reader = CopyReader(folder_fd, plan, adopted(state.lock, state.declarations, members))
            first = None if target.tag else HostName(target)
            plaintext, _ = reader.opened(declaration, first, identities)
        return Opened(declaration, plaintext, state)

    def ciphertext(self, host: HostName, name: SecretName, lock: Copies | None = None) -> bytes:
        """The sealed copy, compared with secrets.lock (`lock`, if the caller has read it); InputError if it differs."""
        path = copy_path(host, name)
        with opened(self.folder, writing=False) as folder_fd:
            plan = staging.read_plan(folder_fd)
            if lock is None:
                lock = parse_lock(text(self.folder, folder_fd, LOCK, plan), str(self.folder / LOCK))
            content = staging.read(folder_fd, path, LIMITS.MAX_CIPHERTEXT, plan)
        again = f"seal it again: bento secret add TARGET FILE --name {name} --replace"
        copy = lock.get((host, name))
        if copy is None:
            raise InputError(f"host {host} has no copy of secret {name} in {self.folder / LOCK}", again)
        if content is None:
            there = (from_git(self.folder, path),) if in_git(self.folder) else ()
            raise InputError(f"{self.folder / path} is missing", *there, again)
        if hashlib.sha256(content).hexdigest() != copy.sha256:
            both = from_git(self.folder, path, LOCK, commit="COMMIT")
            raise InputError(
                f"{self.folder / path} isn't the file that {LOCK} names: changed, or merged without the lock",
                *([f"take both from one commit: {both}"] if in_git(self.folder) else []),
                again,
            )
        return content

    def _state(self, folder_fd: int, plan: staging.Plan | None) -> tuple[StoreState, str]:
        """The lists, and the text of secrets.toml."""
        toml, lock = (text(self.folder, folder_fd, name, plan) for name in (TOML, LOCK))
        declarations = parse_declarations(toml, str(self.folder / TOML))
        return StoreState(declarations, parse_lock(lock, str(self.folder / LOCK))), toml

    def _draft(self, folder_fd: int, members: Sequence[Member], plan: staging.Plan | None) -> tuple[Draft, CopyReader]:
        state, toml = self._state(folder_fd, plan)
        lock = adopted(state.lock, state.declarations, members)
        draft = Draft(toml, str(self.folder / TOML), state.declarations, dict(lock))
        return draft, CopyReader(folder_fd, plan, lock)

    @contextmanager
    def _change(self, members: Sequence[Member]) -> Iterator[tuple[Draft, CopyReader]]:
        """A draft to work on, and what reads the copies as they were. It is written when the block ends well.

        All sealing comes before any writing: a bad recipient leaves nothing behind.
        """
        with opened(self.folder, writing=True) as folder_fd:
            staging.settle(folder_fd)
            draft, reader = self._draft(folder_fd, members, None)
            before = (draft.toml, render_lock(draft.lock))
            yield draft, reader
            after = (draft.toml, render_lock(draft.finished()))
            if draft.files or after != before:
                staging.commit(folder_fd, {**draft.files, TOML: after[0].encode(), LOCK: after[1].encode()})


def _declared(
    declarations: Sequence[Declaration], members: Sequence[Member], target: Target, name: SecretName
) -> Declaration:
    known = [one for one in declarations if one.target == target]
    if target.tag is None:
        known = list(effective(declarations, members).get(HostName(target), {}).values())
    for one in known:
        if one.name == name:
            return one
    raise InputError(
        f"there is no secret {name} for {target}",
        *did_you_mean(name, {one.name for one in known}),
        "see what there is: bento secret list",
    )


def _check_same(draft: Draft, seen: StoreState, items: Sequence[NewSecret]) -> None:
    names = {item.name for item in items}

    def of(lock: Copies) -> Mapping[tuple[HostName, SecretName], str]:
        return {key: copy.sha256 for key, copy in lock.items() if key[1] in names}

    if of(draft.lock) != of(seen.lock):
        raise InputError(f"somebody changed {', '.join(sorted(names))} meanwhile, so nothing was written", "begin anew")


def _exists(folder_fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
