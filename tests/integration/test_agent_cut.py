"""The agent's own steps, cut off at any of their system calls, or with something in their way. The server is real."""

import json

import pytest
from unit.samples import secret

from bento.agent import activate, run, take
from bento.agent.activate import Log, begin, roll_back
from bento.agent.host import Host
from bento.agent.install import known_manifest, link_leniently, live_manifest, stored_manifest
from bento.agent.recover import recover, reinstall
from bento.agent.reporting import make_report
from bento.core import journal as rules
from bento.core import trust_rules
from bento.core.journal import Journal, Point, go_back
from bento.core.trust_rules import Take
from bento.errors import WorkFailed
from bento.names import Serial
from rig.cuts import kill_at, stride
from rig.lone import LoneHost


def reports(host: Host) -> list[str]:
    return [json.loads(path.read_bytes().split(b"\n")[0])["outcome"] for path in host.state.spooled()]


def take_it(host: Host) -> None:
    """What a run does with the second release once it has it."""
    floor = host.state.floor()
    assert floor is not None
    verdict = trust_rules.again(floor)
    assert isinstance(verdict, Take)
    host.state.write_floor(verdict.floor)
    take.take_release(host, stored_manifest(host, Serial(2)), verdict.floor)


def switching(lone: LoneHost, host: Host, system: str = "new") -> Journal:
    """A run that had just begun to switch to the second release."""
    take.open_generation(host, stored_manifest(host, Serial(2)))
    return begin(host, Point(lone.system(system), Serial(2)))


def committing(lone: LoneHost, host: Host) -> Journal:
    """A run that had switched, confirmed, and begun to commit."""
    journal = switching(lone, host)
    activate.switch(host, journal, Log(host.say))
    host.state.write_journal(rules.begin_commit(journal))
    return host.state.journal()


def test_a_release_of_secrets_cut_anywhere_is_old_or_new_and_finished_only_after_its_report(lone: LoneHost) -> None:
    number, unfinished = 1 - stride(5), 0
    while True:
        number += stride(5)
        host = lone.fresh()
        if not kill_at(number, lambda: take_it(lone.host())):
            break
        floor, journal = host.state.floor(), host.state.journal()
        assert floor is not None
        assert lone.content() in (b"content 1", b"content 2")
        if floor.progress == "finished":
            assert reports(host) == ["succeeded"]
            continue
        unfinished += 1
        if journal.phase != "idle":
            recover(host, journal)
            after = host.state.floor()
            assert after is not None
            assert after.tries <= 1
        assert host.state.journal().phase == "idle"
        if host.state.floor() != trust_rules.finished(floor):
            take_it(host)
        assert lone.content() == b"content 2"
        assert reports(host)[-1] == "succeeded"
        assert host.state.journal().committed.serial == 2
    assert number > 40
    assert unfinished > 20 // stride(5)


@pytest.mark.parametrize("way", ["back", "forward", "neither"])
def test_a_recovery_cut_anywhere_has_reported_before_the_journal_is_idle_and_counts_one_try(
    lone: LoneHost, way: str
) -> None:
    number = 1 - stride(5)
    while True:
        number += stride(5)
        host = lone.fresh()
        journal = switching(lone, host) if way == "back" else committing(lone, host)
        if way == "neither":
            lone.refuse("new", "boot")  # then it goes back
        if not kill_at(number, lambda: recover(lone.host(), lone.host().state.journal())):
            break
        if host.state.journal().phase == "idle":
            assert len(reports(host)) == 1
        else:
            recover(host, host.state.journal())
        assert host.state.journal().phase == "idle"
        wanted = ("new", b"content 2", "succeeded") if way == "forward" else ("old", b"content 1", "rolled-back")
        assert (host.running(), lone.content()) == (lone.system(wanted[0]), wanted[1])
        assert lone.default() == host.profile() == lone.system(wanted[0])
        assert reports(host)[-1] == wanted[2]
        assert 1 <= len(reports(host)) <= 2
        floor = host.state.floor()
        assert floor is not None
        assert (floor.progress, floor.tries) == (("finished", 0) if way == "forward" else ("failed", 1))
        assert journal.new is not None
    assert number > 15


def test_a_run_whose_rollback_failed_and_whose_recovery_succeeds_has_used_one_try(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lone.fresh()
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))  # it was built
    lone.fault("new", "test", "exit 2", when="after")
    lone.refuse("old", "test")
    take_it(host)
    assert reports(host) == ["failed"]
    assert host.state.journal().phase == "switching"
    # as long as the old system doesn't come back, no further try is counted and none is made
    for _ in range(2):
        recover(host, host.state.journal())
    assert host.state.journal().phase == "switching"
    lone.mend("old", "test")
    recover(host, host.state.journal())
    assert (host.running(), host.state.journal().phase) == (lone.system("old"), "idle")
    floor = host.state.floor()
    assert floor is not None
    assert floor.tries == 1


