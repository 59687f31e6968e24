"""The base of what is signed: one line of canonical JSON. A manifest, a report and a heartbeat are such lines."""

from typing import Literal, TypeVar

from pydantic import ValidationError

from bento.errors import InputError
from bento.models.fields import Frozen
from bento.models.signed import canonical
from bento.names import printable

L = TypeVar("L", bound="SignedLine")


class SignedLine(Frozen):
    """A document of format 1. A field at its default is left out of its line, and may not stand in it.

    So a field that is added later changes no line that doesn't use it: an older Bento takes those, and a newer one what
    an older one has written (docs/decisions/0024).
    """

    format: Literal[1] = 1

    @property
    def line(self) -> bytes:
        """The canonical JSON line that is signed, with its newline."""
        return canonical({"format": self.format, **self.model_dump(mode="json", exclude_defaults=True)})


def parse_line(model: type[L], line: bytes, what: str, *, known: bool = False) -> L:
    """The document of a line whose signature was verified. Raises InputError for any but the canonical spelling.

    `known`: the spelling of these bytes was looked at before.
    """
    try:
        parsed = model.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = printable(".".join(str(part) for part in first["loc"])) or "document"
        raise InputError(f"{what}'s {where} is wrong: {printable(first['msg'])}") from None
    if not known and parsed.line != line:
        # Duplicate keys and other spellings of the same thing have no place in what is signed.
        raise InputError(f"{what} is not in canonical form")
    return parsed
