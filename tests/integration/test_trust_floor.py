"""A host whose memory of releases is damaged takes nothing, says so, and goes on only where a person there says."""

import hashlib
import json
import os
import pty
import select
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.samples import manifest

from bento.adapters.files import busy_lock
from bento.agent import run
from bento.agent.facts import facts_of
from bento.agent.host import Host
from bento.agent.state import Damaged, State
from bento.agent.trust import mend, plan, remembered
from bento.agent.turn import AgentBusy
from bento.core import trust_rules
from bento.core.journal import Point
from bento.core.trust_rules import Floor, Offer, Refuse
from bento.errors import BentoError, InputError
from bento.names import Digest, Serial
from rig.lone import LoneHost
from rig.world import Machine, World, said


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00" * 40)


def gone(path: Path) -> None:
    path.unlink()


DAMAGES: dict[str, tuple[tuple[str, Callable[[Path], None]], ...]] = {
    "journal gone": (("journal.json", gone),),
    "both garbled": (("floor.json", garbage), ("journal.json", garbage)),
}  # tests/unit/agent/test_state_damaged.py has them all, and that each is closed


def test_each_damage_is_closed_seen_by_the_admin_and_mended_by_a_person_to_the_same_release(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    web.run()
    old = world.folder / "old"
    shutil.copytree(world.manifest(web).parent, old)
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"second")
    world.bento("deploy")
    web.run()
    now = world.folder / "now"
    shutil.copytree(world.manifest(web).parent, now)
    serial = world.status(web)["published"]["serial"]
    for name, damage in DAMAGES.items():
        attempt(world, web, damage, (old, now), serial, name)


def attempt(world: World, web: Machine, damage: Any, releases: tuple[Path, Path], serial: int, name: str) -> None:
    before = (web.root.running(), web.root.profile(), web.secret("token"))
    files = {one: (web.state / one).read_bytes() for one in ("floor.json", "journal.json")}
    for one, act in damage:
        act(web.state / one)
        files[one] = (web.state / one).read_bytes() if (web.state / one).exists() else b""
    told = len(reports(world, web))
    place(world, web, releases[0])  # who has the server tries what comes of it
    for _ in range(2):
        assert "is damaged" in web.run(code=1), name
    place(world, web, releases[1])
    assert (web.root.running(), web.root.profile(), web.secret("token")) == before, name
    row = world.status(web)
    assert (row["state"], "is damaged" in row["report"]["reason"]) == ("failing", True), (name, row)
    assert len(reports(world, web)) == told + 1

    done = web.agent("trust", "--floor", "--yes", "--json")
    assert done.returncode == 0, said(done)
    facts = json.loads(done.stdout)
    line = (releases[1] / "manifest").read_bytes().partition(b"\n")[
        0
    ] + b"\n"  # of the one that is stored here, verified
    expected = {"serial": serial, "progress": "accepted", "line": hashlib.sha256(line).hexdigest()}
    assert facts["floor"] == expected, name
    for path in map(Path, facts["kept"]):
        assert path.read_bytes() == files[path.name.rpartition(".")[0]], name
    assert len(facts["kept"]) == sum(act is not gone for _, act in damage), name
    place(world, web, releases[0])
    assert "is older than" in web.run(code=6), name
    place(world, web, releases[1])
    web.run()
    assert (web.root.running(), web.root.profile(), web.secret("token")) == before, name
    assert web.facts()["committed"] == serial
    assert world.status(web)["state"] == "up to date", name


def reports(world: World, web: Machine) -> list[Path]:
    return list((world.sshd.publish / web.name / "reports").glob("*.report"))


def place(world: World, web: Machine, release: Path) -> None:
    shutil.rmtree(world.manifest(web).parent)
    shutil.copytree(release, world.manifest(web).parent)


