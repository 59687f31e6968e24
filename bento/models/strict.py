"""Strict reading of TOML and JSON tables without pydantic: the agent's poll path starts every few minutes.

Every error names the file, the line where it can be told, and the key.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from bento.errors import BadName, InputError
from bento.names import did_you_mean, printable
from bento_secrets.lost import merge_mark

T = TypeVar("T")

_AGAIN = "fix the line and run the command again"
_MERGE = "keep the tables of both sides, each of them whole, and remove the marks"
_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')\s*(\.|=)")


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables of `text`. Raises InputError naming file and line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if (line := merge_mark(text)) is not None:
            raise InputError(f"{name}:{line}: an unresolved merge conflict", _MERGE) from None
        message = str(error)
        found = re.search(r"\(at line (\d+), column \d+\)", message)
        place = f"{name}:{found[1]}" if found else name
        said = message[: found.start()].strip() if found else message.replace(" (at end of document)", "")
        raise InputError(f"{place}: not valid TOML: {printable(said)}", _AGAIN) from None
    except (ValueError, RecursionError):
        raise InputError(f"{name}: not valid TOML: too deep, or a number too long", _AGAIN) from None


def line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """The 1-based line of a key such as ("hosts", "web", "keys"), or of its table's header; None if it can't be told.

    tomllib keeps no positions. This looks for headers and keys line by line, which is enough for a file a person wrote.
    """
    keys = [part for part in path if isinstance(part, str)]
    best: int | None = None
    current: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            current = [part.strip().strip("\"'") for part in header[1].split(".")]
            if current == keys:
                return number
            if best is None and (current == keys[:-1] or current[: len(keys)] == keys):
                best = number
        elif (key := _KEY.match(line)) and [*current, key[1].strip("\"'")] == keys:
            return number
    return best


@dataclass(frozen=True)
class Source:
    """A text and its name, for saying where something stands in it."""

    name: str
    text: str = ""

    def place(self, *path: str | int) -> str:
        """`file:line`, or the file's name alone."""
        line = line_of(self.text, path) if self.text else None
        return f"{self.name}:{line}" if line else self.name


class Table:
    """One table being read: each key is taken once, and `done()` refuses what is left."""

    def __init__(self, source: Source, values: Mapping[str, Any], path: tuple[str | int, ...] = ()) -> None:
        self.source = source
        self._values = dict(values)
        self._path = path
        self._known: list[str] = []

    def _take(self, key: str, default: T | None, kind: type, words: str) -> Any:
        self._known.append(key)
        if key not in self._values:
            if default is None:
                raise self._missing(key)
            return default
        value = self._values.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(key, f"must be {words}")
        return value

    def _missing(self, key: str) -> InputError:
        """A needed key that isn't there: misspelt, perhaps."""
        close = get_close_matches(key, list(self._values), n=1)
        if close:
            place = self.source.place(*self._path, close[0])
            return InputError(f"{place}: unknown key {self._name(close[0])}", f"did you mean {key}?")
        return InputError(f"{self.source.place(*self._path)}: {self._name(key)} is missing", f"add a line: {key} = …")

    def _name(self, key: str) -> str:
        parts = [*(str(part) for part in self._path if isinstance(part, str)), key]
        return f"'{printable('.'.join(parts))}'"

    def wrong(self, key: str, why: str, *hints: str) -> InputError:
        """An error about one key of this table."""
        place = self.source.place(*self._path, key)
        return InputError(f"{place}: {self._name(key)} {why}", *(hints or (_AGAIN,)))

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        return str(self._take(key, default, str, "a text in quotes"))

    def number(self, key: str, default: int | None = None, *, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = int(self._take(key, default, int, "a whole number"))
        if not least <= value <= most:
            raise self.wrong(key, f"must be from {least} to {most}")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of strings."""
        value = self._take(key, list(default) if default is not None else None, list, "a list of texts")
        if not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "must be a list of texts")
        return tuple(value)

    def table(self, key: str, *, optional: bool = False) -> "Table":
        """A table inside this one."""
        return Table(self.source, self._take(key, {} if optional else None, dict, "a table"), (*self._path, key))

    def tables(self, key: str) -> tuple["Table", ...]:
        """A list of tables."""
        value = self._take(key, None, list, "a list of tables")
        if not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, "must be a list of tables")
        return tuple(Table(self.source, item, (*self._path, key, number)) for number, item in enumerate(value))

    def optional_text(self, key: str) -> str | None:
        """A string or (JSON) null; None when absent."""
        self._known.append(key)
        value = self._values.pop(key, None)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "must be a text or null")
        return value

    def optional_number(self, key: str) -> int | None:
        """A whole number or (JSON) null; None when absent."""
        self._known.append(key)
        value = self._values.pop(key, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(key, "must be a whole number or null")
        return value

    def choice(self, key: str, words: tuple[T, ...]) -> T:
        """One of `words`."""
        text = self.text(key)
        for word in words:
            if word == text:
                return word
        raise self.wrong(key, f"must be one of {', '.join(map(str, words))}")

    def has(self, key: str) -> bool:
        """Whether the key is there, and not taken yet."""
        self._known.append(key)
        return key in self._values

    def parse(self, key: str, value: str, parser: Callable[[str], T]) -> T:
        """`parser(value)`, with this key's place added to what it complains of."""
        try:
            return parser(value)
        except (BadName, InputError) as error:
            raise self.wrong(key, f"is wrong: {error.message}", *error.hints) from None

    def rest(self) -> dict[str, Any]:
        """All keys not taken yet, for a table whose keys are free."""
        values, self._values = self._values, {}
        return values

    def done(self) -> None:
        """Refuse keys that nobody took."""
        for key in self._values:
            raise InputError(
                f"{self.source.place(*self._path, key)}: unknown key {self._name(key)}",
                *did_you_mean(key, self._known),
            )


def parse_json_table(data: bytes, name: str) -> Table:
    """A JSON object of this machine's own state. Raises InputError."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(f"{name}: not valid JSON") from None
    if not isinstance(values, dict):
        raise InputError(f"{name}: not a JSON object")
    return Table(Source(name), values)
