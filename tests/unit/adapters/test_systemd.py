"""Units are restarted and reloaded exactly as asked; what couldn't be done is said, never raised."""

from pathlib import Path

import pytest

from bento.adapters import systemd
from bento.adapters.systemd import Systemd, Units
from bento.errors import EnvironmentFailed


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    path = tmp_path / "systemctl"
    path.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >>{tmp_path}/log\necho >>{tmp_path}/log\n')
    path.chmod(0o755)
    return path


def test_each_verb_gets_exactly_its_units(recorder: Path) -> None:
    units = Units(("a.service", "b@x y.service"), ("c.service",))
    assert Systemd([str(recorder), "--user"]).refresh(units) == ()
    assert (recorder.parent / "log").read_text().splitlines() == [
        "--user|try-restart|--|a.service|b@x y.service|",
        "--user|try-reload-or-restart|--|c.service|",
    ]


def test_without_units_nothing_is_called(recorder: Path) -> None:
    assert Systemd([str(recorder)]).refresh(Units()) == ()
    assert not (recorder.parent / "log").exists()


def test_a_missing_systemctl_is_said_with_the_units(tmp_path: Path) -> None:
    said = Systemd([str(tmp_path / "gone")]).refresh(Units(("a.service",), ("c.service",)))
    assert len(said) == 2
    assert all("not restarted" in sentence and "not installed" in sentence for sentence in said)
    assert "a.service" in said[0]
    assert "c.service" in said[1]


def test_a_failing_systemctl_is_said_with_its_words_and_the_rest_goes_on(recorder: Path) -> None:
    recorder.write_text(recorder.read_text() + 'echo "Unit a.service not found." >&2\n[ "$1" != try-restart ]\n')
    said = Systemd([str(recorder)]).refresh(Units(("a.service",), ("c.service",)))
    assert said == ("not restarted: a.service (Unit a.service not found.)",)
    assert len((recorder.parent / "log").read_text().splitlines()) == 2


def test_without_a_systemd_a_switch_runs_by_itself_and_nobody_is_asked(
    recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_BOOTED", recorder / "nowhere")
    for start in (None, ()):
        one = Systemd([str(recorder)], start)
        one.arm(1, ["never"])
        one.disarm()
        one.stop_switch()
        assert (one.present, one.switching(), one.failed()) == (False, False, frozenset())
        assert one.apart(["switch", "test"]) == ["switch", "test"]
    assert not (recorder.parent / "log").exists()


def test_with_a_systemd_a_switch_runs_in_a_unit_of_nixos_rebuilds_name_and_survives_its_caller(
    recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_BOOTED", recorder.parent)
    argv = Systemd([str(recorder)]).apart(["/system/bin/switch", "test"])
    assert argv[0] == "systemd-run"
    assert argv[-3:] == ["--", "/system/bin/switch", "test"]
    assert {"--wait", "--collect", "--unit=nixos-rebuild-switch-to-configuration"} <= set(argv)
    assert "--pipe" not in argv  # it would die with its reader
    limited = Systemd([str(recorder)]).apart(["/system/bin/switch", "test"], seconds=7)
    assert set(limited) - set(argv) == {"--property=RuntimeMaxSec=7"}
    other = Systemd([str(recorder)], ["/stand-in", "x"]).apart(["a"])
    assert (other[:2], other[2:]) == (["/stand-in", "x"], [*argv[1:-2], "a"])


@pytest.mark.parametrize(
    ("state", "busy"),
    [("active", True), ("activating", True), ("deactivating", True), ("inactive", False), ("", False)],
)
def test_a_switch_is_under_way_while_its_unit_lives(tmp_path: Path, state: str, *, busy: bool) -> None:
    assert Systemd([str(answering(tmp_path, f"echo {state}"))], ["x"]).switching() == busy


def test_failed_units_are_read_by_name(tmp_path: Path) -> None:
    lines = "printf 'a.service loaded failed failed A thing\\nb@x\\\\x2dy.mount not-found failed failed B\\n\\n'"
    assert Systemd([str(answering(tmp_path, lines))], ["x"]).failed() == {"a.service", "b@x\\x2dy.mount"}
    with pytest.raises(EnvironmentFailed, match="systemd doesn't answer"):
        Systemd([str(answering(tmp_path, "exit 1"))], ["x"]).failed()


def answering(folder: Path, line: str) -> Path:
    path = folder / "answering"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("how", "code", "started", "ended"), [("1", "6", True, 6), ("2", "9", True, 1), ("1", "0", False, None)]
)
def test_a_units_run_is_told_by_its_exit_code_and_an_old_one_is_not_taken_for_it(
    tmp_path: Path, how: str, code: str, *, started: bool, ended: int | None
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in start*) echo "$*" >>{tmp_path}/log; {f"echo 7 >{tmp_path}/when" if started else "exit 1"} ;;\n'
        f"*ActiveState*) echo activating ;; *Timestamp*) cat {tmp_path}/when || echo 3 ;;\n"
        f"*ExecMainCode*) echo {how} ;; *ExecMainStatus*) echo {code} ;; esac\n"
    )
    program.chmod(0o755)
    if started:
        program.write_text(program.read_text().replace("echo 7", "date +%N"))
    assert Systemd([str(program)]).run_once("x.service", 10) == ended
    # one was under way, which may have begun too early: it is waited for, and another made
    assert (tmp_path / "log").read_text().splitlines() == ["start x.service"] * 2
