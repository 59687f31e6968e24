#!/usr/bin/env python3
"""Write what docs/reference.md says of the commands, from the commands themselves; with --check only compare.

What else stands on that page is written by hand, and held to the code by tests/unit/cli/test_reference.py.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import click

from bento.cli.agent import agent
from bento.cli.main import bento

PAGE = Path(__file__).parents[1] / "docs/reference.md"
BLOCK = re.compile(r"(<!-- commands: begin.*? -->\n).*?(<!-- commands: end -->)", re.DOTALL)


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Each command below (and with) `command`, with the context that it is called in."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from commands(below, click.Context(below, info_name=name, parent=context))


def section(command: click.Command, context: click.Context) -> str:
    """A command's heading, what it says of itself, and its options; examples are in its --help."""
    pieces = " ".join(command.collect_usage_pieces(context))
    lines = [f"#### {context.command_path}", "", f"`{context.command_path} {pieces}`".replace(" `", "`")]
    for paragraph in (command.help or "").split("\n\n"):
        kept = paragraph.strip("\n").splitlines()
        raw = bool(kept) and kept[0].strip() == "\b"
        kept = kept[raw:]
        if kept and kept[0].strip() in ("Example:", "Examples:", "A first fleet:"):
            continue
        if raw and kept[1:]:
            lines += ["", "```text", dedent("\n".join(kept)), "```"]
        elif kept:
            lines += ["", *(line.strip() for line in kept)]
    records = [one.get_help_record(context) for one in command.get_params(context)]
    options = [record for record in records if record is not None and record[1]]
    if options:
        lines += ["", *(f"- `{head}`: {text}" for head, text in options if "--help" not in head)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def page(text: str) -> str:
    """The page with the commands as they are now."""
    found = [
        section(one, context)
        for group, name in ((bento, "bento"), (agent, "bento-agent"))
        for one, context in commands(group, click.Context(group, info_name=name, **group.context_settings))
    ]
    written, count = BLOCK.subn(lambda block: block[1] + "\n" + "\n".join(found) + "\n" + block[2], text)
    if count != 1:
        sys.exit(f"{PAGE}: there is no place for the commands")
    return written


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    now = page(text)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(now, encoding="utf-8")
    elif now != text:
        sys.exit("docs/reference.md isn't what the commands say: run `make reference`")


main()
