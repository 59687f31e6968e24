"""secrets.toml: which secrets there are, for whom, and what each looks like on a host. Written by hand or by Bento."""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from typing import Any, Self, TypeVar

import tomlkit

from bento_secrets.ages import parse_max_age
from bento_secrets.errors import BadName, InputError
from bento_secrets.lost import merge_mark
from bento_secrets.names import (
    SecretName,
    Target,
    did_you_mean,
    parse_account,
    parse_all_units,
    parse_link_path,
    parse_mode,
    printable,
)


@dataclass(frozen=True)
class Declaration:
    """One secret: whose it is, its name, and its file on the host. `mode` is four octal digits.

    `path` is where a link to it should stand; `restart` and `reload` are units to tell when it changes; `max_age` is
    how long one content may live, as `90d`.
    """

    target: Target
    name: SecretName
    owner: str = "root"
    group: str = "root"
    mode: str = "0400"
    path: str | None = None
    restart: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    users: bool = False
    max_age: str | None = None


@dataclass(frozen=True)
class Attributes:
    """What a person said about a secret; None is "not said". An empty `path` or `max_age` takes it away."""

    owner: str | None = None
    group: str | None = None
    mode: str | None = None
    path: str | None = None
    restart: tuple[str, ...] | None = None
    reload: tuple[str, ...] | None = None
    users: bool | None = None
    max_age: str | None = None

    @classmethod
    def parse(
        cls,
        *,
        owner: str | None = None,
        group: str | None = None,
        mode: str | None = None,
        path: str | None = None,
        restart: Sequence[str] | None = None,
        reload: Sequence[str] | None = None,
        users: bool | None = None,
        max_age: str | None = None,
    ) -> Self:
        """Each value in its normal form; BadName for one that breaks its rule."""
        return cls(
            owner=None if owner is None else parse_account(owner),
            group=None if group is None else parse_account(group),
            mode=None if mode is None else parse_mode(mode),
            path=path if not path else parse_link_path(path),
            restart=None if restart is None else parse_all_units(restart),
            reload=None if reload is None else parse_all_units(reload),
            users=users,
            max_age=max_age if not max_age else parse_max_age(max_age),
        )

    def over(self, declaration: Declaration) -> Declaration:
        """`declaration` with what was said; the rest stays."""
        said: dict[str, Any] = {key: value for key, value in asdict(self).items() if value is not None}
        said |= {key: None for key in ("path", "max_age") if said.get(key) == ""}
        return replace(declaration, **said)


@dataclass(frozen=True)
class _Place:
    """Where a declaration stands, for an error: `secrets.toml, line 7, [[secret]] number 2`."""

    file: str
    number: int
    first_line: int | None
    lines: Sequence[str] = field(repr=False)

    def of(self, key: str | None = None) -> str:
        line = self.first_line
        if line is not None and key is not None:
            for offset, text in enumerate(self.lines):
                if re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", text):
                    line += offset
                    break
        where = f"{self.file}, line {line}" if line is not None else f"{self.file}, [[secret]] number {self.number}"
        return f"{where}, {printable(key)}" if key is not None else where


