"""Every command that a message or hint names is one that there is: it takes these options and so many words.

The strings are read from the source; what an f-string fills in stands for one word.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.core import UNSET

from bento.cli.agent import agent
from bento.cli.main import bento
from rig.sources import parsed

ROOT = Path(__file__).parents[3]
PROGRAMS: dict[str, click.Group] = {"bento": bento, "bento-agent": agent}
# As bento/cli/top.py finds them, to put in --dir.
COMMAND = re.compile(r"(?:^|(?<=: )|(?<=&& )|(?<=sudo ))(bento|bento-agent) (?=-|[a-z])([^`]*)")
HOLE = "HOLE"


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """The strings of a file that aren't docstrings."""
    tree = parsed(file)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.add(id(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(_piece(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def _piece(part: ast.expr) -> str:
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else HOLE


def commands() -> Iterator[tuple[str, str]]:
    """Where a person is told to type something, and what. The demo's labels are no hints."""
    files = [file for root in ("bento", "secrets/bento_secrets") for file in sorted((ROOT / root).rglob("*.py"))]
    for file in files:
        for line, text in texts(file) if file.parent.name != "demo" else ():
            for found in COMMAND.finditer(text):
                # Before "&&" and the like it ends; what follows is found by itself.
                yield f"{file.relative_to(ROOT)}:{line}", re.split(r" && | \|\| |; | > ", found[0])[0]


def check(line: str) -> None:
    """Raises where the line can't be what it says: an unknown command or option, a word too many or too few."""
    program, *words = shlex.split(line)
    command: click.Command = PROGRAMS[program]
    context = click.Context(command, info_name=program)
    while isinstance(command, click.Group):
        options = command.make_parser(context).parse_args(words)
        words = options[1]
        name = words.pop(0) if words else ""
        if name == HOLE:
            _check_any(command, context, words)
            return
        below = command.get_command(context, name)
        if below is None:
            raise click.UsageError(f"{context.command_path} has no command {name!r}")
        command, context = below, click.Context(below, info_name=name, parent=context)
    if words == ["--help"]:
        return
    values, left, _ = command.make_parser(context).parse_args(words)
    if left:
        raise click.UsageError(f"{left} are too many for {context.command_path}")
    for param in command.params:
        if param.required and values.get(str(param.name), UNSET) in (None, UNSET, ()):
            raise click.UsageError(f"{context.command_path} lacks {param.name}")


def _check_any(group: click.Group, context: click.Context, words: list[str]) -> None:
    """Some command of the group takes these words."""
    wrong: list[click.UsageError] = []
    names = group.list_commands(context)
    for name in names:
        try:
            check(shlex.join([*context.command_path.split(), name, *words]))
        except click.UsageError as error:
            wrong.append(error)
    if len(wrong) == len(names):
        raise wrong[0]


def test_every_command_that_is_named_is_there_with_these_options() -> None:
    wrong = []
    for where, line in commands():
        try:
            check(line)
        except click.UsageError as error:
            wrong.append(f"{where}: {line}: {error.message}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "bento publish",
        "bento deploy web",
        "bento deploy --no-such-option",
        "bento logs",
        "bento logs one two",
        "bento secret show web",
        "bento deploy, then look",
        "bento-agent retry web",
    ],
)
def test_what_there_is_not_is_seen(line: str) -> None:
    with pytest.raises(click.UsageError):
        check(line)


def test_many_commands_are_found() -> None:
    assert len(list(commands())) > 100


SHELL = re.compile(r"(?:: |&& )(?:ls|rm|df|du|cd|cat|cp|mkdir|chmod|ssh-add|ssh-keygen|git -C|grep|bento init) [^:;]*$")
QUOTED = {"quote", "join", "_word", "_quoted"}
PLAIN = {"word", "file", "fleet", "name"}  # quoted where they are made, or of a few letters only


def unquoted(file: Path) -> Iterator[str]:
    """Where a command that a person is to type gets a path as it is; and one that was never filled in."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(r": (?:ls|rm|df|cat|chmod) [^\n]*\{[a-z.]+\}", node.value):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.value}"
        elif isinstance(node, ast.JoinedStr):
            said = ""
            for part in node.values:
                if isinstance(part, ast.FormattedValue) and SHELL.search(said):
                    made = part.value
                    name = made.func if isinstance(made, ast.Call) else made
                    word = name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")
                    if word not in (QUOTED if isinstance(made, ast.Call) else PLAIN):
                        yield f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
                said += _piece(part)


def test_paths_in_commands_to_type_are_quoted() -> None:
    files = [file for root in ("bento", "secrets/bento_secrets") for file in sorted((ROOT / root).rglob("*.py"))]
    assert [found for file in files for found in unquoted(file)] == []
