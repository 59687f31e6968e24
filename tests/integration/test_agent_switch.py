"""What decides whether a switch went well, and what then happens: units, checks, exit codes, boot loader, others."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bento.agent import confirm, control, link, take
from bento.agent.control import recover_now
from bento.agent.host import Host
from bento.agent.install import stored_manifest
from bento.agent.link import reachable_within
from bento.agent.turn import AgentBusy, locked
from bento.core import trust_rules
from bento.core.journal import Point
from bento.core.trust_rules import Take
from bento.errors import EnvironmentFailed, WorkFailed
from bento.names import Serial
from rig.lone import LoneHost


@pytest.fixture
def host(lone: LoneHost, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that has the second release's system built."""
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    return lone.fresh()


def take_it(host: Host) -> tuple[str, str]:
    """The outcome and reason of taking the second release."""
    floor = host.state.floor()
    assert floor is not None
    verdict = trust_rules.again(floor)
    assert isinstance(verdict, Take)
    taken = take.take_release(host, stored_manifest(host, Serial(2)), verdict.floor)
    report = json.loads(host.state.spooled()[-1].read_bytes().split(b"\n")[0])
    assert report["outcome"] == taken.outcome
    return taken.outcome, taken.reason


def in_force(lone: LoneHost, host: Host) -> tuple[str | None, str | None, str, bytes]:
    return host.running(), host.profile(), lone.default(), lone.content()


def everything(lone: LoneHost, word: str) -> tuple[str, str, str, bytes]:
    return (*[lone.system(word)] * 3, b"content 1" if word == "old" else b"content 2")  # type: ignore[return-value]


def test_a_switch_runs_apart_from_the_agent_and_a_timer_would_undo_it(lone: LoneHost, host: Host) -> None:
    assert take_it(host)[0] == "succeeded"
    program = f"{lone.system('new')}/bin/switch-to-configuration"
    did = [line for line in lone.asked() if not line.startswith(("list-units", "show"))]
    assert [line.partition(" -- ")[2] or line for line in did] == [
        "stop bento-dead-man.timer",
        f"{' '.join(lone.command)} recover --dead-man",
        f"{program} test",
        f"{program} boot",
        "stop bento-dead-man.timer",
    ]
    assert "--on-active=600 " in did[1]
    assert "--setenv=PATH" in did[1].split()  # it may have to set the profile, and a bare unit of NixOS finds no Nix
    assert "--unit=nixos-rebuild-switch-to-configuration" in did[2]
    assert in_force(lone, host) == everything(lone, "new")


def test_without_its_timer_no_switch_is_begun(lone: LoneHost, host: Host) -> None:
    (lone.folder / "bin/systemd-run").write_text("#!/bin/sh\nexit 1\n")
    outcome, reason = take_it(host)
    assert outcome == "failed"
    assert "can't arm the timer" in reason
    assert lone.actions() == []
    assert in_force(lone, host) == everything(lone, "old")


def test_the_timer_is_disarmed_after_a_rollback_too_and_stays_armed_where_that_failed(
    lone: LoneHost, host: Host
) -> None:
    lone.fault("new", "test", "exit 2", when="after")
    lone.refuse("old", "test")
    assert take_it(host)[0] == "failed"
    assert lone.asked().count("stop bento-dead-man.timer") == 1  # before it was armed
    lone.mend("old", "test")
    done = recover_now(host)
    assert (done.outcome, done.code) == ("rolled-back", 5)
    assert lone.asked().count("stop bento-dead-man.timer") == 2
    assert recover_now(host).message == "there is nothing to recover from"


