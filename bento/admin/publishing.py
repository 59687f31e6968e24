"""Publish what was prepared for many hosts: each is looked at, and what is new is written, many at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bento.adapters.stamps import Stamps
from bento.admin.at_once import look_and_write
from bento.admin.content import Content
from bento.admin.inventory import Fleet
from bento.admin.look import Look, is_idle, look_at
from bento.admin.memory import Memory
from bento.admin.progress import Say
from bento.admin.publish import Draft, Published, bring, drafted, sign
from bento.admin.shares import Shares
from bento.admin.signing import ask_for_words, check_accepted
from bento.admin.targets import Reached
from bento.admin.unchanged import Unchanged
from bento.admin.workspace import Workspace
from bento.errors import BentoError
from bento.models.signed import SignedDocument
from bento.models.trust import Trust
from bento.names import HostName, listed

Seen = tuple[Look, int]  # and when that was, in UTC seconds
Signed = tuple[Draft, SignedDocument, int]  # the same


@dataclass(frozen=True)
class Prepared:
    """What each host is to get, and what went wrong before. `built` counts what was built just now.

    `unchanged` knows the hosts that need nothing; `stamps` are the plan's.
    """

    contents: Mapping[HostName, Content]
    failed: Mapping[HostName, BentoError]
    built: int
    warnings: tuple[str, ...]
    unchanged: Unchanged | None = None
    stamps: Stamps | None = None


@dataclass(frozen=True)
class Deployed:
    """What became of each chosen host. `warnings` are sentences for the admin; `missed` names targets that failed."""

    published: Mapping[HostName, Published]
    failed: Mapping[HostName, BentoError]
    built: int
    warnings: tuple[str, ...]
    missed: Mapping[str, BentoError] = field(default_factory=dict)


@dataclass(frozen=True)
class _Work:
    """One run. `published` and `failed` are what came of it so far."""

    prepared: Prepared
    fleet: Fleet
    trust: Trust
    reached: Reached
    memory: Memory
    keys: tuple[Path, ...]
    clock: Callable[[], int]
    say: Say
    drop_signers: bool
    failed: dict[HostName, BentoError]
    published: dict[HostName, Published] = field(default_factory=dict)
    shares: Shares = field(default_factory=Shares)

    def leave(self, unchanged: Unchanged, host: HostName) -> None:
        """It is in order, and has what a new host of its flake needs."""
        for target in self.reached.targets:
            self.shares.has(target, unchanged.trees[host], host)
        self.published[host] = unchanged.found[host]
        self.say(host, _what(self.published[host]), "same")

    def ahead(self, some: Sequence[Content]) -> None:
        """Say what is looked at next."""
        for target in self.reached.targets:
            target.look_ahead(dict.fromkeys([one.host for one in some]))

    def look(self, content: Content) -> Seen | None:
        """What is to be written; None where that is as good as nothing, and then it is done."""
        now = self.clock()
        with self._or_failed(content.host):
            seen = look_at(self.reached.targets, content, self.trust, now, self.memory, self.prepared.stamps)
            if not is_idle(seen, self.keys):
                return seen, now
            self.write((self._drafted(seen, now), seen.whole[0].release[1], now))
        return None

    def signed(self, some: Iterable[Seen]) -> Iterator[Signed]:
        """What was looked at, as it is to be written."""
        some, drafts = [*some], list[tuple[Draft, int]]()
        if not self.drop_signers:
            ask_for_words(self.reached.targets, [seen for seen, _ in some], self.keys)
        for seen, now in some:
            with self._or_failed(seen.content.host):
                drafts.append((self._drafted(seen, now), now))
        ready: list[Signed] = []
        for (draft, now), document in zip(drafts, sign([draft for draft, _ in drafts]), strict=True):
            if isinstance(document, BentoError):
                self.failed[draft.seen.content.host] = document
            else:
                ready.append((draft, document, now))
        try:
            self.memory.will_publish(
                {draft.manifest.host: draft.manifest.serial for draft, _, _ in ready if not draft.seen.current}
            )
        except BentoError as error:
            self.failed.update(dict.fromkeys((draft.manifest.host for draft, _, _ in ready), error))
        else:
            yield from ready

    def _drafted(self, seen: Look, now: int) -> Draft:
        host = self.fleet.hosts[seen.content.host]

        def before_signing(signed: frozenset[str] | None) -> None:
            if not self.drop_signers:
                check_accepted(self.reached.targets, host, self.trust, self.keys, signed)

        return drafted(seen, self.trust, self.keys, now, before_signing)

    def write(self, one: Signed) -> None:
        """Bring it to the targets."""
        draft, document, now = one
        host = draft.seen.content.host
        if not draft.seen.current:
            self.say(host, "publishing", "working")
        with self._or_failed(host):
            self.published[host] = bring(draft, document, now, self.memory, self.shares)

    def tell(self, content: Content) -> None:
        """Say what became of it."""
        done = self.published.get(content.host)
        if done is None:
            self.say(content.host, "not published", "failed")
        else:
            self.say(content.host, _what(done), "same" if done.changed is None and not done.healed else "done")

    @contextmanager
    def _or_failed(self, host: HostName) -> Iterator[None]:
        """A host that fails is named; the others go on."""
        try:
            yield
        except BentoError as error:
            self.failed[host] = error


def publish_prepared(
    prepared: Prepared,
    chosen: tuple[HostName, ...],
    fleet: Fleet,
    trust: Trust,
    reached: Reached,
    workspace: Workspace,
    clock: Callable[[], int],
    say: Say,
    *,
    drop_signers: bool = False,
) -> Deployed:
    """Publish what was prepared for the chosen hosts, several at once where the targets like it. Locks must be held."""
    failed = {name: error for name, error in prepared.failed.items() if name in chosen}
    memory, keys = workspace.memory(), fleet.signing_keys  # asked once, for all hosts
    work = _Work(prepared, fleet, trust, reached, memory, keys, clock, say, drop_signers, failed)
    unchanged = prepared.unchanged
    if unchanged is not None:
        for name in chosen:
            if name in unchanged.found:
                work.leave(unchanged, name)
    contents = [prepared.contents[name] for name in chosen if name in prepared.contents]
    try:
        look_and_write(work.ahead, work.look, work.signed, work.write, work.tell, contents, reached.targets)
    finally:
        forgotten = _keep(memory)
    published = {name: work.published[name] for name in chosen if name in work.published}
    warnings = [
        *prepared.warnings,
        *forgotten,
        *(sentence for done in published.values() for sentence in done.warnings),
    ]
    for name, content in prepared.contents.items():
        if name not in published:
            continue
        if published[name].changed is not None:
            warnings.extend(_kept(workspace, content))
        elif unchanged is not None:
            unchanged.remember(name, published[name], content.system, reached.targets)
    warnings.extend(taking_over([name for name, done in published.items() if done.took_over]))
    warnings.extend(sentence for target in reached.targets for sentence in target.complaints(published))
    missed = {name: error for done in published.values() for name, error in done.missed.items()}
    in_failed = {name: failed[name] for name in chosen if name in failed}
    return Deployed(published, in_failed, prepared.built, tuple(dict.fromkeys(warnings)), {**reached.missed, **missed})


def taking_over(hosts: Sequence[HostName]) -> tuple[str, ...]:
    """What to say of hosts whose release came from another machine, and gets another content from here."""
    if not hosts:
        return ()
    said = (
        f"what was published for {listed(hosts)} came from another machine or folder, and this one says something else"
    )
    again = "if this one is older, fetch what the other has (git pull) and deploy again"
    return (f"{said}: {again}; to go back: bento rollback {hosts[0]}",)


def _keep(memory: Memory) -> tuple[str, ...]:
    """What is published stands, whether or not this machine remembers it: a warning then."""
    try:
        memory.keep()
    except BentoError as error:
        return (f"{error.message}: the next deploy can't tell whether a server has lost what was published now",)
    return ()


def _what(done: Published) -> str:
    if done.changed is not None:
        return f"published {done.serial} ({', '.join(done.changed)})"
    return f"unchanged; brought up to date: {', '.join(done.healed)}" if done.healed else "unchanged"


def _kept(workspace: Workspace, content: Content) -> tuple[str, ...]:
    """Hosts may fetch it from here as from a binary cache. It is published: not to keep it is only worth a warning."""
    try:
        if content.system is not None:
            workspace.keep_published(content.host, content.system)
    except BentoError as error:
        return (error.message,)
    return ()
