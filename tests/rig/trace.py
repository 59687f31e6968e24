"""What programs were started, and with what arguments, by strace."""

import re
from collections.abc import Iterable
from pathlib import Path

from rig.markers import inside

_LONGEST = 1_000_000  # characters of an argument that strace writes down
_CALL = re.compile(r'\bexecve(?:at)?\((?:[^"\n]*, )?"(?:[^"\\]|\\.)*"(?:\.\.\.)?, \[(?P<argv>.*)')
_STRING = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"(?P<cut>\.\.\.)?')
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f", b"a": b"\a", b"b": b"\b"}


def traced(output: Path, argv: Iterable[str]) -> list[str]:
    """The command under strace: it and all it starts are written to `output`, for `execve_args`."""
    return ["strace", "-f", "-e", "trace=execve,execveat", "-s", str(_LONGEST), "-o", str(output), "--", *argv]


def execve_args(trace_files: Iterable[Path]) -> list[list[bytes]]:
    """The argument vector of every program that was started, or tried, in order.

    Raises ValueError where strace cut one short, and for a trace in which nothing was started.
    """
    calls: list[list[bytes]] = []
    for path in trace_files:
        seen = len(calls)
        # not splitlines: it would also split at characters inside an argument
        for line in path.read_text(encoding="latin-1").split("\n"):
            call = _CALL.search(line)
            if call is not None:
                calls.append(_arguments(call["argv"], path))
        if len(calls) == seen:
            raise ValueError(f"{path} holds no execve at all: nothing was traced")
    return calls


def argv_hits(marker: bytes, trace_files: Iterable[Path]) -> list[list[bytes]]:
    """The argument vectors that hold the marker, raw or encoded."""
    return [argv for argv in execve_args(trace_files) if any(inside(marker, arg) for arg in argv)]


def _arguments(text: str, path: Path) -> list[bytes]:
    found = []
    at = 0
    while text.startswith('"', at):
        string = _STRING.match(text, at)
        if string is None or string["cut"]:
            raise ValueError(f"{path} has an argument that strace cut short")
        found.append(_ESCAPE.sub(_unescape, string["text"].encode("latin-1")))
        at = string.end()
        if text.startswith(", ", at):
            at += 2
    if text.startswith("...", at):
        raise ValueError(f"{path} has an argument list that strace cut short")
    return found


def _unescape(escape: re.Match[bytes]) -> bytes:
    octal, hexadecimal, named = escape.groups()
    if octal is not None:
        return bytes([int(octal, 8)])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    return _NAMED.get(named, named)