def ask(argv: list[str], answer: str) -> tuple[int, str]:
    """Run it at a terminal of its own, and answer its question."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(argv[0], argv)  # noqa: S606 — a terminal is what is tested
    told, deadline = "", time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                told += os.read(terminal, 65536).decode()
            except OSError:  # it has ended
                break
        if "[y/N]" in told and answer:
            os.write(terminal, answer.encode())
            answer = ""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def damaged(lone: LoneHost) -> Host:
    host = lone.fresh()
    (host.state.root / "floor.json").write_text("{")
    return host


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_at_a_terminal_a_person_sees_what_comes_and_is_asked(lone: LoneHost, answer: str, *, goes_on: bool) -> None:
    host = damaged(lone)
    code, told = ask([*lone.command, "trust", "--floor"], answer)
    assert (code == 0) is goes_on, told
    assert told.index("floor: release 2; older ones are refused") < told.index("Go on from there? [y/N]")
    if goes_on:
        assert host.state.floor() == Floor(Serial(2), None, "accepted")
    else:
        assert (host.state.root / "floor.json").read_text() == "{"
        with pytest.raises(Damaged):
            host.state.floor()


def test_nothing_is_reset_by_itself_and_a_host_in_order_is_left_alone(lone: LoneHost) -> None:
    host = lone.fresh()
    before = sorted((path.name, path.read_bytes()) for path in host.state.root.glob("*.json"))
    assert plan(host, None) is None
    assert plan(host, Serial(2)) is None
    assert remembered(host).damage == {}
    assert sorted((path.name, path.read_bytes()) for path in host.state.root.glob("*.json")) == before
    with pytest.raises(InputError, match="has known release 2"):
        plan(host, Serial(1))


def test_a_floor_may_be_raised_before_a_machine_takes_its_first_release(lone: LoneHost) -> None:
    """For one that was installed anew, and whose last release its admin knows."""
    host = lone.fresh()
    shutil.rmtree(host.state.root)
    host.state.prepare()
    assert plan(host, None) is None
    wish = plan(host, Serial(7))
    assert wish is not None
    assert mend(host, wish) == ()
    older = trust_rules.judge(
        Offer("acme", host.name, Serial(6), Digest("0" * 64)),
        "acme",
        host.name,
        host.state.floor(),
    )
    assert isinstance(older, Refuse)


def test_the_live_secrets_are_evidence_where_no_file_is_left(lone: LoneHost) -> None:
    host = damaged(lone)
    (host.state.root / "journal.json").write_text("{")
    for path in host.state.manifests.iterdir():
        path.unlink()
    wish = plan(host, None)
    assert wish is not None
    assert (wish.floor.serial, wish.before.sources) == (1, {"live secrets": 1})


def test_a_lost_journal_is_made_anew_from_what_runs_and_what_is_live(lone: LoneHost) -> None:
    host = lone.fresh()
    was = host.state.journal()
    (host.state.root / "journal.json").write_text("{")
    wish = plan(host, None)
    assert wish is not None
    mend(host, wish)
    assert host.state.journal() == was
    assert facts_of(host).committed == 1


def test_a_lowered_floor_stands_though_the_host_has_a_newer_release_installed(lone: LoneHost) -> None:
    host = lone.fresh()
    wish = plan(host, Serial(1), lower=True)
    assert wish is not None
    (kept,) = mend(host, wish)
    assert json.loads(kept.read_text())["serial"] == 2
    assert host.state.floor() == Floor(Serial(1), None, "accepted", over=Serial(2))
    assert host.state.journal().committed == Point(lone.system("old"), Serial(1))
    assert plan(host, None) is None


@pytest.mark.parametrize("stop", ["write_journal", "write_floor"])
def test_cut_while_it_is_mended_the_host_still_takes_nothing_and_nothing_is_lost(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    host = damaged(lone)
    (host.state.root / "journal.json").write_text("[")
    wish = plan(host, None)
    assert wish is not None

    def cut(_state: object, _value: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, stop, cut)
        with pytest.raises(KeyboardInterrupt):
            mend(host, wish)
    with pytest.raises(Damaged):
        host.state.floor()
    assert {path.read_text() for path in host.state.root.glob("*.json.*Z")} == {"{", "["}
    again = plan(host, None)
    assert again is not None
    mend(host, again)
    assert host.state.floor() is not None


def test_what_is_in_a_files_place_but_is_none_is_put_aside_too(lone: LoneHost) -> None:
    host = damaged(lone)
    (host.state.root / "floor.json").unlink()
    (host.state.root / "floor.json").mkdir()
    (host.state.root / "journal.json").unlink()
    os.mkfifo(host.state.root / "journal.json")
    wish = plan(host, None)
    assert wish is not None
    kept = mend(host, wish)
    assert [path.is_dir() or path.is_fifo() for path in kept] == [True, True]
    assert host.state.floor() is not None


def test_while_the_system_is_being_switched_nobody_mends(lone: LoneHost) -> None:
    host = damaged(lone)
    (lone.folder / "busy").touch()
    with pytest.raises(AgentBusy, match="switch of this system is under way"):
        plan(host, None)


def test_while_a_run_is_under_way_nobody_mends_under_it(lone: LoneHost) -> None:
    host = damaged(lone)
    with busy_lock(host.state.root / "lock", "a test"):
        code, told = ask([*lone.command, "trust", "--floor"], "y\n")
    assert code == 75, told
    with pytest.raises(BentoError):
        host.state.floor()


def test_the_floor_is_on_the_disk_before_anything_else_of_a_release(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that dies in between must not leave a manifest that its floor doesn't know: that is damage."""
    host = lone.fresh()

    def cut(_state: object, _value: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "write_floor", cut)
        with pytest.raises(KeyboardInterrupt):
            run._keep(host, None, manifest(3), b"raw", Floor(Serial(3), None, "accepted"))  # type: ignore[arg-type]
    assert host.state.serials() == {1, 2}
    assert host.state.floor() is not None