@pytest.mark.timeout(60)
def test_a_run_that_hangs_is_stopped_by_the_timers_command_and_undone(
    lone: LoneHost, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = take.begin(host, Point(lone.system("new"), Serial(2)))
    take.open_generation(host, stored_manifest(host, Serial(2)))
    assert journal.phase == "switching"
    # another agent holds the lock and never ends; it even lets SIGTERM pass by
    code = (
        "import signal, sys, time; from bento.adapters.files import busy_lock, sign_lock\n"
        "from pathlib import Path\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "with busy_lock(Path(sys.argv[1]), 'it'):\n"
        "    sign_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(1000)"
    )
    argv = [sys.executable, "-c", code, str(host.state.root / "lock"), "bento-agent"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as hung:
        try:
            assert hung.stdout is not None
            assert hung.stdout.readline() == b"held\n"
            with pytest.raises(AgentBusy):
                recover_now(host)
            monkeypatch.setattr(control, "_PATIENCE", 1.0)
            done = recover_now(host, dead_man=True)
            assert hung.wait(60) == -9
        finally:
            hung.kill()
    assert done.outcome == "rolled-back"
    assert "not done within 600 seconds" in done.message
    assert in_force(lone, host) == everything(lone, "old")
    floor = host.state.floor()
    assert floor is not None
    # it would hang again: it waits for a change
    assert trust_rules.again(floor, host.circumstances()) == trust_rules.NothingNew("nothing changed")


def test_the_timers_command_stops_no_run_that_has_no_switch_under_way(lone: LoneHost, host: Host) -> None:
    with locked(host), pytest.raises(AgentBusy):
        recover_now(host, dead_man=True)


@pytest.mark.parametrize(
    ("fault", "when", "outcome", "words"),
    [
        ("exit 0", "before", "rolled-back", "the running system is not the new one"),
        ("exit 1", "before", "rolled-back", "(exit 1) the running system is not the new one"),
        ("exit 1", "after", "rolled-back", "the switch ended with exit 1"),
        ("exit 2", "after", "rolled-back", "the switch ended with exit 2"),
        ("exit 4", "after", "degraded", "some units failed"),
        ("exit 100", "before", "reboot-needed", "next boot"),
        ("kill -9 $$", "before", "rolled-back", "(signal 9) the running system is not the new one"),
        ("kill -9 $$", "after", "rolled-back", "the switch ended with signal 9"),
    ],
)
def test_each_way_a_switch_can_end_leaves_all_of_one_release_in_force(
    lone: LoneHost, host: Host, fault: str, when: str, outcome: str, words: str
) -> None:
    lone.fault("new", "test", fault, when=when)
    got = take_it(host)
    assert got[0] == outcome
    assert words in got[1]
    if outcome == "reboot-needed":
        assert in_force(lone, host) == (lone.system("old"), lone.system("new"), lone.system("new"), b"content 1")
    else:
        assert in_force(lone, host) == everything(lone, "new" if outcome == "degraded" else "old")


@pytest.mark.parametrize(
    ("policy", "outcome"), [("fail", "rolled-back"), ("degrade", "degraded"), ("ignore", "succeeded")]
)
def test_a_unit_that_fails_since_the_switch_is_judged_as_the_host_says(
    lone: LoneHost, policy: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    lone.confirm = f'failed_units = "{policy}"'
    host = lone.fresh()
    failed = lone.folder / "failed"
    failed.write_text("ailing.service loaded failed failed since long\n")
    lone.fault("new", "test", f"echo 'app.service loaded failed failed App' >>{failed}", when="after")
    got = take_it(host)
    assert got[0] == outcome
    assert ("app.service" in got[1]) == (policy != "ignore")
    assert "ailing" not in got[1]
    assert in_force(lone, host) == everything(lone, "old" if policy == "fail" else "new")


def test_units_that_were_failed_before_are_no_news(lone: LoneHost, host: Host) -> None:
    (lone.folder / "failed").write_text("ailing.service loaded failed failed since long\n")
    assert take_it(host)[0] == "succeeded"


@pytest.mark.parametrize(
    ("check", "outcome", "words"),
    [
        ('["true"]', "succeeded", ""),
        ('["false"]', "rolled-back", "the check 'false' ended with exit 1"),
        ('["sleep", "1000"]', "rolled-back", "the check 'sleep 1000' didn't end within 1 seconds"),
        ('["/nonexistent/check"]', "rolled-back", "can't be run"),
        # it is well on the second look
        ('["sh", "-c", "[ -e FOLDER/looked ] || ! touch FOLDER/looked"]', "succeeded", ""),
    ],
)
def test_the_hosts_own_checks_confirm_or_undo_a_switch(
    lone: LoneHost, check: str, outcome: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    monkeypatch.setattr(confirm, "_PAUSE", 0.1)
    allowed = 1 if "sleep" in check else 30
    lone.confirm = f"commands = [{{ run = {check.replace('FOLDER', str(lone.folder))}, timeout = {allowed} }}]"
    lone.timeout = 1 if outcome == "rolled-back" else 60
    got = take_it(host := lone.fresh())
    assert got[0] == outcome
    assert words in got[1]
    assert in_force(lone, host) == everything(lone, "old" if outcome == "rolled-back" else "new")


def test_what_a_check_prints_goes_nowhere(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    lone.confirm = f'commands = [{{ run = ["sh", "-c", "cat {lone.runtime.secrets}/token; exit 1"] }}]'
    host = lone.fresh()
    assert take_it(host)[0] == "rolled-back"
    assert "content 2" not in "".join(lone.said) + "".join(capfd.readouterr())
    assert not any(b"content 2" in report.read_bytes() for report in host.state.spooled())


def test_somebodys_own_switch_is_waited_for_and_is_no_try(lone: LoneHost, host: Host) -> None:
    (lone.folder / "busy").touch()
    with pytest.raises(AgentBusy, match="a switch of this system is under way"):
        take_it(host)
    assert in_force(lone, host) == everything(lone, "old")
    assert host.state.journal().phase == "idle"
    assert host.state.spooled() == []
    (lone.folder / "busy").unlink()
    assert take_it(host)[0] == "succeeded"


def test_somebody_who_is_quicker_by_a_moment_loses_nothing_and_it_is_no_try(lone: LoneHost, host: Host) -> None:
    start = lone.folder / "bin/systemd-run"
    real = start.read_text()
    # he begins between the look and the switch
    start.write_text(
        real.replace("#!/bin/sh\n", f"#!/bin/sh\ncase $* in *--on-active*) touch {lone.folder}/busy;; esac\n")
    )
    with pytest.raises(AgentBusy, match="a switch of this system is under way"):
        take_it(host)
    assert lone.actions() == []
    assert in_force(lone, host) == everything(lone, "old")
    floor = host.state.floor()
    assert floor is not None
    assert (host.state.journal().phase, host.state.spooled(), floor.tries) == ("idle", [], 0)
    assert lone.asked()[-1] == "stop bento-dead-man.timer"
    start.write_text(real)
    (lone.folder / "busy").unlink()
    assert take_it(host)[0] == "succeeded"


@pytest.mark.parametrize(("check", "word"), [("true", "new"), ("false", "old")])
def test_somebodys_switch_while_the_new_system_is_confirmed_is_waited_for(
    lone: LoneHost, check: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    busy = lone.folder / "busy"
    lone.confirm = f'commands = [{{ run = ["sh", "-c", "touch {busy}; {check}"] }}]'

    def he_is_done() -> None:
        while not any("somebody else has begun" in line for line in lone.said):
            time.sleep(0.01)
        busy.unlink()

    threading.Thread(target=he_is_done, daemon=True).start()
    got = take_it(host := lone.fresh())
    assert got[0] == ("succeeded" if word == "new" else "rolled-back"), got
    assert not busy.exists()
    assert in_force(lone, host) == everything(lone, word)


def test_a_timer_that_cannot_be_disarmed_is_no_reason_to_undo_anything(lone: LoneHost, host: Host) -> None:
    lone.fault("new", "boot", f"rm {lone.folder}/bin/systemctl", when="after")
    assert take_it(host)[0] == "succeeded"
    assert "is not installed" in lone.said[-1]
    assert in_force(lone, host) == everything(lone, "new")
    assert host.state.journal().committed.serial == 2


def test_a_release_that_breaks_a_slow_network_is_a_try_and_not_the_servers_fault(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    monkeypatch.setattr(take, "reachable_within", reachable_within)
    monkeypatch.setattr(link, "_PAUSE", 0.1)
    monkeypatch.setattr(take, "PROBE_AGAIN", 60)
    host = lone.fresh()
    switch, roll_back = take.switch, take.roll_back

    def breaking(*args: Any) -> Any:
        done = switch(*args)
        lone._sshd.stop()
        return done

    def mending(*args: Any) -> None:
        roll_back(*args)
        threading.Timer(0.5, lone._sshd.start).start()

    monkeypatch.setattr(take, "switch", breaking)
    monkeypatch.setattr(take, "roll_back", mending)
    outcome, reason = take_it(host)
    assert (outcome, "the server could not be reached" in reason) == ("rolled-back", True)
    floor = host.state.floor()
    assert floor is not None
    assert floor.tries == 1


def test_a_release_whose_failure_cannot_be_reported_isn_t_tried_for_ever(lone: LoneHost, host: Host) -> None:
    lone.fault("new", "test", "exit 2", when="after")
    spool = host.state.spool
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(spool)], check=True)
    try:
        (spool / "filler").write_bytes(b"x" * 4096)
        for tries in (1, 2, 3):
            with pytest.raises(EnvironmentFailed, match="No space left"):
                take_it(host)
            assert in_force(lone, host) == everything(lone, "old")
            floor = host.state.floor()
            assert floor is not None
            assert (host.state.journal().phase, floor.tries) == ("idle", tries)
    finally:
        subprocess.run(["umount", str(spool)], check=True)
    assert trust_rules.again(floor) == trust_rules.NothingNew("failed too often")


def test_a_build_that_fails_again_and_again_is_tried_an_hour_later_and_a_rollback_is_not(
    lone: LoneHost, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unbuildable(*_: object) -> tuple[str, bool]:
        raise WorkFailed("no link to the cache")

    with monkeypatch.context() as patch:
        patch.setattr(take, "_system", unbuildable)
        for _ in range(trust_rules.MAX_TRIES):
            assert take_it(host)[0] == "failed"
    floor = host.state.floor()
    assert floor is not None
    assert floor.later is not None
    assert trust_rules.again(floor, None, floor.later - 1) == trust_rules.NothingNew("failed too often")
    lone.fault("new", "test", "exit 2", when="after")
    verdict = trust_rules.again(floor, None, floor.later)
    assert isinstance(verdict, Take)
    assert take.take_release(host, stored_manifest(host, Serial(2)), verdict.floor).outcome == "rolled-back"
    floor = host.state.floor()
    assert floor is not None
    assert trust_rules.again(floor, None, host.clock() + 10**6) == trust_rules.NothingNew("failed too often")
    assert in_force(lone, host) == everything(lone, "old")


def entry(lone: LoneHost, word: str) -> str:
    return f"options init={lone.system(word)}/init"


def test_a_boot_loader_without_an_entry_for_the_new_system_is_not_believed(lone: LoneHost, host: Host) -> None:
    entries = lone.folder / "boot/loader/entries"
    entries.mkdir(parents=True)
    (entries / "old.conf").write_text(entry(lone, "old"))
    outcome, reason = take_it(host)
    assert outcome == "rolled-back"
    assert "has no entry for the new system" in reason
    assert in_force(lone, host) == everything(lone, "old")


def test_a_boot_loader_with_its_entry_is_believed_and_so_is_one_of_another_kind(lone: LoneHost, host: Host) -> None:
    entries = lone.folder / "boot/loader/entries"
    entries.mkdir(parents=True)
    (entries / "old.conf").write_text(entry(lone, "old"))
    lone.fault("new", "boot", f"echo '{entry(lone, 'new')}' >{entries}/new.conf", when="after")
    assert take_it(host)[0] == "succeeded"
    # what another loader left there long ago tells nothing
    host = lone.fresh()
    entries.mkdir(parents=True)
    (entries / "stale.conf").write_text("options init=/nix/store/long-ago/init")
    assert take_it(host)[0] == "succeeded"


def test_a_boot_folder_too_small_for_another_kernel_is_said(lone: LoneHost, host: Host, tmp_path: Path) -> None:
    boot = lone.folder / "boot"
    boot.mkdir()
    for part in ("kernel", "initrd"):
        (Path(lone.system("new")) / part).write_bytes(b"x" * 40_000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(boot)], check=True)
    try:
        outcome, reason = take_it(host)
    finally:
        subprocess.run(["umount", str(boot)], check=True)
    assert outcome == "degraded"
    assert "are free on" in reason
    assert in_force(lone, host) == everything(lone, "new")
