"""age plugins (`age1yubikey1…`, `AGE-PLUGIN-TPM-1…`), on the admin's side only: their names, and their questions.

A plugin is a program `age-plugin-NAME` found by PATH (C2SP age-plugin): it is the admin's own, and runs as the admin.
"""

import getpass
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bento_secrets import age, bech32
from bento_secrets.errors import PluginFailed
from bento_secrets.names import printable

# Bech32 would allow `/` too, and `age1../../tmp/x1…` would then name a program by its path.
_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,63}")
_MESSAGE = 2000  # characters of a plugin's message that are shown


def plugin_of_recipient(text: str) -> str:
    """`yubikey` of `age1yubikey1…`; ValueError if it is no plugin's recipient."""
    prefix, _ = bech32.decode(text)
    return _named(prefix.removeprefix("age1") if prefix.startswith("age1") else "")


def plugin_of_identity(text: str) -> str:
    """`yubikey` of `AGE-PLUGIN-YUBIKEY-1…`; ValueError, which doesn't quote it, if it is no plugin's identity."""
    prefix, _ = bech32.decode(text)
    return _named(prefix.removeprefix("age-plugin-").removesuffix("-") if prefix.startswith("age-plugin-") else "")


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("it names no age plugin")
    return name


def native_recipient(plugin: str, texts: Sequence[str]) -> age.NativeRecipient:
    """For the age library; PluginFailed if the plugin isn't installed."""
    _find(plugin)
    try:
        return age.plugin_recipient(plugin, texts, Terminal(plugin))
    except ValueError as error:
        raise _unusable(plugin, error) from None


def native_identity(plugin: str, texts: Sequence[str]) -> age.NativeIdentity:
    """For the age library; PluginFailed if the plugin isn't installed."""
    _find(plugin)
    try:
        return age.plugin_identity(plugin, texts, Terminal(plugin))
    except ValueError as error:
        raise _unusable(plugin, error) from None


def _unusable(plugin: str, error: ValueError) -> PluginFailed:
    return PluginFailed(
        f"age-plugin-{plugin} can't be used: {printable(str(error), 300)}",
        f"see that it works by itself: age-plugin-{plugin} --version",
    )


def _find(plugin: str) -> None:
    program = f"age-plugin-{plugin}"
    if shutil.which(program) is None:
        raise PluginFailed(
            f"the age plugin {program} isn't installed: no such program is on PATH",
            f"install it, and see that it is found: command -v {program}",
        )


class Terminal:
    """Passes a plugin's messages to stderr and its questions to the terminal; without one, nobody answers."""

    def __init__(self, plugin: str) -> None:
        self._name = f"age-plugin-{plugin}"

    def display_message(self, message: str) -> None:
        """On stderr, without control characters."""
        try:
            sys.stderr.write(f"{self._name}: {printable(message, _MESSAGE)}\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # stderr has gone; the plugin's work needn't stop
            return

    def confirm(self, message: str, yes_string: str, no_string: str | None) -> bool | None:
        """Ask for `y` or `n`."""
        yes, no = printable(yes_string), printable(no_string or "no")
        answer = self.request_public_string(f"{message} [y: {yes}, n: {no}]")
        return None if answer is None else answer.strip().lower() in ("y", "yes")

    def request_public_string(self, description: str) -> str | None:
        """A line from the terminal."""
        try:
            # Opened twice: Python can't open a terminal, which doesn't seek, for both at once.
            with Path("/dev/tty").open("w") as out, Path("/dev/tty").open() as typed:
                out.write(f"{self._name}: {printable(description, _MESSAGE)} ")
                out.flush()
                return typed.readline().rstrip("\n")
        except (OSError, UnicodeError, KeyboardInterrupt):
            return None

    def request_passphrase(self, description: str) -> str | None:
        """A line from the terminal, unseen."""
        try:
            with Path("/dev/tty").open("w") as out:  # without a terminal getpass would read stdin, and show it
                return getpass.getpass(f"{self._name}: {printable(description, _MESSAGE)} ", stream=out)
        except (OSError, EOFError, UnicodeError, KeyboardInterrupt):
            return None
