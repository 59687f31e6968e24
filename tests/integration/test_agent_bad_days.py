"""What a host meets in the field: a second run, a server too busy, days without reports, disks that turn read-only."""

import json
import subprocess
import time
from pathlib import Path
from socket import create_connection, socket

import pytest

from bento.adapters.sftp import ServerAway, TurnedAway
from bento.agent import fetch, link, reporting, run, take
from bento.agent.facts import facts_of
from bento.agent.host import Host
from bento.agent.install import stored_manifest
from bento.agent.recover import recover
from bento.agent.reporting import deliver, make_report
from bento.core import trust_rules
from bento.core.spool import MOST
from bento.demo.systems import Behaviour, System
from bento.errors import BentoError, EnvironmentFailed
from bento.names import Serial
from rig.lone import LoneHost
from rig.relay import Relay
from rig.releases import hook
from rig.world import PROGRAMS, World


def take_it(host: Host) -> str:
    """What a run does with the second release once it has it."""
    floor = host.state.floor()
    assert floor is not None
    verdict = trust_rules.again(floor)
    assert isinstance(verdict, trust_rules.Take)
    host.state.write_floor(verdict.floor)
    return take.take_release(host, stored_manifest(host, Serial(2)), verdict.floor).outcome


def in_force(lone: LoneHost, host: Host) -> tuple[str | None, str | None, str, bytes]:
    return host.running(), host.profile(), lone.default(), lone.content()


def everything(lone: LoneHost, word: str) -> tuple[str | None, str | None, str, bytes]:
    system = lone.system(word)
    return system, system, system, b"content 1" if word == "old" else b"content 2"


