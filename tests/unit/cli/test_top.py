"""Where errors become words and exit codes: each class its code, hints on stderr, tracebacks only when asked for."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator

import click
import pytest

from bento.adapters.files import Busy
from bento.agent.run import EXIT
from bento.agent.turn import AgentBusy
from bento.cli.main import bento
from bento.cli.top import as_typed, main_of, remember_typed
from bento.errors import BadName, BentoError, EnvironmentFailed, InputError, Refused, WorkFailed

Ended = tuple[int, str, str]  # exit, stdout, stderr


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """SIGTERM as it was, and harmless to the tests themselves should nobody handle it."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a program whose one command does what is given."""

    def run(action: Callable[[], object], *args: str) -> Ended:
        @click.group()
        @click.option("--debug", is_flag=True)
        def tool(**_options: object) -> None:
            pass

        @tool.command()
        def work() -> object:
            return action()

        monkeypatch.setattr(sys, "argv", ["tool", *(args or ("work",))])
        with pytest.raises(SystemExit) as ended:
            main_of(tool, "tool")()
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return run


def raiser(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BentoError, 1),
        (EnvironmentFailed, 1),
        (WorkFailed, 1),
        (Busy, 1),
        (InputError, 2),
        (BadName, 2),
        (Refused, 6),
        (AgentBusy, 75),
    ],
)
def test_each_error_has_its_exit_code_its_sentence_and_its_hints(
    end: Callable[..., Ended], error: type[BentoError], code: int
) -> None:
    ended = end(raiser(error("the thing is wrong", "type this", "or that")))
    assert ended == (code, "", "error: the thing is wrong\nhint: type this\nhint: or that\n")


def test_the_agent_s_outcomes_have_their_exits() -> None:
    assert EXIT == {
        "succeeded": 0,
        "reboot-needed": 0,
        "auto-updated": 0,
        "failed": 1,
        "unconfirmed": 1,
        "degraded": 4,
        "rolled-back": 5,
        "refused": 6,
    }


@pytest.mark.parametrize(("value", "code"), [(None, 0), (0, 0), (1, 1), (3, 3), (75, 75)])
def test_a_command_s_own_number_is_the_exit(end: Callable[..., Ended], value: int | None, code: int) -> None:
    assert end(lambda: value) == (code, "", "")


@pytest.mark.parametrize("error", [KeyError("secret value"), ValueError("secret value"), RecursionError()])
def test_a_bug_is_one_line_without_a_traceback(end: Callable[..., Ended], error: Exception) -> None:
    code, out, err = end(raiser(error))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: tool has a bug: {type(error).__name__}\nhint: ")
    assert "Traceback" not in err
    assert "secret value" not in err
    assert "--debug" in err


@pytest.mark.parametrize("error", [KeyError("x"), InputError("it is wrong"), WorkFailed("it failed")])
def test_with_debug_there_is_a_traceback_too(end: Callable[..., Ended], error: Exception) -> None:
    code, _, err = end(raiser(error), "--debug", "work")
    assert "Traceback (most recent call last)" in err
    assert "in fail" in err
    assert "error: " in err
    assert code == getattr(error, "exit_code", 1)


@pytest.mark.parametrize("args", [("wrok",), ("work", "--nope"), ("--nope",), ("work", "extra")])
def test_a_wrong_command_line_is_exit_2_and_points_to_help(end: Callable[..., Ended], args: tuple[str, ...]) -> None:
    code, out, err = end(lambda: None, *args)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith(("error: no such ", "error: got unexpected"))
    assert second.startswith("hint: see: tool")
    assert second.endswith("--help")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("deploy web", "hosts are chosen by --on: bento deploy --on web"),
        ("status web db", "hosts are chosen by --on: bento status --on web,db"),
        ("diff @dc1", "hosts are chosen by --on: bento diff --on @dc1"),
        ("host list 'we*'", "hosts are chosen by --on: bento host list --on 'we*'"),
        ("status --dir ../acme", "--dir goes before the command: bento --dir ../acme status"),
        ("host show web --dir=../acme", "--dir goes before the command: bento --dir=../acme host show web"),
        ("status --json --debug", "--debug goes before the command: bento --debug status --json"),
        ("host add web --tag", "see: bento host add --help"),
        ("completion", "see: bento completion --help"),
        ("check ../acme", "see: bento check --help"),
    ],
)
def test_a_slip_that_many_make_has_the_right_line_as_its_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, hint: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["bento", *shlex.split(typed)])
    with pytest.raises(SystemExit) as ended:
        main_of(bento, "bento")()
    assert ended.value.code == 2
    sentence, first, *_ = capsys.readouterr().err.splitlines()
    assert first == f"hint: {hint}"
    assert "\\" not in sentence


def test_no_command_at_all_shows_how_to_use_it_and_is_exit_2(end: Callable[..., Ended]) -> None:
    code, out, err = end(lambda: None, "--debug")
    assert (code, out) == (2, "")
    assert "missing command" in err
    assert "hint: see: tool --help" in err


def test_stopping_is_said_and_has_the_shell_s_exit(end: Callable[..., Ended]) -> None:
    for error in (KeyboardInterrupt(), click.exceptions.Abort()):
        code, _, err = end(raiser(error))
        assert code == 130
        assert "error: stopped\n" in err
        assert "Traceback" not in err


def test_sigterm_stops_as_ctrl_c_does(end: Callable[..., Ended]) -> None:
    code, _, err = end(lambda: signal.raise_signal(signal.SIGTERM))
    assert code == 130
    assert "stopped" in err


def test_a_disk_or_file_error_is_said_in_words(end: Callable[..., Ended]) -> None:
    code, _, err = end(raiser(OSError(28, "No space left on device")))
    assert code == 1
    assert "no space left on device" in err.lower()
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("bento host list", "bento --dir '../my fleet' host list"),
        ("see its keys: bento host show web", "see its keys: bento --dir '../my fleet' host show web"),
        ("make one: bento init DIR", "make one: bento init DIR"),
        ("put it into bento.toml, as bento writes it", "put it into bento.toml, as bento writes it"),
        ("or name one: bento --dir DIR status", "or name one: bento --dir DIR status"),
        ("git checkout HEAD -- /x/bento deploy", "git checkout HEAD -- /x/bento deploy"),
        ("run: bento-agent run", "run: bento-agent --config x.toml run"),
    ],
)
def test_a_hint_can_be_typed_as_it_stands_wherever_the_fleet_or_the_settings_are(hint: str, shown: str) -> None:
    try:
        remember_typed("bento", "--dir", "../my fleet")
        remember_typed("bento-agent", "--config", "x.toml")
        assert as_typed(hint) == shown
    finally:
        remember_typed("bento", "--dir", None)
        remember_typed("bento-agent", "--config", None)
    assert as_typed(hint) == hint