_T = TypeVar("_T")
_KEYS = tuple(item.name for item in fields(Declaration))
_LISTS = ("restart", "reload")
_SWITCHES = ("users",)
_HEADER = re.compile(r"\s*\[\[\s*secret\s*\]\]\s*(#.*)?")
_ANY_HEADER = re.compile(r"\s*\[[^\[\]]+\]\s*(#.*)?|\s*\[\[[^\[\]]+\]\]\s*(#.*)?")


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """The tables of secrets.toml; InputError naming `file` and line."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if (line := merge_mark(text)) is not None:
            raise InputError(
                f"{file} has an unresolved merge conflict, at line {line}",
                "keep the tables of both sides, each of them whole, and remove the marks",
            ) from None
        raise InputError(f"{file} is no valid TOML: {printable(str(error), 200)}", "correct that line") from None


def parse_declarations(text: str, file: str = "secrets.toml") -> tuple[Declaration, ...]:
    """The declarations in their order; InputError naming `file`, line and key."""
    content = parse_toml(text, file)
    for key in content.keys() - {"secret", "template"}:  # declared_templates.py reads those
        raise InputError(f"{file}: unknown key '{printable(key)}'", "declare each secret in a [[secret]] table")
    tables = content.get("secret", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{file}: secret is no list of tables", "begin each secret with a line [[secret]]")
    seen: dict[tuple[Target, SecretName], str] = {}
    declarations = []
    for table, place in zip(tables, _places(text, file, len(tables)), strict=True):
        declaration = _parse_table(table, place)
        identity = (declaration.target, declaration.name)
        if identity in seen:
            raise InputError(
                f"{place.of()}: {declaration.name} for {declaration.target} stands twice, also at {seen[identity]}",
                "remove one of the two tables",
            )
        seen[identity] = place.of()
        declarations.append(declaration)
    return tuple(declarations)


def _places(text: str, file: str, count: int) -> list[_Place]:
    # Lines as TOML counts them. `\x0b`, `\x85` and the like, which splitlines cuts at, are no line ends there.
    lines = text.replace("\r\n", "\n").split("\n")
    headers = [number for number, line in enumerate(lines) if _HEADER.fullmatch(line)]
    if len(headers) != count:  # an unusual way to write it, or a header inside a string
        return [_Place(file, number + 1, None, ()) for number in range(count)]
    return [
        _Place(file, number + 1, start + 1, lines[start:end])
        for number, (start, end) in enumerate(pairwise([*headers, len(lines)]))
    ]


def _parse_table(table: Mapping[str, object], place: _Place) -> Declaration:
    for key in table:
        if key not in _KEYS:
            hints = did_you_mean(key, _KEYS) or (f"known are {', '.join(_KEYS)}",)
            raise InputError(f"{place.of(key)}: unknown key", *hints)
    for key in ("target", "name"):
        if key not in table:
            raise InputError(f"{place.of()}: the secret has no {key}", f'add a line: {key} = "…"')

    for key, value in table.items():
        wanted, described = _kind(key)
        if not isinstance(value, wanted) or (
            isinstance(value, list) and not all(isinstance(one, str) for one in value)
        ):
            raise InputError(f"{place.of(key)}: should be {described}", "correct it there, then: bento secret check")
    declaration = Declaration(
        _parse_value(place, "target", lambda: Target.parse(str(table["target"]))),
        _parse_value(place, "name", lambda: SecretName.parse(str(table["name"]))),
    )
    for key in _KEYS[2:]:
        if key in table:
            said: dict[str, Any] = {key: table[key]}
            declaration = _parse_value(place, key, partial(Attributes.parse, **said)).over(declaration)
    return declaration


def _kind(key: str) -> tuple[type, str]:
    if key in _LISTS:
        return list, "a list of strings"
    return (bool, "true or false") if key in _SWITCHES else (str, "a string")


def _parse_value(place: _Place, key: str, parse: Callable[[], _T]) -> _T:
    try:
        return parse()
    except BadName as error:
        raise InputError(f"{place.of(key)}: {error}", *error.hints) from None


def put_declarations(text: str, declarations: Sequence[Declaration], file: str = "secrets.toml") -> str:
    """`text` with each added at the end, or its table changed where it stands; comments and order stay.

    InputError if `text` is wrong, or is written in a way that can't be edited safely.
    """
    after = list(parse_declarations(text, file))
    places = {(one.target, one.name): number for number, one in enumerate(after)}
    known = {number: one for one in declarations if (number := places.get((one.target, one.name))) is not None}
    changed = {number: one for number, one in known.items() if one != after[number]}
    edited = text
    for number, one in changed.items():
        edited = _replaced(edited, number, len(places), partial(_edit, before=after[number], after=one))
        after[number] = one
    for one in declarations:
        if (one.target, one.name) not in places:
            after.append(one)
            edited = _append(edited, one)
    return _checked(text, edited, after, file)


def drop_declaration(text: str, target: Target, name: SecretName, file: str = "secrets.toml") -> str:
    """`text` without that table; InputError as put_declarations, and if there is none."""
    before = parse_declarations(text, file)
    numbers = [number for number, one in enumerate(before) if (one.target, one.name) == (target, name)]
    if not numbers:
        known = {one.name for one in before if one.target == target}
        elsewhere = [f"there is one for {one.target}" for one in before if one.name == name]
        raise InputError(
            f"there is no secret {name} for {target}",
            *did_you_mean(name, known),
            *elsewhere,
            "see what there is: bento secret list",
        )
    (number,) = numbers
    edited = _replaced(text, number, len(before), None)
    return _checked(text, edited, [*before[:number], *before[number + 1 :]], file)


def _replaced(text: str, number: int, count: int, change: Callable[[Any], None] | None) -> str:
    """`text` with the [[secret]] table `number`, of `count`, changed, or without it.

    Only its own lines are given to tomlkit, which would put all [[secret]] tables before the first [[template]].
    """
    lines = text.split("\n")
    starts = [at for at, line in enumerate(lines) if _HEADER.fullmatch(line)]
    if len(starts) != count:  # an unusual way to write it, as for _places
        return _replaced_whole(text, number, count, change)
    start = starts[number]
    end = next((at for at in range(start + 1, len(lines)) if _ANY_HEADER.fullmatch(lines[at])), len(lines))
    # Comments at the end are more likely about what follows.
    while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
        end -= 1
    if change is None:
        if "".join(lines[end : end + 1]).strip() == "" == "".join(lines[max(start - 1, 0) : start]).strip():
            end += 1  # of the empty lines around it one is enough
        return "\n".join([*lines[:start], *lines[end:]])
    document: Any = tomlkit.parse("\n".join([*lines[start:end], ""]))
    change(document["secret"][0])
    return "\n".join([*lines[:start], tomlkit.dumps(document).removesuffix("\n"), *lines[end:]])


def _replaced_whole(text: str, number: int, count: int, change: Callable[[Any], None] | None) -> str:
    document: Any = tomlkit.parse(text)
    if change is not None:
        change(document["secret"][number])
    else:
        del document["secret"][number]
        if count == 1:
            del document["secret"]
    return tomlkit.dumps(document)


def _checked(text: str, edited: str, wanted: Sequence[Declaration], file: str) -> str:
    # Whatever a person wrote and tomlkit made of it: nothing else may have changed.
    if _parsed(edited) != tuple(wanted) or _others(edited) != _others(text):
        raise InputError(
            f"{file} is written in a way that Bento can't edit safely",
            "write each secret as a [[secret]] table of its own, and run the command again",
        )
    return edited


def _append(text: str, declaration: Declaration) -> str:
    table = tomlkit.table()
    _edit(table, before=None, after=declaration)
    # By hand: tomlkit's own append joins a table to a last line that has no line end.
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return f"{text}{gap}[[secret]]\n{tomlkit.dumps(table)}"


def _edit(table: Any, *, before: Declaration | None, after: Declaration) -> None:
    """Write what differs; a value that becomes the default goes away."""
    for item in fields(Declaration):
        value = getattr(after, item.name)
        default = item.default
        if value == (getattr(before, item.name) if before else default):
            continue
        if value == default:
            table.remove(item.name)
        else:
            table[item.name] = list(value) if isinstance(value, tuple) else value


def _others(text: str) -> dict[str, Any]:
    """What isn't a secret: the templates."""
    return {key: value for key, value in tomllib.loads(text).items() if key != "secret"}


def _parsed(text: str) -> tuple[Declaration, ...] | None:
    try:
        return parse_declarations(text)
    except InputError:
        return None
