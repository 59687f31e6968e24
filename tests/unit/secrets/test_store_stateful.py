"""Any order of commands: `check` tells the truth, each host opens exactly its secrets, and nobody else does."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bento_secrets import age
from bento_secrets.check import Finding, check
from bento_secrets.declared import Attributes
from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.identities import Identity
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, TagName, Target
from bento_secrets.recipients import Recipient
from bento_secrets.rekey import NeedsFile
from bento_secrets.sealing import Plaintext, open_sealed
from bento_secrets.store import NewSecret, SecretStore
from rig.cuts import EVERY

HOSTS = ("web1", "web2", "db")
TAGS = ("web", "eu")
NAMES = ("a", "tls/key")
Place = tuple[Target, SecretName]
targets = st.sampled_from([*HOSTS, *(f"@{tag}" for tag in TAGS)]).map(Target)
places = st.tuples(targets, st.sampled_from(["a", *NAMES]).map(SecretName))


def new_identity() -> Identity:
    return Identity.from_age(age.generate_x25519()[0])


class Store(RuleBasedStateMachine):
    """The model: who is who, what is declared with which content, and who ever could open that content."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.store = SecretStore(self.folder / "secrets")
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("os.fsync", lambda _: None)  # thousands of them, and nothing is cut here
        self.store.create()
        self.hosts = {host: new_identity() for host in HOSTS}
        self.tags: dict[str, set[str]] = {"web1": {"web"}, "web2": {"web"}, "db": {"eu"}}
        self.admins: list[Identity] = []
        self.everybody = list(self.hosts.values())
        self.contents: dict[Place, bytes] = {}
        self.knowers: dict[bytes, set[str]] = {}
        self.tainted: set[bytes] = set()
        self.count = 0

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    # What the model says

    @property
    def members(self) -> list[Member]:
        return [
            Member(HostName(host), key.recipient, frozenset(map(TagName, self.tags[host])))
            for host, key in self.hosts.items()
        ]

    @property
    def recipients(self) -> list[Recipient]:
        return [admin.recipient for admin in self.admins]

    def place_for(self, host: str, name: str) -> Place | None:
        """Whose secret of that name the host gets; ValueError if two tags of it have one."""
        own = (Target(host), SecretName(name))
        if own in self.contents:
            return own
        tagged = [place for place in self.contents if place[1] == name and place[0].tag in self.tags[host]]
        if len(tagged) > 1:
            raise ValueError("two tags")
        return tagged[0] if tagged else None

    def lawful(self) -> bool:
        used = {tag for tags in self.tags.values() for tag in tags}
        if any(target.tag is not None and target.tag not in used for target, _ in self.contents):
            return False
        try:
            for host in HOSTS:
                for name in NAMES:
                    self.place_for(host, name)
        except ValueError:
            return False
        return True

    def wanted_by(self, place: Place) -> set[str]:
        """The recipients that should be able to open it, today."""
        hosts = {self.hosts[host].recipient.text for host in HOSTS if self.place_for(host, place[1]) == place}
        return hosts | {admin.text for admin in self.recipients} if hosts else set()

    def fresh(self) -> bytes:
        self.count += 1
        return b"content %d" % self.count

    def files(self) -> Iterator[tuple[str, str, bytes, set[str], bytes]]:
        """Each sealed file: host, name, its bytes, who opens it, and what is in it."""
        for path in sorted((self.store.folder).rglob("*.age")):
            host, _, name = path.relative_to(self.store.folder).as_posix().removesuffix(".age").partition("/")
            opened = {}
            for identity in self.everybody:
                try:
                    opened[identity.recipient.text] = open_sealed(path.read_bytes(), [identity]).data
                except OpenFailed:
                    continue
            assert len(set(opened.values())) == 1
            yield host, name, path.read_bytes(), set(opened), next(iter(opened.values()))

    # What a person does

    @initialize(admins=st.integers(0, 1))
    def start(self, admins: int) -> None:
        """Two tags with a secret of one name: where most can go wrong."""
        for _ in range(admins):
            self.change_admins(add=True)
        for tag in TAGS:
            self.add((Target(f"@{tag}"), SecretName("a")))

    @rule(place=places)
    def add(self, place: Place) -> None:
        content = self.fresh()
        exists = place in self.contents
        before = dict(self.contents)
        self.contents[place] = content
        fits = self.lawful() and not exists and self.wanted_by(place) != set()
        try:
            self.store.add(
                *place, Attributes(), Plaintext(content), self.members, self.recipients, replace=False, now=1
            )
            assert fits
        except InputError:
            assert not fits
            self.contents = before

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.contents)))
        content, fits = self.fresh(), self.wanted_by(place) != set()
        try:
            self.store.add(*place, Attributes(), Plaintext(content), self.members, self.recipients, replace=True, now=1)
            assert fits
            self.contents[place] = content
        except InputError:
            assert not fits

    @precondition(lambda self: self.contents and self.admins)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        """Open, change, seal: as `bento secret edit` does."""
        place = data.draw(st.sampled_from(sorted(self.contents)))
        try:
            opened = self.store.open(*place, self.members, self.admins)
        except OpenFailed:
            return
        assert opened.plaintext.data == self.contents[place]
        if not self.wanted_by(place):
            return
        content = self.fresh()
        item = NewSecret(*place, Attributes(), Plaintext(content))
        self.store.add_many([item], self.members, self.recipients, replace=True, now=1, seen=opened.state)
        self.contents[place] = content

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), with_identity=st.booleans())
    def remove(self, data: st.DataObject, *, with_identity: bool) -> None:
        place = data.draw(st.sampled_from(sorted(self.contents)))
        content = self.contents.pop(place)
        if not self.lawful():
            self.contents[place] = content
            return
        done = self.store.remove(*place, self.members, self.recipients, self.admins if with_identity else ())
        assert [host for host, *_, there in self.files() if there == content] == []
        heirs = {(host, place[1]) for host in done.hosts if self.place_for(host, place[1]) is not None}
        assert {(step.host, step.name) for step in (*done.resealed, *done.missing)} == heirs

    @rule(host=st.sampled_from(HOSTS), tags=st.sets(st.sampled_from(TAGS)))
    def retag(self, host: str, tags: set[str]) -> None:
        before = self.tags[host]
        self.tags[host] = tags
        if not self.lawful():
            self.tags[host] = before

    @rule(host=st.sampled_from(HOSTS), with_identity=st.booleans())
    def host_rekey(self, host: str, *, with_identity: bool) -> None:
        self.hosts[host] = new_identity()
        self.everybody.append(self.hosts[host])
        identities = self.admins if with_identity else ()
        done = self.store.rekey(self.members, self.recipients, identities, Target(host), partial=True)
        lock = self.store.read().lock
        for step in (*done.done, *done.left):
            if "host key replaced" in step.reasons:
                assert lock[step.host, step.name].must_rotate

    @rule(host=st.sampled_from(HOSTS))
    def replace_host(self, host: str) -> None:
        """`bento host remove`, then a new machine of that name, without tags: the old one opens nothing more."""
        old, members = self.hosts[host].recipient.text, self.members
        others = {tag for name, tags in self.tags.items() if name != host for tag in tags}
        kept = {
            place: content
            for place, content in self.contents.items()
            if str(place[0]) != host and (place[0].tag in others or place[0].tag not in self.tags[host])
        }
        holds = {key[1] for key in self.store.read().lock if key[0] == host}
        done = self.store.forget(HostName(host), members)
        assert set(done.copies) == holds
        assert {(one.target, one.name) for one in done.declared} == set(self.contents) - set(kept)
        assert {(one.target, one.name) for one in done.exposed} <= set(kept)
        assert [openers for at, _, _, openers, _ in self.files() if at == host or old in openers] == []
        self.contents = kept
        self.hosts[host], self.tags[host] = new_identity(), set()
        self.everybody.append(self.hosts[host])

    @rule(add=st.booleans())
    def change_admins(self, *, add: bool) -> None:
        if add and len(self.admins) < 2:
            self.admins.append(new_identity())
            self.everybody.append(self.admins[-1])
        elif self.admins and not add:
            self.admins.pop(0)

    @rule(only=st.none() | st.sampled_from(HOSTS).map(Target), former=st.booleans())
    def rekey(self, only: Target | None, *, former: bool) -> None:
        """With today's admins' identities, or with all that ever were: an admin who goes does it before he goes."""
        former_admins = [one for one in self.everybody if one not in self.hosts.values()]
        identities = former_admins if former else self.admins
        plan = self.store.rekey_plan(self.members, self.recipients, only)
        before = {path: path.read_bytes() for path in self.store.folder.rglob("*") if path.is_file()}
        try:
            done = self.store.rekey(self.members, self.recipients, identities, only)
        except NeedsFile as error:
            assert {path: path.read_bytes() for path in self.store.folder.rglob("*") if path.is_file()} == before
            needed = error
        else:
            needed = None
        if needed is not None:
            assert needed.hints[-1].startswith("bento secret add ")
            return
        assert done.done == plan
        left = [one for one in self.findings() if one.kind in ("stale", "missing", "orphaned", "changed")]
        assert [one for one in left if only is None or str(only) in one.hosts] == []

    # What must hold

    def findings(self) -> tuple[Finding, ...]:
        state, found = self.store.survey(self.everybody)
        return check(state.declarations, state.lock, found, self.members, self.recipients, 2)

    @invariant()
    def check_is_right(self) -> None:
        state = self.store.read()
        assert {(one.target, one.name) for one in state.declarations} == set(self.contents)
        expected: set[tuple[str, str, str]] = set()
        held: dict[tuple[str, str], tuple[set[str], bytes]] = {}
        for host, name, _, openers, content in self.files():
            held[host, name] = (openers, content)
            # The lock says exactly who opens it.
            assert set(state.lock[HostName(host), SecretName(name)].recipients) == openers
            self.knowers.setdefault(content, set()).update(openers)
        assert set(held) == set(state.lock)
        admins = {one.text for one in self.recipients}
        for host in HOSTS:
            for name in NAMES:
                place, there = self.place_for(host, name), held.get((host, name))
                if place is None:
                    expected |= {("orphaned", host, name)} if there else set()
                elif there is None or there[1] != self.contents[place]:
                    expected.add(("missing", host, name))
                elif there[0] != {self.hosts[host].recipient.text} | admins:
                    expected.add(("stale", host, name))
        found = self.findings()
        said = {(one.kind, one.hosts[0], one.name) for one in found if one.kind in ("missing", "stale", "orphaned")}
        assert said == expected
        assert {one.kind for one in found} <= {"missing", "stale", "orphaned", "must rotate"}
        for one in found:
            if one.kind == "stale":
                own = self.hosts[one.hosts[0]].recipient.text
                assert one.breaks == (own not in held[one.hosts[0], one.name][0])
        self.marks_are_right(found, expected)

    def marks_are_right(self, found: tuple[Finding, ...], expected: set[tuple[str, str, str]]) -> None:
        marked = {(one.target, one.name) for one in found if one.kind == "must rotate"}
        unsettled = {name for _, _, name in expected}
        for place, content in self.contents.items():
            wanted = self.wanted_by(place)
            too_many = not self.knowers.get(content, set()) <= wanted
            if too_many:
                self.tainted.add(content)
            if place in marked:
                assert content in self.tainted
            elif place[1] not in unsettled and wanted:
                assert not too_many

    @invariant()
    def when_all_is_in_order_each_host_opens_its_own_and_nobody_elses(self) -> None:
        if any(one.kind != "must rotate" for one in self.findings()):
            return
        admins = {one.text for one in self.recipients}
        for host, name, _, openers, content in self.files():
            assert openers == {self.hosts[host].recipient.text} | admins
            place = self.place_for(host, name)
            assert place is not None
            assert content == self.contents[place]


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=300 if EVERY else 50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
