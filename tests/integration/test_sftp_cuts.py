"""A publisher whose link or process ends at any point, over real sshd; and what many hosts cost over a slow link."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from unit.admin.test_publish import DAY, START, Place

from bento.adapters import protocol, sftp_ahead, sftp_target
from bento.adapters.files import Busy
from bento.adapters.folder import PublishFolder
from bento.adapters.protocol import SaidNo, ServerAway
from bento.adapters.sftp import logged_in
from bento.adapters.sftp_keys import publisher
from bento.adapters.sftp_lock import Locking, Owner
from bento.adapters.sftp_target import SftpTarget
from bento.adapters.wire import Wire
from bento.admin.at_once import each
from bento.admin.content import Content
from bento.admin.shares import Shares
from bento.admin.standing import read_published
from bento.errors import BentoError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.targets import SftpPlace
from bento.models.trust import Server
from bento.names import HostName
from bento_secrets.ssh_keys import SshPublicKey
from rig import HostUser, Sshd, make_ssh_key
from rig.cuts import EVERY
from rig.relay import Relay
from rig.sshd import INSIDE

pytestmark = pytest.mark.timeout(300)

CUTS = 15 if EVERY else 7
END = 6000  # about the bytes that follow the objects
HOSTS = 60
DELAY = 0.1  # seconds each way: a round trip takes 200 ms


@dataclass
class Link:
    """A publisher of `user`, whose server is reached through whatever port is named."""

    sshd: Sshd
    user: str
    key: Path
    place: Place
    names: list[HostName]

    def target(self, port: int, now: int | None = None) -> SftpTarget:
        server = Server("127.0.0.1", port, (SshPublicKey.parse(self.sshd.host_key_line),), 20)
        log_in = publisher(self.user, "it", self.key)
        locking = Locking(lambda: Owner("me", "mine"), lambda: int(time.time()) if now is None else now)
        return SftpTarget(
            SftpPlace(self.user, "127.0.0.1", port, INSIDE),
            lambda first: logged_in(server, log_in, 20, first=first),
            locking,
        )

    def publish(self, port: int, content: Content, now: int) -> None:
        target = self.target(port)
        with target.locked():
            self.place.publish(content, now, to=[target])

    @property
    def seen(self) -> PublishFolder:
        """The same chroots, as the server's disk has them."""
        return PublishFolder(self.sshd.publish)


@pytest.fixture
def link(sshd: Sshd, host_user: HostUser, tmp_path: Path) -> Link:
    work = tmp_path / "work"
    work.mkdir()
    user = host_user("pub")
    key = make_ssh_key(tmp_path / "publisher")
    sshd.add_publisher(user, [key.line])
    names = [HostName(f"h{number}") for number in range(HOSTS)]
    for name in ("web", *names):
        (sshd.publish / name).mkdir()
        sshd.give_host(name, user, group="root")
    return Link(sshd, user, key.path, Place(work), names)


