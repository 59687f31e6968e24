"""Templates: a text that names secrets, `{{ secret "NAME" }}`, and what it becomes on the host. The text is no secret.

Nothing else may follow `{{`: no blanks more or less, no logic, no way to write the braces themselves. So a slip is an
error on the admin's machine, never a file with `{{` in it on a host.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bento_secrets.errors import BadName, InputError
from bento_secrets.limits import LIMITS
from bento_secrets.names import SecretName, printable

_REFERENCE = re.compile(r'\{\{ secret "([^"\n{}]+)" \}\}')
_FORM = 'write it exactly so: {{ secret "NAME" }}'


@dataclass(frozen=True)
class Template:
    """A text taken apart: each piece of it with the secret that comes after; None after the last."""

    pieces: tuple[tuple[str, SecretName | None], ...]

    @property
    def secrets(self) -> tuple[SecretName, ...]:
        """The secrets that are named, each once, in their order."""
        return tuple(dict.fromkeys(name for _, name in self.pieces if name is not None))


def parse_template(text: str, where: str) -> Template:
    """The template; InputError naming `where` (for example `the template app.env`) and the line of the text."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{where} isn't UTF-8", "take it out of the template: a program can read the secret's own file"
            ) from None
    pieces: list[tuple[str, SecretName | None]] = []
    at = 0
    while (start := text.find("{{", at)) >= 0:
        line = text.count("\n", 0, start) + 1
        found = _REFERENCE.match(text, start)
        if found is None:
            shown = printable(text[start:].split("\n", 1)[0], 40)
            raise InputError(f"{where}, line {line}: '{shown}' is no reference to a secret", _FORM)
        try:
            name = SecretName.parse(found[1])
        except BadName as error:
            raise InputError(f"{where}, line {line}: {error.message}", *error.hints) from None
        pieces.append((text[at:start], name))
        at = found.end()
    return Template((*pieces, (text[at:], None)))


def render(template: Template, contents: Mapping[SecretName, bytes], where: str) -> bytes:
    """The text with each secret's content in place, byte for byte but for one line end at its end.

    A file that a person wrote ends with a newline, which in the middle of a line of configuration is never meant.
    InputError naming `where`, which quotes no content, for a secret that isn't there or a result that is too large.
    """
    parts: list[bytes] = []
    for text, name in template.pieces:
        parts.append(text.encode())
        if name is not None:
            if name not in contents:
                raise InputError(
                    f"{where} names the secret {name}, which this host doesn't have",
                    "see what the host has: bento secret list",
                )
            parts.append(contents[name].removesuffix(b"\n"))
    # Counted before they are joined: many small references to a large secret must not fill the memory.
    size = sum(map(len, parts))
    if size > LIMITS.MAX_RENDERED:
        raise InputError(
            f"{where} becomes {size} bytes, which is too large (at most {LIMITS.MAX_RENDERED})",
            "divide it into two templates",
        )
    return b"".join(parts)