@pytest.fixture
def host(lone: LoneHost, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that has the second release's system built."""
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    return lone.fresh()


def test_of_two_agents_at_once_one_takes_the_release_and_the_other_is_busy(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    web.write(System("second", Behaviour.HOOK))
    hook(web, f"until [ -e {web.folder}/go ]; do sleep 0.02; done", "install")
    world.bento("deploy")
    before = len(web.root.switches())
    argv = [PROGRAMS / "bento-agent", "--config", web.config, "run"]
    both = [web.root.popen(argv) for _ in range(2)]
    deadline = time.monotonic() + 120
    while all(agent.poll() is None for agent in both):  # whoever comes first stays in its switch
        assert time.monotonic() < deadline, "neither of them ended"
        time.sleep(0.02)
    (web.folder / "go").touch()
    ended = {agent.wait(120): agent.communicate()[1].decode() for agent in both}
    assert set(ended) == {0, 75}, ended
    assert "another run of the agent is under way" in ended[75]
    assert [action for action, _ in web.root.switches()[before:]] == ["test", "boot"]
    reports = sorted((world.sshd.publish / web.name / "reports").glob("*.report"))
    assert len(reports) == 2
    assert web.root.running() == world.report(web)["running"] == world.status(web)["published"]["system"]


def test_a_server_that_takes_no_more_logins_is_tried_again_with_a_pause_and_it_is_said(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, server = lone.fresh(), lone._sshd
    server.startups = 1
    server.restart()
    pauses: list[int] = []
    places: list[socket] = []

    def pause(number: int, _: float) -> float | None:
        pauses.append(number)
        if number == 2 and len(places) == 1:
            places[0].close()
        return 0.05 if number < 8 else None

    def stranger() -> None:
        """Has the one place, and doesn't log in."""
        places.append(create_connection((server.address, server.port)))
        assert places[-1].recv(4) == b"SSH-"

    monkeypatch.setattr(link.spool, "pause", pause)
    stranger()
    assert run.run(host).outcome == "refused"  # it got in, and what lies there is no manifest
    assert 2 <= len(pauses) < 8
    assert "hung up at once: it takes no more logins just now" in lone.said[0]
    assert "trying again in 0.1 s" in lone.said[0]

    pauses.clear()
    stranger()
    with places[1], pytest.raises(TurnedAway, match="hung up at once"):
        run.run(host)
    assert pauses == [1, 2, 3, 4, 5, 6, 7, 8]


def test_reports_of_many_days_without_a_server_are_bounded_and_arrive_once_in_their_order(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting.spool, "pause", lambda _number, _chance: None)
    host, server = lone.fresh(), lone._sshd
    reports = server.publish / lone.name / "reports"

    def arrived() -> list[Path]:
        return sorted(reports.glob("*.report"))

    reports.chmod(0o555)
    for day in range(MOST + 10):
        make_report(host, "failed", f"day {day}")
        if day % 20 == 0:
            assert not deliver(host)  # nothing is lost, and nothing left behind
    assert arrived() == []
    waiting = [path.name for path in host.state.spooled()]
    assert len(waiting) == MOST
    # the server takes reports again, over a link that breaks after some of them
    reports.chmod(0o2770)
    with Relay(server.port, cut_after=20_000) as relay:
        port, server.port = server.port, relay.port
        assert not deliver(lone.host())
        server.port = port
    first = {path.name: path.stat().st_ino for path in arrived()}
    left = [path.name for path in host.state.spooled()]
    assert 5 < len(first) < MOST - 5
    assert list(first) == waiting[: len(first)]
    assert len(set(first) & set(left)) <= 1  # the server has it, and its word for it was lost
    assert deliver(lone.host())
    assert [path.name for path in arrived()] == waiting
    times = [path.stat().st_mtime_ns for path in arrived()]
    assert times == sorted(times)  # oldest first
    assert host.state.spooled() == []
    days = [json.loads((reports / name).read_bytes().split(b"\n")[0])["reason"] for name in waiting]
    assert days == [f"day {day}" for day in range(10, MOST + 10)]
    once = set(first) - set(left)
    assert [first[name] for name in once] == [(reports / name).stat().st_ino for name in once]


def test_a_report_that_the_disk_does_not_give_keeps_no_other_from_the_server(lone: LoneHost) -> None:
    host = lone.fresh()
    make_report(host, "failed", "the first")
    (bad,) = host.state.spooled()
    make_report(host, "failed", "the second")
    bad.unlink()
    bad.mkdir()  # what can't be read as a file
    assert run.run(host).outcome == "refused"  # and the run goes on to the manifest, which is none
    assert f"the report {bad} can't be read" in "".join(lone.said)
    assert host.state.spooled() == [bad]
    assert len(list((lone._sshd.publish / lone.name / "reports").glob("*.report"))) == 2


def test_what_runs_that_were_killed_had_of_an_object_is_gone_before_the_next_is_fetched(lone: LoneHost) -> None:
    host = lone.fresh()
    objects = host.state.objects

    class Away:
        def stream(self, *_: object) -> None:
            assert not list(objects.glob(".fetch-*"))[1:]
            raise ServerAway("the link broke")

    for number in range(3):
        (objects / f".fetch-{number}").write_bytes(b"x" * 1000)
    with pytest.raises(ServerAway):
        fetch.fetch(host, Away(), stored_manifest(host, Serial(2)))  # nothing else is asked
    assert list(objects.glob(".fetch-*")) == []


def test_a_host_whose_var_is_read_only_says_so_and_takes_nothing_until_it_isn_t(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    web.run()
    before = (web.root.running(), web.root.boot_default(), web.secret("token"))
    web.write(System("second"))
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"second")
    world.bento("deploy")
    for argv in (["--bind", web.state, web.state], ["-o", "remount,ro,bind", web.state]):
        web.root.run(["mount", *argv], check=True)
    said = web.run(code=1)
    assert f"{web.state}" in said
    assert "Read-only file system" in said
    assert (web.root.running(), web.root.boot_default(), web.secret("token")) == before
    web.root.run(["umount", web.state], check=True)
    web.run()
    assert web.secret("token") == b"second"
    assert world.status(web)["state"] == "up to date"


def test_a_var_that_turns_read_only_in_mid_switch_is_undone_once_it_can_be_written(lone: LoneHost, host: Host) -> None:
    state = host.state.root
    lone.fault("new", "test", f"mount --bind {state} {state} && mount -o remount,ro,bind {state}", when="after")
    try:
        with pytest.raises(EnvironmentFailed, match="Read-only file system"):
            take_it(host)
        assert lone.default() == lone.system("old")  # what a reboot starts
        assert host.state.journal().phase == "switching"
        with pytest.raises(BentoError, match="Read-only file system"):
            run.run(lone.host())
        assert facts_of(lone.host()).state == "switching"  # a person can look all the same
    finally:
        subprocess.run(["umount", str(state)], check=True)
    host = lone.host()
    assert recover(host, host.state.journal()).outcome == "rolled-back"
    assert in_force(lone, host) == everything(lone, "old")
    (lone.folder / "fault-after-new-test").unlink()
    assert take_it(host) == "succeeded"
    assert in_force(lone, host) == everything(lone, "new")


# Until the tmpfs takes no more; the file says that it is so.
FILL = {
    "bytes": "cat /dev/zero >ROOT/filler; echo x >ROOT/filler2 || touch FOLDER/full",
    "inodes": "mount -o remount,nr_inodes=64 ROOT; n=; while (: >ROOT/filler$n); do n=x$n; done; touch FOLDER/full",
}


@pytest.mark.parametrize("what", FILL)
@pytest.mark.parametrize("end", ["exit 0", "exit 2"])
def test_a_tmpfs_that_fills_up_in_mid_switch_never_mixes_two_releases_and_the_next_run_converges(
    lone: LoneHost, host: Host, what: str, end: str
) -> None:
    fill = FILL[what].replace("ROOT", str(lone.runtime.root)).replace("FOLDER", str(lone.folder))
    lone.fault("new", "test", f"{fill}; [ '{end}' = 'exit 0' ] || {end}", when="after")
    outcome = take_it(host)
    assert (lone.folder / "full").exists()
    if host.state.journal().phase == "idle":
        assert in_force(lone, host) == everything(lone, "new" if outcome == "succeeded" else "old")
    else:  # the link to the old secrets can't be made: what runs stays with its own, and a reboot starts the old
        assert (outcome, what) == ("failed", "inodes")
        assert in_force(lone, host) == (lone.system("new"), lone.system("old"), lone.system("old"), b"content 2")
    assert json.loads(host.state.spooled()[-1].read_bytes().split(b"\n")[0])["outcome"] == outcome
    assert (end == "exit 0") == (outcome == "succeeded")

    for path in lone.runtime.root.glob("filler*"):
        path.unlink()
    (lone.folder / "fault-after-new-test").unlink()
    journal = host.state.journal()
    if journal.phase != "idle":
        assert recover(host, journal).outcome == "rolled-back"
        assert in_force(lone, host) == everything(lone, "old")
    assert outcome == "succeeded" or take_it(host) == "succeeded"
    assert in_force(lone, host) == everything(lone, "new")
