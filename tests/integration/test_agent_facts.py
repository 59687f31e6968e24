"""What a host says of itself, and that a person on it can put updates off."""

from pathlib import Path

import pytest

from bento.agent import reporting, run
from bento.agent.facts import facts_of, textfile
from bento.agent.reporting import deliver, make_report
from bento.agent.suspend import resume, suspend, suspended
from bento.core import trust_rules
from bento.demo.systems import System
from rig.lone import LoneHost
from rig.world import World


def test_each_state_of_a_host_has_a_word(lone: LoneHost) -> None:
    host = lone.fresh()
    floor = host.state.floor()
    assert floor is not None
    assert facts_of(host).state == "updating"
    host.state.write_floor(trust_rules.failed(floor))
    assert facts_of(host).state == "failing"
    host.state.write_floor(trust_rules.failed(floor, until=host.circumstances()))
    assert facts_of(host).state == "failed"
    host.state.write_floor(trust_rules.finished(floor))
    assert facts_of(host).state == "up to date"
    assert facts_of(host).oneline() == f"{lone.name}: release 1, up to date"
    for system in ("old", "new"):
        (Path(lone.system(system)) / "kernel").write_text(system)
    (lone.folder / "booted-system").symlink_to(lone.system("new"))
    assert facts_of(host).state == "reboot wanted"
    suspend(host, 3600)
    assert facts_of(host).state == "suspended"
    resume(host)
    for path in (host.state.root / "floor.json", host.state.root / "journal.json", *host.state.manifests.iterdir()):
        path.unlink()
    assert facts_of(host).state == "new"


def test_a_suspension_ends_by_itself_whatever_the_clock_does(lone: LoneHost) -> None:
    host = lone.fresh()
    suspend(host, 3600)
    assert suspended(host) == "for 60 more min"
    host.state.write_suspended_until(host.clock())
    assert suspended(host) is None
    host.state.write_suspended_until(host.clock() + 10 * 365 * 24 * 3600)
    assert suspended(host) is None


def test_every_run_leaves_its_facts_for_prometheus_also_one_that_fails(lone: LoneHost) -> None:
    metrics = lone.folder / "bento.prom"
    lone.systemd = f'[prometheus]\nfile = "{metrics}"\n{lone.systemd}'
    host = lone.fresh()
    done = run.run(host)  # the manifest on the server is no manifest
    assert done.outcome == "refused"
    values = dict(line.split(" ") for line in metrics.read_text().splitlines() if not line.startswith("#"))
    assert values == {
        "bento_committed": "1",
        "bento_accepted": "2",
        "bento_tries": "0",
        "bento_reports_waiting": "0",
        "bento_reboot_wanted": "0",
        "bento_suspended": "0",
        "bento_busy": "0",
        "bento_last_run_time": str(host.clock()),
        "bento_last_run_exit": "6",
    }
    assert metrics.stat().st_mode & 0o777 == 0o644
    lone._sshd.stop()
    with pytest.raises(Exception, match="can't reach the server"):
        run.run(host)
    assert "bento_last_run_exit 1\n" in metrics.read_text()
    # where the memory is damaged too: what was well before must not look so for ever
    lone._sshd.start()
    floor = (host.state.root / "floor.json").read_bytes()
    (host.state.root / "floor.json").write_bytes(b"{")
    assert run.run(host).outcome == "refused"
    told = [line for line in metrics.read_text().splitlines() if not line.startswith("#")]
    assert told == [f"bento_last_run_time {host.clock()}", "bento_last_run_exit 6"]
    (host.state.root / "floor.json").write_bytes(floor)
    lone._sshd.stop()
    # where it can't be written the run goes on
    metrics.unlink()
    metrics.mkdir()
    lone._sshd.start()
    assert run.run(host).outcome == "refused"
    assert "the metrics can't be written" in lone.said[-1]


def test_that_the_memory_is_in_order_again_is_reported_where_no_release_tells_of_it(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    assert world.status(web)["state"] == "up to date"
    floor = (web.state / "floor.json").read_bytes()
    for _ in range(2):
        (web.state / "floor.json").write_bytes(b"{")
        web.run(code=1)
        assert world.status(web)["state"] == "failing"
        (web.state / "floor.json").write_bytes(floor)  # the disk gives it again
        for _ in range(2):
            assert "nothing new" in web.run()
        assert world.status(web)["state"] == "up to date"
        assert "in order again" in world.report(web)["reason"]
    assert len(list((world.sshd.publish / web.name / "reports").glob("*.report"))) == 1 + 2 * 2


def test_metrics_are_well_formed(lone: LoneHost) -> None:
    for line in textfile(facts_of(lone.fresh()), 1, 0).splitlines():
        kind, name, *rest = line.split(" ") if line.startswith("#") else ("", *line.split(" "))
        assert (name if kind == "" else rest[0]).startswith("bento_")
        assert kind == "#" or rest[0].isdecimal()


def test_a_report_is_sent_as_soon_as_the_server_is_there_again_and_only_once(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lone.fresh()
    make_report(host, "succeeded", "installed")
    tries: list[int] = []

    def pause(number: int, _: float) -> float | None:
        tries.append(number)
        if len(tries) == 2:
            lone._sshd.start()
        return 0.0 if number < 3 else None

    monkeypatch.setattr(reporting.spool, "pause", pause)
    lone._sshd.stop()
    assert deliver(host)
    assert tries == [1, 2]
    assert host.state.spooled() == []
    lone._sshd.stop()
    make_report(host, "failed", "again")
    assert not deliver(host)
    assert tries == [1, 2, 1, 2, 3]
    assert len(host.state.spooled()) == 1
    lone._sshd.start()
    assert deliver(host)
    assert len(list((lone._sshd.publish / lone.name / "reports").glob("*.report"))) == 2


def test_while_updates_are_suspended_a_release_waits_and_the_server_sees_the_host(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    before = web.root.running()
    assert web.agent("suspend", "--for", "1h").returncode == 0
    web.write(System("second"))
    world.bento("deploy")
    heartbeat = world.sshd.publish / web.name / "reports/heartbeat"
    heartbeat.unlink()
    assert "updates are suspended for 60 more min" in web.run()
    assert heartbeat.exists()
    assert web.root.running() == before
    assert (web.facts()["state"], web.facts()["tries"]) == ("suspended", 0)
    assert web.agent("resume").returncode == 0
    web.run()
    assert web.root.running() == world.status(web)["published"]["system"]
    assert web.facts()["state"] == "up to date"
