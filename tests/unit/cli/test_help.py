"""Every command says what it does and shows how it is typed, and every example there is a real command line."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bento.cli.agent import agent
from bento.cli.main import bento


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


ALL = [*commands(bento, ("bento",)), *commands(agent, ("bento-agent",))]
LEAVES = [
    pytest.param(path, command, id=" ".join(path)) for path, command in ALL if not isinstance(command, click.Group)
]


def help_of(path: tuple[str, ...]) -> str:
    root = bento if path[0] == "bento" else agent
    done = CliRunner().invoke(root, [*path[1:], "--help"], prog_name=path[0])
    assert done.exit_code == 0
    return done.output


def examples(path: tuple[str, ...]) -> list[str]:
    """The lines after `Example:`, up to the first blank one."""
    lines = iter(help_of(path).splitlines())
    for line in lines:
        if line.strip() in ("Example:", "Examples:"):
            break
    found: list[str] = []
    for line in lines:
        if not line.strip():
            break
        found.append(line.strip())
    return found


@pytest.mark.parametrize(("path", "command"), LEAVES)
def test_each_command_s_help_shows_it_in_use(path: tuple[str, ...], command: click.Command) -> None:
    shown = examples(path)
    assert shown
    assert any(" ".join((path[0], "")) in line and path[-1] in line.split() for line in shown)


@pytest.mark.parametrize(("path", "command"), LEAVES)
def test_each_example_is_a_command_line_that_parses(path: tuple[str, ...], command: click.Command) -> None:
    for line in examples(path):
        words = [word for word in shlex.split(line) if not re.match("[A-Z_]+=", word)]
        starts = [number for number, word in enumerate(words) if word == path[0]]
        ends = [number for number, word in enumerate(words) if word in ("|", "&&", ">")]
        words = words[starts[0] : next((end for end in ends if end > starts[0]), None)]
        assert words[0] == path[0], line
        context = (bento if path[0] == "bento" else agent).make_context(path[0], words[1:], resilient_parsing=False)
        rest = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
        below: click.Command = context.command
        while isinstance(below, click.Group):
            found = below.get_command(context, rest[0])
            assert found is not None, line
            context, below = found.make_context(rest[0], rest[1:], parent=context), found
            rest = [*context._protected_args, *context.args] if isinstance(found, click.Group) else []
        assert below is command, line


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=" ".join(one[0])) for one in ALL])
def test_each_option_and_command_says_what_it_is(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name


def test_asking_for_help_never_needs_a_fleet_or_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path, _ in ALL:
        assert "Usage:" in help_of(path)