def test_a_publish_that_is_cut_anywhere_shows_the_old_release_or_the_new_and_the_next_run_heals_it(link: Link) -> None:
    number = 0

    def content() -> Content:
        return link.place.content(f"text {number:06} " * 15_000, f"one {number:06}", f"two {number:06}" * 5000)

    link.publish(link.sshd.port, content(), START)
    number = 1
    with Relay(link.sshd.port) as relay:
        link.publish(relay.port, content(), START + 10)
        whole = relay.sent
    outcomes = set()
    # Evenly over the whole, and closely over its end, where the manifest goes; the last come too late to cut.
    cuts = [whole * cut // CUTS for cut in range(CUTS)] + [whole - END + 2 * END * cut // CUTS for cut in range(CUTS)]
    for cut in cuts:
        number += 1
        before = link.seen.read_manifest(HostName("web"))
        with Relay(link.sshd.port, cut_after=cut) as relay:
            try:
                link.publish(relay.port, content(), START + number * 10)
                outcomes.add("done")
            except BentoError:
                outcomes.add("new" if link.seen.read_manifest(HostName("web")) != before else "old")
        found = read_published(link.seen, HostName("web"), link.place.trust)
        assert found is not None
        wanted = {found[1].config.digest: found[1].config.size, **{one.digest: one.size for one in found[1].secrets}}
        assert link.seen.present(HostName("web"), wanted) == wanted.keys()
        link.publish(link.sshd.port, content(), START + number * 10 + 5)
        after = read_published(link.seen, HostName("web"), link.place.trust)
        assert after is not None
        assert after[1].config.digest == content().config.digest
        assert list((link.sshd.publish / "web").rglob("*.tmp")) == []
    assert {"old", "done"} <= outcomes, outcomes
    assert not (link.sshd.publish / ".publisher/lock").exists()


def test_a_connection_that_is_lost_during_the_builds_is_made_again_and_a_broken_lock_is_noticed(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp_target, "_PAUSE", 0.0)  # as if the builds had taken longer
    with Relay(link.sshd.port) as relay:
        target = link.target(relay.port)
        with target.locked():
            relay.cut()
            target.refresh()
            link.place.publish(link.place.content("one"), int(time.time()), to=[target])
            lock = link.sshd.publish / ".publisher/lock"
            hers = '{"owner":"her","time":1,"token":"hers"}'
            lock.write_text(hers)
            with pytest.raises(Busy, match="broke this deploy's lock"):
                target.refresh()
        assert lock.read_text() == hers
    assert link.seen.read_manifest(HostName("web")) is not None


def test_many_hosts_cost_less_than_a_round_trip_each(link: Link) -> None:
    """A file put and confirmed the usual way takes four, and a host has at least three files."""

    def deploy(port: int, what: str) -> float:
        contents = [link.place.content(f"{what} {name}", f"{what} sealed {name}", host=name) for name in link.names]
        began = time.monotonic()
        target = link.target(port)
        with target.locked():
            shares = Shares()
            each(
                lambda content: link.place.publish(content, int(time.time()), shares, [target]),
                contents,
                target.writes_at_once,
            )
        return time.monotonic() - began

    with Relay(link.sshd.port, delay=DELAY) as relay:
        taken = deploy(relay.port, "far")
    # All of it, work too: with this delay the trips outweigh what a busy machine adds to that.
    assert taken < HOSTS * 2 * DELAY, f"as long as {taken / (2 * DELAY):.0f} round trips for {HOSTS} hosts"


def test_looking_ahead_at_many_hosts_finds_what_asking_for_each_by_itself_finds(link: Link) -> None:
    oddities = {
        "h1": lambda reports: [(reports / f"{number:020}.report").write_bytes(b"%d" % number) for number in range(250)],
        "h2": lambda reports: (reports / f"{7:020}.report").write_bytes(b"large " * 20_000),
        "h3": lambda reports: (reports / f"{7:020}.report").symlink_to("/etc/passwd"),
        "h4": lambda reports: os.mkfifo(reports / f"{7:020}.report"),
        "h5": lambda reports: (reports / "heartbeat").symlink_to("../release/manifest"),
        "h6": lambda reports: reports.rename(reports.with_name("elsewhere")),
        "h7": lambda reports: (reports / "heartbeat").write_bytes(b""),
        "h8": lambda reports: reports.chmod(0),
    }
    contents = {name: link.place.content(f"of {name}", f"sealed {name}", host=name) for name in link.names}
    target = link.target(link.sshd.port)
    with target.locked():
        for name in link.names[:-2]:
            link.place.publish(contents[name], int(time.time()), to=[target])
    for name, odd in oddities.items():
        reports = link.sshd.publish / name / "reports"
        (reports / f"{3:020}.report").write_bytes(b"three")
        if name not in ("h5", "h7"):
            (reports / "heartbeat").write_bytes(b"it lives")
        odd(reports)
    (link.sshd.publish / "h9/release/objects" / contents[link.names[9]].config.digest).write_bytes(b"cut")
    (link.sshd.publish / "h10/release/manifest").write_bytes(b"x" * 100_000)

    def all_of(target: SftpTarget, name: HostName) -> list[object]:
        content = contents[name]
        wanted = {content.config.digest: content.config.size, **{one.digest: one.size for one in content.secrets}}

        def words() -> object:
            try:
                return list(target.read_words(name))
            except BentoError as error:
                return error.message

        return [target.read_manifest(name), target.present(name, wanted), words()]

    with target.opened():
        alone = {name: all_of(target, name) for name in link.names}
        for newest in (0, 2):
            target.look_ahead({name: contents[name].ciphertexts for name in link.names}, newest)
            assert {name: all_of(target, name) for name in link.names} == alone
    assert alone[link.names[-1]][0] is None
    assert alone[link.names[1]][2] is not None


def test_what_was_looked_ahead_at_costs_nothing_more_and_is_forgotten_when_it_is_written(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = Wire.ask_all
    monkeypatch.setattr(Wire, "ask_all", lambda wire, many: asked.extend([len(many)] * bool(many)) or real(wire, many))
    contents = {name: link.place.content(f"of {name}", host=name) for name in link.names}
    target = link.target(link.sshd.port)
    with target.locked():
        for content in contents.values():
            link.place.publish(content, START, to=[target])
        asked.clear()
        target.look_ahead({name: [one.config.digest] for name, one in contents.items()}, 2)
        # Each host is asked for several things, and many are asked in one go.
        assert sum(asked) > 5 * HOSTS > 20 * len([many for many in asked if many > 1])
        asked.clear()
        for name, content in contents.items():
            assert link.place.publish(content, START, to=[target]).changed is None
            assert list(target.read_words(name)) == [None]
        assert asked == []
        web = link.names[0]
        changed = link.place.publish(link.place.content("other", host=web), START + 10, to=[target])
        assert changed.changed == ("configuration",)
        assert read_published(target, web, link.place.trust) == read_published(link.seen, web, link.place.trust)


def test_what_was_asked_with_the_lock_is_asked_once_until_it_is_written_or_more_is_wanted(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {name: link.place.content(f"of {name}", host=name) for name in link.names}
    wanted = {name: [one.config.digest] for name, one in contents.items()}
    target = link.target(link.sshd.port, int(time.time()))  # one hour, all through: see what is asked at which
    with target.locked():
        for content in contents.values():
            link.place.publish(content, START, to=[target])
    asked: list[int] = []
    with target.locked(wanted):
        real = Wire.ask_all
        monkeypatch.setattr(Wire, "ask_all", lambda wire, many: asked.append(len(many)) or real(wire, many))
        target.look_ahead(wanted)
        assert all(target.parts(name, wanted[name]) for name in link.names)
        assert sum(asked) == 0
        link.place.publish(link.place.content("other", host=link.names[0]), START + 10, to=[target])
        asked.clear()
        target.look_ahead(wanted)
        assert 0 < sum(asked) < 10  # the one that was written
        asked.clear()
        target.look_ahead(dict.fromkeys(link.names))
        assert sum(asked) > 5 * HOSTS  # all there is in their folders wasn't asked before
    with target.locked({}):
        assert target.parts(link.names[0], wanted[link.names[0]]) is None


def test_a_ctrl_c_while_hosts_are_looked_at_leaves_no_lock(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        assert lock.exists()
        raise KeyboardInterrupt

    lock = link.sshd.publish / ".publisher/lock"
    monkeypatch.setattr(sftp_ahead, "look", interrupted)
    with pytest.raises(KeyboardInterrupt), link.target(link.sshd.port).locked(dict.fromkeys(link.names)):
        pytest.fail("it was let in")
    assert not lock.exists()


@pytest.mark.parametrize("wrong", ["clock", "disk"])
def test_a_lock_that_another_made_meanwhile_stays_where_one_s_own_comes_to_nothing(
    link: Link, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    def broken(*_: object) -> dict[str, object]:
        while not lock.read_bytes():  # ours is under way
            time.sleep(0.001)
        lock.unlink()
        lock.write_text('{"owner":"other","time":1,"token":"other"}')
        if wrong == "disk":
            monkeypatch.setattr(protocol, "done", full)
        return {}

    def full(_: object) -> None:
        monkeypatch.setattr(protocol, "done", real)
        raise SaidNo("the disk is full")

    lock, real = link.sshd.publish / ".publisher/lock", protocol.done
    monkeypatch.setattr(sftp_ahead, "look", broken)
    target = link.target(link.sshd.port, START if wrong == "clock" else None)
    with pytest.raises(WorkFailed, match=wrong), target.locked(dict.fromkeys(link.names)):
        pytest.fail("it was let in")
    assert '"other"' in lock.read_text()


def test_what_is_out_of_the_ordinary_is_looked_at_once_too(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    web = link.names[0]
    (link.sshd.publish / web / "release/manifest").write_bytes(b"x" * 40_000)
    target = link.target(link.sshd.port)
    with target.locked({web: None}):
        asked = list[int]()
        real = Wire.ask_all
        monkeypatch.setattr(Wire, "ask_all", lambda wire, many: asked.append(len(many)) or real(wire, many))
        target.look_ahead({web: None})
        assert sum(asked) == 0
        assert target.read_manifest(web) == b"x" * 40_000


def test_signs_of_life_of_many_hosts_are_read_together_and_the_same_as_one_by_one(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(link.names):
        (link.sshd.publish / name / "reports/heartbeat").write_bytes(b"of %d" % number)
    words = [link.sshd.publish / name / "reports/heartbeat" for name in link.names]
    words[0].unlink()
    words[1].unlink()
    words[1].symlink_to("/etc/passwd")
    words[2].write_bytes(bytes(LIMITS.report + 1))
    words[3].chmod(0)
    words[4].unlink()
    os.mkfifo(words[4])
    words[5].write_bytes(b"")
    words[6].parent.chmod(0)
    target = link.target(link.sshd.port)
    asked: list[int] = []
    real = Wire.ask_all
    with target.opened():
        alone = [next(target.read_words(name)) for name in link.names]
        assert alone[:7] == [*[None] * 5, b"", None]
        assert alone[7:] == [b"of %d" % number for number in range(7, HOSTS)]
        target.look_ahead({link.names[7]: ()})
        target.hear(link.names)
        monkeypatch.setattr(Wire, "ask_all", lambda wire, many: asked.append(len(many)) or real(wire, many))
        assert [next(target.read_words(name)) for name in link.names] == alone
        assert target.read_manifest(link.names[7]) is None  # what was known stays
        assert asked == []
        target.hear(link.names[:1])
        asked.clear()
        assert next(target.read_words(link.names[8])) == alone[8]
        assert asked  # of what may be large not all is kept


def test_earlier_releases_are_read_only_where_something_is_old_and_of_that_the_last_three_stay(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = SftpTarget.read_object
    monkeypatch.setattr(SftpTarget, "read_object", lambda its, *of: read.append(str(of[1])) or real(its, *of))
    objects = link.sshd.publish / "web/release/objects"
    now, texts = int(time.time()), [f"text {number}" for number in range(6)]
    configs = [link.place.content(text).config.digest for text in texts]

    def there() -> list[int]:
        return [number for number, digest in enumerate(configs) if (objects / digest).exists()]

    for number, text in enumerate(texts[:5]):
        link.publish(link.sshd.port, link.place.content(text), now - (10 - number) * DAY)
    assert (there(), read) == ([0, 1, 2, 3, 4], [])
    stray = objects / ("0" * 64)
    stray.write_bytes(b"of no release")
    for path in (*objects.iterdir(), stray):
        os.utime(path, (now - 2 * DAY, now - 2 * DAY))
    link.publish(link.sshd.port, link.place.content(texts[5]), now)
    assert there() == [3, 4, 5]
    assert len(read) == 1  # what is published and what it replaces are known
    assert not stray.exists()


def test_old_reports_of_a_host_that_nothing_is_written_for_go_at_one_hour_in_seventeen(link: Link) -> None:
    """To list them each time would cost more than all else that is asked of unchanged hosts."""
    web = HostName("web")
    content = link.place.content("text")
    link.publish(link.sshd.port, content, START)
    reports = link.sshd.publish / web / "reports"
    left = []
    for hour in range(100, 117):
        for number in range(5):
            (reports / f"{number:020}.report").write_bytes(b"it")
        target = link.target(link.sshd.port, hour * 3600)
        with target.opened():
            target.look_ahead({web: [content.config.digest]})
            assert target.parts(web, [content.config.digest]) is not None
            target.drop_reports_but(web, 3)
            assert target.read_object(web, content.config.digest, 100) is not None  # so all before is done
        left.append(len(list(reports.iterdir())))
    assert sorted(left) == [3] + [5] * 16
    (reports / f"{7:020}.report").write_bytes(b"it")
    with target.opened():
        target.drop_reports_but(web, 1)  # not looked at before
        assert target.read_manifest(web) is not None
    assert len(list(reports.iterdir())) == 1


def test_a_server_that_goes_while_many_hosts_are_asked_for_is_told_of_by_what_needs_it(link: Link) -> None:
    with Relay(link.sshd.port, cut_after=4000) as relay:
        target = link.target(relay.port)
        with target.opened():
            target.look_ahead(dict.fromkeys(link.names, ()), 2)
            target.look_ahead(dict.fromkeys(link.names, ()), 2)
            with pytest.raises(ServerAway, match="reading the published manifest of h0"):
                target.read_manifest(link.names[0])
