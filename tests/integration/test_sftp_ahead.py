"""What a publisher learns of many hosts at once over real sshd: the same as one by one, asked once."""

import os
import time

import pytest
from unit.admin.test_publish import DAY, START

from bento.adapters.protocol import ServerAway
from bento.adapters.sftp_target import SftpTarget
from bento.adapters.wire import Wire
from bento.admin.standing import read_published
from bento.errors import BentoError
from bento.models.limits import LIMITS
from bento.names import HostName
from rig.link import HOSTS, Link
from rig.relay import Relay

pytestmark = pytest.mark.timeout(300)


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
