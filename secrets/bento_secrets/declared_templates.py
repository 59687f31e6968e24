"""The `[[template]]` tables of secrets.toml: texts that name secrets, for whom, and their files on a host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bento_secrets.declared import Attributes, Declaration, parse_toml
from bento_secrets.errors import BadName, InputError
from bento_secrets.members import Member, effective
from bento_secrets.names import HostName, SecretName, Target, did_you_mean, printable

_ATTRIBUTES = ("owner", "group", "mode", "path", "restart", "reload")
_KEYS = ("target", "name", "text", "file", *_ATTRIBUTES)
_LISTS = ("restart", "reload")


@dataclass(frozen=True)
class DeclaredTemplate:
    """One template. Its text stands in secrets.toml (`text`), or in a file, named from the fleet folder (`file`)."""

    declaration: Declaration
    text: str | None
    file: str | None


def parse_templates(text: str, file: str = "secrets.toml") -> tuple[DeclaredTemplate, ...]:
    """The templates in their order; InputError naming `file` and the table. The [[secret]] tables are not looked at."""
    content = parse_toml(text, file)
    tables = content.get("template", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{file}: template is no list of tables", "begin each template with a line [[template]]")
    templates: dict[tuple[Target, SecretName], DeclaredTemplate] = {}
    for number, table in enumerate(tables, start=1):
        one = _parse_table(table, f"{file}, [[template]] number {number}")
        key = (one.declaration.target, one.declaration.name)
        if key in templates:
            raise InputError(f"{file}: the template {key[1]} for {key[0]} stands twice", "remove one of the two tables")
        templates[key] = one
    return tuple(templates.values())


def effective_templates(
    templates: Sequence[DeclaredTemplate], members: Sequence[Member]
) -> dict[HostName, tuple[DeclaredTemplate, ...]]:
    """Each host's templates by name, under the rules of secrets: a host's own beats its tag's; InputError."""
    known = {(one.declaration.target, one.declaration.name): one for one in templates}
    found = effective([one.declaration for one in templates], members, noun="template")
    return {
        host: tuple(known[declared.target, name] for name, declared in sorted(wanted.items()))
        for host, wanted in found.items()
    }


def _parse_table(table: Mapping[str, object], place: str) -> DeclaredTemplate:
    for key, value in table.items():
        if key not in _KEYS:
            hints = did_you_mean(key, _KEYS) or (f"known are {', '.join(_KEYS)}",)
            raise InputError(f"{place}: unknown key '{printable(key)}'", *hints)
        if key in _LISTS:
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise InputError(
                    f"{place}, {key}: should be a list of strings", "correct it there, then: bento secret check"
                )
        elif not isinstance(value, str):
            raise InputError(f"{place}, {key}: should be a string", "correct it there, then: bento secret check")
    for key in ("target", "name"):
        if key not in table:
            raise InputError(f"{place}: the template has no {key}", f'add a line: {key} = "…"')
    if ("text" in table) == ("file" in table):
        raise InputError(f"{place}: a template has either a text or a file", 'for example: file = "templates/app.env"')
    said: dict[str, Any] = {key: table[key] for key in _ATTRIBUTES if key in table}
    try:
        declaration = Declaration(Target.parse(str(table["target"])), SecretName.parse(str(table["name"])))
        declaration = Attributes.parse(**said).over(declaration)
    except BadName as error:
        raise InputError(f"{place}: {error.message}", *error.hints) from None
    if "text" in table:
        return DeclaredTemplate(declaration, str(table["text"]), None)
    return DeclaredTemplate(declaration, None, _parse_file(str(table["file"]), place))


def _parse_file(text: str, place: str) -> str:
    if any(part in ("", ".", "..") for part in text.split("/")) or not text.isprintable():
        raise InputError(
            f"{place}, file: '{printable(text)}' is no path below the fleet folder", "for example: templates/app.env"
        )
    return text
