"""Terminals of a test's own that programs ask for passphrases at."""

import termios
import time


def silent(terminal: int) -> None:
    """Wait until the program has turned the echo off: what is typed before that is thrown away by getpass."""
    deadline = time.monotonic() + 120
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < deadline, "the echo stays on"
        time.sleep(0.005)
