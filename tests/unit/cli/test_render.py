"""How facts look: harmless on a terminal, whole in a pipe."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from unit.samples import ESC, SYSTEM, quick

from bento.cli.render import Cell, ago, drawn, short_system, show_json, show_table, table
from bento.names import visible


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


UNSEEN = {
    "bidi": "\u202e\u2066\u061c\u200f",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff\u00ad",
    "tags": "\U000e0041",
    "printable for Python": "\u034f\u115f\u1160\u17b4\u180b\u3164\ufe0f\uffa0\U000e0100",
}


@pytest.mark.parametrize("chars", UNSEEN.values(), ids=UNSEEN)
def test_what_nobody_sees_is_shown_by_its_number(chars: str) -> None:
    """Else two names that look alike could be two."""
    for char in chars:
        assert visible(f"web{char}") == "web" + char.encode("unicode_escape").decode()


@pytest.mark.parametrize("text", ["plain words", "na\u00efve", "cafe\u0301", "\u7db2", "", "a  b"])
def test_other_letters_are_shown_as_they_are(text: str) -> None:
    assert visible(text) == text


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


cells = st.one_of(st.text(max_size=12), st.tuples(st.text("aü漢 ]", max_size=12), st.sampled_from(["red", "dim"])))


@quick
@given(
    rows=st.lists(st.tuples(cells, cells, cells), max_size=4),
    width=st.sampled_from([20, 40, 200]),
    terminal=st.booleans(),
)
def test_a_table_that_fits_is_drawn_as_rich_draws_it(
    *, rows: list[tuple[Cell, ...]], width: int, terminal: bool
) -> None:
    heads = ("host", "state", "last seen")
    console = Console(
        width=width, highlight=False, force_terminal=terminal, color_system="standard" if terminal else None
    )
    with console.capture() as captured:
        console.print(table(heads, rows))

    def plain(lines: list[str]) -> list[str]:
        return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in lines]

    lines = drawn(console, heads, rows)
    assert plain(lines) == plain(captured.get().splitlines())
    assert terminal or lines == plain(lines)


def test_on_a_terminal_words_have_their_colours_however_wide_it_is() -> None:
    for width in (200, 12):
        console = Console(width=width, highlight=False, force_terminal=True, color_system="standard")
        lines = drawn(console, ["host", "state"], [["web", ("fine", "green")], ["database", "odd"]])
        assert lines[0].startswith("\x1b[1mhost")
        assert "web" in lines[1]
        assert "\x1b[32mfine" in "".join(lines)


def test_into_a_pipe_rich_is_not_loaded_and_the_table_is_the_same() -> None:
    heads, rows = ["host", "state"], [["web", ("fine", "green")], ["database", "odd"]]
    program = (
        "import sys; from bento.cli.render import show_table;"
        f" show_table({heads!r}, {rows!r}); assert 'rich' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == drawn(Console(width=200, force_terminal=False), heads, rows)


def test_json_is_whole_and_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"host": "wéb", "reason": f"{ESC}red\n", "long": "x" * 2000, "none": None}
    show_json(facts)
    out = capsys.readouterr().out
    assert json.loads(out) == facts
    assert "\x1b" not in out
