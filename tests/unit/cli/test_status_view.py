"""What a person reads off `bento status`: trouble first, summed up, in colour only on a terminal."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.samples import ESC, OTHER_SYSTEM, SYSTEM, manifest, public, report

from bento.admin.inventory import Host
from bento.admin.status import HostStatus
from bento.admin.watching import Seen
from bento.cli.status import _COLOURS, _facts, _show, _watch
from bento.core.host_state import TROUBLE, derive
from bento.models.manifest import Settings
from bento.models.report import Heartbeat, Report
from bento.names import HostName, Serial


@pytest.fixture
def web() -> Host:
    key = public(11)
    return Host(HostName("web"), (key,), (), Path("/fleet/hosts/web"), "web", Settings())


def seen(host: Host, name: str, *reports: Report, beat: Heartbeat | None = None) -> HostStatus:
    named = replace(host, name=HostName(name))
    return HostStatus(named, manifest(), derive(manifest(), list(reports), beat), ())


def rows(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split("  ") for line in capsys.readouterr().out.splitlines()]


def first_words(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [row[0] for row in rows(capsys)]


def test_trouble_comes_first_and_equals_stay_as_the_fleet_has_them(
    web: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    _show(
        (
            seen(web, "fine", report()),
            seen(web, "new"),
            seen(web, "broken", report(outcome="failed", reason="no room")),
            seen(web, "also_fine", report()),
            seen(web, "liar", report(outcome="refused", reason="not signed")),
        )
    )
    assert first_words(capsys) == ["host", "liar", "broken", "new", "fine", "also_fine"]


def test_a_large_fleet_is_summed_up_and_a_small_one_is_not(web: Host, capsys: pytest.CaptureFixture[str]) -> None:
    fine = tuple(seen(web, f"host{number}", report()) for number in range(97))
    bad = tuple(seen(web, f"bad{number}", report(outcome="failed")) for number in range(2))
    _show((*fine, *bad, seen(web, "new")))
    assert capsys.readouterr().out.splitlines()[-1] == "100 hosts: 2 failing, 1 new machine, 97 up to date"
    _show(fine[:3])
    assert "hosts:" not in capsys.readouterr().out


def test_reasons_are_shown_where_they_explain_the_state(web: Host, capsys: pytest.CaptureFixture[str]) -> None:
    drift = Heartbeat(fleet="acme", host="web", after=1, time=3000, serial=1000, running=OTHER_SYSTEM)
    _show(
        (
            seen(web, "liar", report(outcome="refused", reason="not signed by one of this host's signers")),
            seen(web, "moved", report(), beat=drift),
            seen(web, "pending", report(serial=900, reason="installed", running=OTHER_SYSTEM)),
            seen(web, "tried", report(1, outcome="failed"), report(2, outcome="failed", reason="no room")),
            seen(web, "twice", report(1), report(2)),
        )
    )
    said = {row[0]: row[-1].strip() for row in rows(capsys)}
    assert said["liar"] == "not signed by one of this host's signers"
    assert said["moved"] == f"its last report named {SYSTEM.removeprefix('/nix/store/')[:10]}"
    assert "installed" not in said["pending"]
    assert said["tried"] == "no room; 1 extra run"
    assert said["twice"] == "1 extra run"


def test_a_held_host_is_said_to_be_held(web: Host, capsys: pytest.CaptureFixture[str]) -> None:
    held = replace(web, hold=Serial(900))
    _show((seen(web, "free", report(1)), seen(held, "kept", report(1)), seen(held, "twice", report(1), report(2))))
    said = {row[0]: row[-1].strip() for row in rows(capsys)}
    assert "held" not in said["free"]
    assert said["kept"] == "held at release 900"
    assert said["twice"] == "held at release 900; 1 extra run"
    assert (_facts(seen(held, "kept"))["hold"], _facts(seen(web, "free"))["hold"]) == (900, None)


def test_colours_are_for_terminals(
    web: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(_COLOURS) == set(TROUBLE)
    _show((seen(web, "broken", report(outcome="failed")),))
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    _show((seen(web, "broken", report(outcome="failed", reason=f"{ESC}0m")),))
    shown = capsys.readouterr().out
    assert "\x1b[31mfailing" in shown
    assert ESC + "0m" not in shown


def test_watched_as_json_every_host_has_a_line_and_then_every_change(
    web: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = seen(web, "one"), seen(web, "two")

    def states() -> Iterator[Seen]:
        yield Seen((one, two), ())
        yield Seen((one, two), ())
        yield Seen((one, seen(web, "two", report())), ())

    _watch(states(), as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["host"], line["state"]) for line in lines] == [
        ("one", "new machine"),
        ("two", "new machine"),
        ("two", "up to date"),
    ]


def test_watched_in_a_pipe_the_table_comes_again_only_when_something_changed(
    web: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = [(seen(web, "one"),), (seen(web, "one"),), (seen(web, "one", report()),)]
    _watch(iter([Seen(one, ()) for one in hosts]), as_json=False)
    assert first_words(capsys) == ["host", "one", "host", "one"]


def test_watched_in_a_pipe_a_trouble_is_said_when_it_comes_and_not_again(
    web: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = (seen(web, "one"),)
    away = Seen(hosts, ("the server is away",))
    _watch(iter([Seen(hosts, ()), away, away, Seen(hosts, ()), away]), as_json=True)
    assert capsys.readouterr().err == "warning: the server is away\n" * 2
