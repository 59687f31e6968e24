"""How facts look: harmless on a terminal, whole in a pipe."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import ESC, SYSTEM, quick

from bento.cli.render import ago, short_system, show_json, show_table


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (None, 1000, "never"),
        (1000, 1000, "0 s ago"),
        (1005, 1000, "0 s ago"),
        (1000, 1059, "59 s ago"),
        (1000, 1060, "1 min ago"),
        (0, 3599, "59 min ago"),
        (0, 3600, "1 h ago"),
        (0, 2 * 86400 - 1, "47 h ago"),
        (0, 2 * 86400, "2 days ago"),
        (0, 400 * 86400, "400 days ago"),
        (1600, 1000, "0 s ago"),
        (1601, 1000, "clock ahead"),
    ],
)
def test_times_are_said_as_a_person_would(then: int | None, now: int, said: str) -> None:
    assert ago(then, now) == said


def test_systems_are_shown_by_their_hash() -> None:
    assert short_system(SYSTEM) == "a" * 10
    assert short_system(None) == "-"


@pytest.mark.parametrize("hostile", [f"{ESC}red", "a\x07b", "a\rb", "a\x9bb", "a\u202eb", "a\nb", "a\tb", "a\x00b"])
def test_a_table_escapes_what_could_steer_a_terminal(capsys: pytest.CaptureFixture[str], hostile: str) -> None:
    show_table(["host", "reason"], [["web", hostile]])
    out = capsys.readouterr().out
    assert out.count("\n") == 2
    assert out.replace("\n", "").isprintable()
    assert "\\" in out


def test_square_brackets_are_shown_not_understood(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["reason"], [["[bold]x[/bold] [link=http://x]y[/link] :smile:"]])
    assert "[bold]x[/bold] [link=http://x]y[/link] :smile:" in capsys.readouterr().out


def test_in_a_pipe_a_row_is_one_line_and_nothing_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = " ".join(f"word{number}" for number in range(40))
    show_table(["host", "state", "reason"], [["web", "failing", words], ["db", "up to date", ""]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["host", "state", "reason"]
    assert lines[1].endswith(words)
    assert lines[2].startswith("db")
    assert "…" not in "".join(lines)
    assert all(line == line.rstrip() for line in lines)


@quick
@given(st.lists(st.text(max_size=20), min_size=2, max_size=2))
def test_any_text_in_a_cell_is_shown_without_a_crash(cells: list[str]) -> None:
    show_table(["a", "b"], [cells])


def test_json_is_whole_and_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"host": "wéb", "reason": f"{ESC}red\n", "long": "x" * 2000, "none": None}
    show_json(facts)
    out = capsys.readouterr().out
    assert json.loads(out) == facts
    assert "\x1b" not in out
