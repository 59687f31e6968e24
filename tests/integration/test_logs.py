"""`bento logs`: what hosts signed is shown, what nobody signed is not, and nothing steers the terminal."""

import json
from pathlib import Path

import pytest

from bento.adapters import signatures
from bento.demo.systems import System
from bento.models.report import Report
from bento.models.trust import NAMESPACE_REPORT
from rig.desk import Desk
from rig.keys import make_ssh_key
from rig.world import World, said

HOSTILE = "\x1b]0;owned\x07 \x9b31m red \u202egnp\r hidden"


def test_a_host_s_runs_are_shown_the_newest_last_with_the_end_of_a_failed_build(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    settings = world.fleet / "bento.toml"
    settings.write_text(settings.read_text().replace('mode = "build"', 'mode = "dry-build"'))
    web.write(System(build_fails=True))
    world.bento("deploy")
    web.run(code=1)

    shown = world.bento("logs", web.name)
    first, second = shown.index("  succeeded  "), shown.index("  failed  ")
    assert first < second < shown.index("this system is meant not to build")
    assert f"runs {str(web.root.running()).removeprefix('/nix/store/')[:10]}" in shown

    newest = json.loads(world.bento("logs", web.name, "--last", "1", "--json"))
    assert [(one["verified"], one["outcome"]) for one in newest] == [(True, "failed")]
    assert newest[0]["reason"] == world.status(web)["report"]["reason"]


def report_of(desk: Desk, counter: int, key: str, **changes: object) -> Path:
    """A report in web's folder, signed with one of the desk's keys."""
    fields = {
        "fleet": "acme", "host": "web", "counter": counter, "time": 1795381234, "serial": None, "digest": None,
        "outcome": "failed", "reason": "a reason", "old_system": None, "new_system": None, "running": None,
        "secrets": (), "log_tail": "a log",
    }  # fmt: skip
    report = Report(**{**fields, **changes})
    folder = desk.publish / "web/reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{counter:020}.report"
    path.write_bytes(signatures.sign(report.line, [desk.folder / "keys" / key], NAMESPACE_REPORT).raw)
    return path


@pytest.mark.parametrize("field", ["reason", "log_tail"])
def test_what_a_host_signs_cannot_steer_the_terminal(desk: Desk, field: str) -> None:
    report_of(desk, 1, "web", **{field: HOSTILE})
    for words in ((), ("--json",)):
        done = desk.bento("logs", "web", *words)
        assert done.returncode == 0, said(done)
        text = (done.stdout + done.stderr).decode()
        assert "owned" in text
        assert all(char.isprintable() or char == "\n" for char in text), repr(text)


def test_what_the_host_did_not_sign_is_named_and_not_shown(desk: Desk) -> None:
    make_ssh_key(desk.folder / "keys/stranger")
    report_of(desk, 1, "web", reason="the host's own")
    report_of(desk, 2, "stranger", reason="a forgery")
    report_of(desk, 3, "web", host="db", reason="what db said")
    damaged = report_of(desk, 4, "web", reason="as it was")
    damaged.write_bytes(damaged.read_bytes().replace(b"as it was", b"as it wax"))
    (damaged.parent / f"{5:020}.report").symlink_to("/etc/passwd")
    (damaged.parent / f"{6:020}.report").write_text(f"{HOSTILE}\n")

    done = desk.bento("logs", "web")
    shown = done.stdout.decode()
    assert "the host's own" in shown
    assert shown.count("a report that is not verified: ") == 5
    for hidden in ("forgery", "what db said", "as it wax", "root:", "owned"):
        assert hidden not in said(done)
    facts = json.loads(desk.bento("logs", "web", "--json").stdout)
    assert [one["verified"] for one in facts] == [True, False, False, False, False, False]


def test_a_time_from_beyond_all_calendars_is_shown_as_a_number(desk: Desk) -> None:
    report_of(desk, 1, "web", time=2**53 - 1)
    assert f"time {2**53 - 1}  failed" in desk.bento("logs", "web").stdout.decode()
