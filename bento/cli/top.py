"""Where errors become words and exit codes: the only place that ends the program."""

import io
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from bento.adapters.process import leave_no_core
from bento.cli.usage import usage_hints
from bento.errors import BentoError
from bento.names import visible

if TYPE_CHECKING:
    from typing_extensions import Buffer

STOPPED = 130  # the exit code after Ctrl-C


def complain(message: str, hints: Sequence[str] = ()) -> None:
    """An error on stderr: the sentence, then what to type next."""
    _say("error", message, hints)


def warn(message: str, hints: Sequence[str] = ()) -> None:
    """A warning on stderr."""
    _say("warning", message, hints)


def _say(kind: str, message: str, hints: Sequence[str]) -> None:
    with suppress(OSError):  # where stderr is full or gone nothing can be said, and the work goes on
        click.echo(f"{kind}: {visible(message)}", err=True)
        for hint in hints:
            click.echo(f"hint: {visible(as_typed(hint))}", err=True)


_typed: dict[str, str] = {}  # by program: its name with the options that a person gave it


def remember_typed(program: str, option: str, value: str | None) -> None:
    """Have hints name `program` with an option that it was given: without it they would mean another fleet or host."""
    _typed[program] = program if value is None else f"{program} {option} {shlex.quote(value)}"


def as_typed(hint: str) -> str:
    """A hint whose commands work as they stand. `bento init` makes its own folder."""
    return re.sub(
        r"(^|: |&& |sudo )(bento|bento-agent)(?= (?!init\b|completion\b|man\b|.*--help$)[a-z])",
        lambda found: found[1] + _typed.get(found[2], found[2]),
        hint,
    )


def main_of(command: click.Command, name: str) -> Callable[[], NoReturn]:
    """The program of a command group: never a traceback without --debug."""

    def main() -> NoReturn:
        _open_standard_streams()
        _name_a_home()
        leave_no_core()
        signal.signal(signal.SIGTERM, _stop)
        output = _watched_stdout()
        code = _run(command, name)
        unwritten = _last_flush(sys.stdout, 1) or (output.failed if output is not None else None)
        if unwritten is not None:
            if not isinstance(unwritten, BrokenPipeError):
                complain(f"can't write the output: {(unwritten.strerror or 'unknown error').lower()}", _OUTPUT_HINTS)
            code = 1
        _last_flush(sys.stderr, 2)
        sys.exit(code)

    return main


# Where an error itself doesn't know what to do next: it is mostly about what somebody else wrote.
_LOOK = {"bento": ("look it all over: bento check",), "bento-agent": ("see what this host is at: bento-agent status",)}
_OUTPUT_HINTS = ("make room (df -h), or send it elsewhere; what was to be done besides printing may be done already",)


def _last_flush(stream: TextIO, number: int) -> OSError | None:
    """What kept a stream's last words from being written. Python would complain of it once more at exit."""
    try:
        if not stream.closed:
            stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        return error
    return None


class _Output(io.FileIO):
    """stdout, which remembers what kept it from being written: its errors look like any other file's."""

    failed: OSError | None = None

    def write(self, data: "Buffer", /) -> int:
        """As a file does it."""
        try:
            return super().write(data)
        except OSError as error:
            self.failed = error
            raise


def _watched_stdout() -> _Output | None:
    """Put it in stdout's place, where that is the process's own."""
    before = sys.stdout
    if not isinstance(getattr(getattr(before, "buffer", None), "raw", None), io.FileIO):
        return None
    output = _Output(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(output), before.encoding, before.errors, line_buffering=before.isatty()
    )
    return output


def _open_standard_streams() -> None:
    """A program that was started without one of its three streams must not open a file in its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))


def _name_a_home() -> None:
    """Somebody without an account may have none: then what would lie there isn't there, and can't be made."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"


def _stop(_signal: int, _frame: object) -> NoReturn:
    """SIGTERM: as Ctrl-C, so that what is under way is put in order."""
    raise KeyboardInterrupt


def _run(command: click.Command, name: str) -> int:
    debug = "--debug" in sys.argv[1:]
    try:
        result = command.main(prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        words = " ".join(error.format_message().split())  # click spreads a list of choices over lines
        complain(_lower(words), usage_hints(error, command, [name, *sys.argv[1:]]))
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        complain("stopped")
        return STOPPED
    except BentoError as error:
        complain(error.message, error.hints or _LOOK.get(name, ()))
        if debug:
            traceback.print_exc()
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does.
        sys.stderr.close()
        return 1
    except OSError as error:
        if getattr(getattr(sys.stdout.buffer, "raw", None), "failed", None) is error:
            return 1  # `main` says so
        _complain_of(error, debug=debug)
        if debug:
            traceback.print_exc()
        return 1
    except Exception as error:  # noqa: BLE001 — the top: a bug is said in one line, and in full with --debug
        if debug:
            traceback.print_exc()
        complain(f"{name} has a bug: {type(error).__name__}", ["run it again with --debug and report what it prints"])
        return 1
    return result if isinstance(result, int) else 0


def _complain_of(error: OSError, *, debug: bool) -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        complain("the working folder is gone", ["go to another one: cd DIR"])
    else:
        complain(_lower(str(error)), [] if debug else ["run it again with --debug to see where"])


def _lower(message: str) -> str:
    message = message.rstrip(".")
    return message[:1].lower() + message[1:]
