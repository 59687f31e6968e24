"""`bento man`: manual pages, written from the commands themselves, so that they can't say anything else."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent

import click

from bento import __version__
from bento.errors import EnvironmentFailed
from bento_secrets.durable import write_atomic

_SECTION = "1"
_RAW = "\b"  # click's mark: the paragraph after it keeps its lines


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def man(context: click.Context, folder: Path) -> None:
    """Write the manual pages of bento and bento-agent into DIR/man1. For packages.

    \b
    Examples:
      bento man ~/.local/share/man
      bento man /tmp/pages && man -M /tmp/pages bento-secret-add
    """
    from bento.cli.agent import agent

    written = 0
    try:
        (folder / f"man{_SECTION}").mkdir(parents=True, exist_ok=True)
        for command, name in ((context.find_root().command, "bento"), (agent, "bento-agent")):
            for title, text in pages(command, name):
                write_atomic(folder / f"man{_SECTION}" / f"{title}.{_SECTION}", text.encode(), 0o644)
                written += 1
    except OSError as error:
        raise EnvironmentFailed(
            f"can't write manual pages to {folder}: {error.strerror}", "name a folder of yours: bento man DIR"
        ) from None
    click.echo(f"wrote {written} manual pages to {folder / f'man{_SECTION}'}")


def pages(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Each command's page below (and with) `command`: its title, as `bento-host-add`, and its text in roff."""
    yield from _pages(command, click.Context(command, info_name=name, **command.context_settings), ())


def _pages(command: click.Command, context: click.Context, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    words = (*above, context.info_name or "")
    yield "-".join(words), _page(command, context, words)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _pages(below, click.Context(below, info_name=name, parent=context), words)


def _page(command: click.Command, context: click.Context, words: tuple[str, ...]) -> str:
    title = "-".join(words)
    prose, examples = _help(command)
    lines = [f'.TH "{title.upper()}" "{_SECTION}" "" "bento {__version__}" "Bento"', ".SH NAME"]
    lines.append(f"{_escaped(title)} \\- {_escaped(command.get_short_help_str(200).rstrip('.'))}")
    pieces = " ".join(command.collect_usage_pieces(context))
    lines += [".SH SYNOPSIS", f"\\fB{_escaped(' '.join(words))}\\fR {_escaped(pieces)}"]
    lines += [".SH DESCRIPTION", *prose]
    records = [one.get_help_record(context) for one in command.get_params(context)]
    options = [record for record in records if record is not None and record[1]]  # an argument is in the synopsis
    if options:
        lines.append(".SH OPTIONS")
        for head, text in options:
            lines += [".TP", f"\\fB{_escaped(head)}\\fR", _escaped(text)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                lines += [".TP", f"\\fB{_escaped(f'{title}-{name}')}\\fR({_SECTION})"]
                lines.append(_escaped(below.get_short_help_str(200)))
    if examples:
        lines += [".SH EXAMPLES", *examples]
    if len(words) > 1:
        lines += [".SH SEE ALSO", f"\\fB{_escaped('-'.join(words[:-1]))}\\fR({_SECTION})"]
    return "\n".join(lines) + "\n"


def _help(command: click.Command) -> tuple[list[str], list[str]]:
    """The command's text in roff: what it says, and its examples."""
    prose: list[str] = []
    examples: list[str] = []
    for paragraph in (command.help or "").split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        raw = bool(lines) and lines[0].strip() == _RAW
        lines = lines[raw:]
        if raw and lines and lines[0].strip() in ("Example:", "Examples:"):
            examples += _kept(lines[1:])
        elif raw:
            prose += [".PP", *_kept(lines)]
        elif lines:
            prose += [".PP", *(_escaped(line.strip()) for line in lines)]
    return prose[1:] if prose[:1] == [".PP"] else prose, examples


def _kept(lines: Sequence[str]) -> list[str]:
    """Lines as they stand, but for the margin."""
    return [".nf", *(_escaped(line) for line in dedent("\n".join(lines)).splitlines()), ".fi"]


def _escaped(text: str) -> str:
    """Text that roff shows as it is, on one line and in ASCII."""
    text = (
        " ".join(text.split("\n")).replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    )
    text = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in text)
    return f"\\&{text}" if text.startswith(".") else text
