"""Every command that a page names is one that there is, with these options; what pages run whole, other tests type.

A command by its name alone (`bento secret show`) lacks its arguments, as an option may lack its own, and is fine.
`a|b`, `[a]` and `…` are how pages abbreviate: each of `a|b` must be there; what is in brackets or dots isn't looked at.
"""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bento.cli.agent import agent
from bento.cli.main import bento

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "secrets/README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS: dict[str, click.Group] = {"bento": bento, "bento-agent": agent}
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^|(?<=&& )|(?<=\| )|(?<=sudo )|(?<=exec )|(?<=[A-Z]=\S) )(bento|bento-agent)(?= |$)(.*)")
ENDS = re.compile(r" (?:&&|\|\||\||>>?|2>&1|#)(?: |$)|;")


def named(page: str) -> Iterator[str]:
    """The command lines of a page: in code blocks for a shell, and in backticks."""
    for kind, text in BLOCK.findall(page):
        if kind == "sh":
            yield from text.replace("\\\n", " ").splitlines()
    for code in re.findall(r"`([^`]+)`", BLOCK.sub("", page)):
        yield " ".join(code.split())


def commands(page: str) -> Iterator[list[str]]:
    """The words of each of Bento's commands that it names."""
    for line in named(page):
        for found in COMMAND.finditer(re.sub(r"\[[^]]*\]|…", "", line).strip()):
            words = shlex.split(ENDS.split(found[0])[0])
            yield from map(list, itertools.product(*(word.split("|") for word in words)))


def check(words: list[str]) -> None:
    """Raises click.UsageError for a command or option that isn't there, or a word too many."""
    command: click.Command = PROGRAMS[words[0]]
    context, left = click.Context(command, info_name=words[0]), words[1:]
    while isinstance(command, click.Group):
        left = command.make_parser(context).parse_args(left)[1]
        if not left or left[0] in ("--help", "COMMAND"):
            return
        below = command.get_command(context, left[0])
        if below is None:
            raise click.UsageError(f"{context.command_path} has no command {left[0]!r}")
        command, context, left = below, click.Context(below, info_name=left[0], parent=context), left[1:]
    too_many = [] if left == ["--help"] else command.make_parser(context).parse_args(left)[1]
    if too_many:
        raise click.UsageError(f"{too_many} are too many for {context.command_path}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_is_there_with_these_options(page: Path) -> None:
    wrong = []
    for words in commands(page.read_text("utf-8")):
        try:
            check(words)
        except click.BadOptionUsage:
            continue
        except click.UsageError as error:
            wrong.append(f"{shlex.join(words)}: {error.message}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "type `bento publish`",
        "`bento deploy web`",
        "`bento secret add|lost`",
        "`bento-agent retry --now`",
        "```sh\ncd x && bento deploy --no-such-option\n```\n",
        "1. so:\n\n   ```sh\n   sudo bento deploy \\\n      --nothing\n   ```\n",
    ],
)
def test_a_command_that_there_is_not_is_seen(text: str) -> None:
    (words, *_) = [words for words in commands(text) if words[-1] != "add"]
    with pytest.raises(click.UsageError):
        check(words)


def test_the_pages_commands_are_found() -> None:
    found = {" ".join(words[:2]) for page in PAGES for words in commands(page.read_text("utf-8"))}
    assert {"bento deploy", "bento push", "bento rollback", "bento-agent run", "bento migrate"} <= found
    assert sum(1 for page in PAGES for _ in commands(page.read_text("utf-8"))) > 250
