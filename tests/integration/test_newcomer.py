"""Typed outside of a fleet, or with a slip in bento.toml, each command says so, and what to do."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bento.cli.main import bento
from rig.desk import Desk, refused, tree

# Commands that need no fleet, or make one.
ELSEWHERE = {"bento init", "bento demo", "bento completion", "bento man", "bento migrate"}
# What a required argument may look like, by its name; else "x".
SAMPLES = {"target": "web", "host": "web", "name": "web", "files": "keys/web.pub", "key": "SHA256:x"}


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from leaves(below, f"{path} {name}")
    elif path not in ELSEWHERE:
        yield path, command


def typed(path: str, command: click.Command) -> list[str]:
    """A plausible command line."""
    words = path.split()[1:]
    for one in command.params:
        if one.required:
            words += [] if isinstance(one, click.Argument) else [one.opts[0]]
            words.append(SAMPLES.get(one.name or "", "x"))
    if path in ("bento host add", "bento host rekey", "bento host add-key"):
        words += ["--key-file", "keys/web.pub"]
    return words


ALL = [pytest.param(typed(*one), id=one[0]) for one in leaves(bento, "bento")]


@pytest.mark.parametrize("words", ALL)
def test_outside_of_a_fleet_each_command_says_how_to_get_into_one(words: list[str], desk: Desk, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "keys").symlink_to(desk.folder / "keys")
    refused(desk.bento(*words, cwd=empty), "is not in a fleet", "bento init", "bento --dir")
    assert [path.name for path in empty.iterdir()] == ["keys"]


@pytest.mark.parametrize("words", ALL)
def test_with_a_slip_in_bento_toml_each_command_names_its_line_and_changes_nothing(
    words: list[str], desk: Desk
) -> None:
    desk.settings.write_text(desk.settings.read_text() + "\n[bulid]\njobs = 3\n")
    line = desk.settings.read_text().splitlines().index("[bulid]") + 1
    before = tree(desk.folder)
    done = desk.bento("--dir", "fleet", *words, cwd=desk.folder)
    if words == ["check"]:  # there it is a finding
        assert (done.returncode, done.stderr) == (1, b"")
        assert f"error: bento.toml:{line}: unknown key 'bulid'\n  hint: did you mean build?" in done.stdout.decode()
    else:
        refused(done, f"bento.toml:{line}: unknown key 'bulid'", "did you mean build?")
    assert tree(desk.folder) == before
