"""Manual pages say what the commands say, each command has one, and no reader of manual pages complains."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bento.cli.agent import agent
from bento.cli.main import bento
from bento.cli.man import pages

# How a page is read, by what is installed; each says on stderr what is wrong with it.
READERS = {
    "man": ("man", "--warnings", "-E", "UTF-8", "-Tutf8", "-l"),
    "groff": ("groff", "-man", "-ww", "-Tutf8"),
    "mandoc": ("mandoc", "-W", "error", "-T", "utf8"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("man")
    done = CliRunner().invoke(bento, ["man", str(folder)], standalone_mode=False)
    assert done.exception is None
    found = {path.stem: path for path in (folder / "man1").iterdir()}
    assert f"wrote {len(found)} manual pages" in done.output
    return found


def commands(command: click.Command, title: str) -> Iterator[tuple[str, click.Command]]:
    yield title, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{title}-{name}")


ALL = {**dict(commands(bento, "bento")), **dict(commands(agent, "bento-agent"))}


def plain(text: str) -> str:
    """A page without roff's escapes, on one line."""
    for escape, char in (("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\&", "")):
        text = text.replace(escape, char)
    text = re.sub(r"\\\[u([0-9A-F]+)\]", lambda match: chr(int(match[1], 16)), text)
    return " ".join(text.replace("\\e", "\\").split())


def test_each_command_has_its_page_and_nothing_else_has(written: Mapping[str, Path]) -> None:
    assert written.keys() == ALL.keys()
    assert len(written) > 25


@pytest.mark.parametrize("title", ALL)
def test_a_page_has_all_that_help_says(title: str, written: Mapping[str, Path]) -> None:
    text = written[title].read_text("ascii")
    assert re.findall(r"^\.SH (.*)$", text, re.MULTILINE)[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    said = plain(text)
    command = ALL[title]
    for line in (command.help or "").splitlines():
        if line.strip() not in ("", "\b", "Example:", "Examples:"):
            assert " ".join(line.split()) in said
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.opts[0] in said
            assert option.help is not None
            assert " ".join(option.help.split()) in said
    for name in getattr(command, "commands", {}):
        assert f"{title}-{name}" in said


def test_text_that_roff_would_take_for_commands_is_shown() -> None:
    help_ = ".SH EVIL starts a line\n'br too, and a \\fBbackslash\n\n\b\nExample:\n  .x --on '@a' ~/^`b` …"
    (_, text), *_ = pages(click.Command("x", help=help_), "x")
    body = text.partition(".SH DESCRIPTION\n")[2]
    assert not [line for line in body.splitlines() if line.startswith(("'", ".SH EVIL", ".x"))]
    assert ".SH EVIL starts a line 'br too, and a \\fBbackslash" in plain(body.replace("\\e", "\\"))
    assert ".x --on '@a' ~/^`b` …" in plain(body)


@pytest.mark.parametrize("reader", [name for name in READERS if shutil.which(name)])
def test_no_reader_of_manual_pages_complains(reader: str, written: Mapping[str, Path], tmp_path: Path) -> None:
    for path in written.values():
        done = subprocess.run([*READERS[reader], path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path.name
        shown = re.sub(".\x08|\x1b\\[[0-9]+m", "", done.stdout)  # bold is overstruck, or coloured
        assert "NAME" in shown
        assert "--help" in shown  # as it is typed, not with the hyphens of prose
    bad = tmp_path / "bad.1"
    bad.write_text('.TH BAD 1 "" "" ""\n.SH NAME\nbad \\- x\n.NOSUCHMACRO\n')
    done = subprocess.run([*READERS[reader], bad], capture_output=True, text=True, check=False)
    assert done.stderr, "the control: a bad page is complained of"
