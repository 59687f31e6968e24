"""What to type in place of a command line that click refuses."""

import re
import shlex
from collections.abc import Sequence

import click

# What `--on` takes. Nothing else is offered: an extra word may be a part of a secret's name, or of a file's.
_HOSTS = re.compile(r"[A-Za-z0-9_@*?,-]+")


def usage_hints(error: click.ClickException, command: click.Command, typed: Sequence[str]) -> list[str]:
    """Hints for a wrong command line. `typed` is all of it, the program's name first; `command` is the program."""
    path, last = _way(command, typed)
    hints = [f"see: {' '.join(path)} --help"]
    if isinstance(error, click.NoSuchOption) and (turned := _first(error.option_name, command, typed)):
        return [f"{error.option_name} goes before the command: {turned}"]
    extra = re.search(r"unexpected extra arguments? \((.+)\)", error.format_message())
    if extra is not None and _takes(last, "--on") and all(map(_HOSTS.fullmatch, extra[1].split())):
        hints.insert(0, f"hosts are chosen by --on: {' '.join(path)} --on {shlex.quote(','.join(extra[1].split()))}")
    return hints


def _way(command: click.Command, typed: Sequence[str]) -> tuple[list[str], click.Command]:
    """The words that lead to the innermost command, and that command."""
    path = [typed[0]]
    context = click.Context(command)
    for word in typed[1:]:
        if not isinstance(command, click.Group):
            break
        inner = command.get_command(context, word)
        if inner is not None:
            command = inner
            path.append(word)
    return path, command


def _takes(command: click.Command, option: str) -> bool:
    return any(option in param.opts for param in command.params)


def _first(option: str, command: click.Command, typed: Sequence[str]) -> str:
    """The line with the program's own option, and what is after it, in front of the command; else nothing."""
    for param in command.params:
        if option not in param.opts or not isinstance(param, click.Option):
            continue
        words = list(typed[1:])
        at = next((place for place, word in enumerate(words) if word.split("=")[0] == option), None)
        if at is None:
            break
        length = 1 if param.is_flag or "=" in words[at] else 2
        return shlex.join([typed[0], *words[at : at + length], *words[:at], *words[at + length :]])
    return ""
