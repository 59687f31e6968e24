"""What the demo shows: sentences, the commands as a person types them, and what they answer."""

import os
import shlex
import sys
import textwrap
from collections.abc import Sequence

_WIDTH = 100
_KEY_TYPES = ("ssh-ed25519 ", "ssh-rsa ")


class Screen:
    """Writes to stdout: with a little colour on a terminal, plain when piped. Remembers it all in `shown`."""

    def __init__(self) -> None:
        self.shown = ""
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def title(self, text: str) -> None:
        """A new part."""
        self._write("")
        self._write(text, "1")

    def say(self, text: str) -> None:
        """A sentence or several, wrapped."""
        for line in textwrap.wrap(text, _WIDTH):
            self._write(line)

    def typed(self, where: str, line: str, then: str = "") -> None:
        """A command, after the prompt of the machine it is typed on. `then` tells what else the person does."""
        self._write(f"{where}$ {line}{f'   {then}' if then else ''}", "36")

    def answer(self, text: str) -> None:
        """What a command said."""
        for line in text.splitlines():
            self._write(f"    {line}".rstrip(), "2")

    def line(self, text: str, *, bad: bool = False) -> None:
        """One line as it is."""
        self._write(text, "31" if bad else "")

    def _write(self, text: str, style: str = "") -> None:
        self.shown += text + "\n"
        sys.stdout.write(f"\x1b[{style}m{text}\x1b[0m\n" if self._colour and style and text else f"{text}\n")
        sys.stdout.flush()


def as_typed(argv: Sequence[str]) -> str:
    """A command as a person types it; of a public key only the beginning."""
    return " ".join(_word(word) for word in argv)


def _word(word: str) -> str:
    for kind in _KEY_TYPES:
        if word.startswith(kind):
            return f'"{kind}AAAA…"'
    return shlex.quote(word)
