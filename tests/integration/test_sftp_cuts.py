"""A publisher whose link or process ends at any point, over real sshd; and what many hosts cost over a slow link."""

import time

import pytest
from unit.admin.test_publish import START

from bento.adapters import protocol, sftp_ahead, sftp_target
from bento.adapters.files import Busy
from bento.adapters.protocol import SaidNo
from bento.admin.at_once import each
from bento.admin.content import Content
from bento.admin.shares import Shares
from bento.admin.standing import read_published
from bento.errors import BentoError, WorkFailed
from bento.names import HostName
from rig.cuts import EVERY
from rig.link import HOSTS, Link
from rig.relay import Relay

pytestmark = pytest.mark.timeout(300)

CUTS = 15 if EVERY else 7
END = 6000  # about the bytes that follow the objects
DELAY = 0.1  # seconds each way: a round trip takes 200 ms


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