def test_a_run_takes_no_release_over_a_switch_that_could_not_be_undone(lone: LoneHost) -> None:
    host = lone.fresh()
    activate.switch(host, switching(lone, host), Log(host.say))
    lone.refuse("old", "test")
    before = host.state.journal()
    done = run.run(host)
    assert (done.outcome, done.code) == ("failed", 1)
    assert host.state.journal() == go_back(before)
    assert host.state.spooled() == []  # it went to the server at once
    (report,) = (lone._sshd.publish / lone.name / "reports").glob("*.report")
    assert b"rolling back failed" in report.read_bytes()


def test_what_leads_back_is_never_replaced_while_it_is_needed(lone: LoneHost) -> None:
    host = lone.fresh()
    before = switching(lone, host)
    with pytest.raises(WorkFailed, match="not undone yet"):
        begin(host, Point(lone.system("old"), Serial(1)))
    assert host.state.journal() == before


def test_going_back_after_a_commit_began_writes_the_boot_default_whatever_the_profile_says(lone: LoneHost) -> None:
    host = lone.fresh()
    journal = committing(lone, host)
    # a rollback that was cut between the profile and the boot loader
    (lone.folder / "default").write_text(lone.system("new"))
    assert host.profile() == lone.system("old")
    roll_back(host, journal, Log(host.say))
    assert lone.default() == lone.system("old")
    assert lone.actions()[-1] == "boot old"
    # before a commit began there is nothing to write
    host = lone.fresh()
    roll_back(host, switching(lone, host), Log(host.say))
    assert lone.actions() == []


def test_pruning_keeps_the_live_generations_release_and_forgets_systems_that_cannot_be_booted(lone: LoneHost) -> None:
    host = lone.fresh()
    # the same system again, for the next boot: what is live belongs to no committed release any more
    second = Point(lone.system("old"), Serial(2))
    gone = {f"/gone/{number}": Serial(1) for number in range(100)}
    host.state.write_journal(Journal(committed=second, systems={lone.system("old"): Serial(2), **gone}))
    take.prune(host)
    assert host.state.serials() == {1, 2}
    assert host.state.journal().systems == {lone.system("old"): 2}
    assert lone.content() == b"content 1"
    live = live_manifest(host)
    assert live is not None
    assert (host.state.objects / live.secrets[0].digest).exists()


def test_a_manifest_that_is_gone_keeps_no_report_from_going_out_and_no_system_from_its_secrets(lone: LoneHost) -> None:
    host = lone.fresh()
    host.state.write_journal(
        Journal(committed=Point(lone.system("new"), Serial(2)), systems={lone.system("old"): Serial(1)})
    )
    (host.state.manifests / "1").unlink()
    assert live_manifest(host) is None
    assert known_manifest(host, Serial(1)) is None
    make_report(host, "failed", "whatever")
    assert reports(host) == ["failed"]
    assert reinstall(host, lone.system("old"))[0] == 2
    assert lone.content() == b"content 2"


def test_a_strangers_file_in_a_links_place_stops_a_release_before_anything_changes(lone: LoneHost) -> None:
    theirs = lone.folder / "theirs"
    theirs.write_text("mine")
    host = lone.fresh({2: {"path": str(theirs)}})
    take_it(host)
    assert reports(host) == ["failed"]
    assert lone.content() == b"content 1"
    assert lone.actions() == []
    assert host.state.journal().phase == "idle"
    assert theirs.read_text() == "mine"


def test_a_strangers_file_in_a_links_place_stops_neither_a_rollback_nor_a_boot(lone: LoneHost) -> None:
    place = lone.folder / "etc/token"
    place.parent.mkdir()
    host = lone.fresh({1: {"path": str(place)}})
    assert place.readlink() == lone.runtime.secrets / "token"
    activate.switch(host, switching(lone, host), Log(host.say))
    assert not place.is_symlink()
    place.write_text("mine")
    recover(host, host.state.journal())
    assert reports(host) == ["rolled-back"]
    assert (host.running(), lone.content()) == (lone.system("old"), b"content 1")
    assert reinstall(host, lone.system("old")) == (1, ())
    assert place.read_text() == "mine"
    # once it is out of the way, the link is made again
    place.unlink()
    reinstall(host, lone.system("old"))
    assert place.read_bytes() == b"content 1"


def test_one_refused_link_keeps_no_other_from_being_made(lone: LoneHost) -> None:
    place, other = lone.folder / "etc/token", lone.folder / "etc/other"
    place.parent.mkdir()
    host = lone.fresh()
    known = stored_manifest(host, Serial(1))
    both = (*(one.model_copy(update={"path": str(place)}) for one in known.secrets), secret("other", path=str(other)))
    line = known.model_copy(update={"secrets": both}).line
    raw = (host.state.manifests / "1").read_bytes()
    (host.state.manifests / "1").write_bytes(line + raw.split(b"\n", 1)[1])
    place.write_text("mine")
    (trouble,) = link_leniently(host, Serial(1))
    assert str(place) in trouble
    assert other.readlink() == lone.runtime.secrets / "other"
    assert host.state.links() == (str(other),)
