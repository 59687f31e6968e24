"""What a built system declares: its `bento/secrets.json`."""

from pathlib import Path

from bento.adapters.files import read_capped
from bento.models.declaration import HostDeclaration, parse_declaration
from bento.models.limits import LIMITS

FILE = Path("bento/secrets.json")


def declaration_of(system: Path | str) -> HostDeclaration | None:
    """The declaration of the system at `system`; None where it has none, or isn't built here.

    Raises InputError for one that isn't well-formed: it was made by another version, or not by Bento's module.
    """
    return read_declaration(f"{system}/{FILE}")


def read_declaration(path: Path | str) -> HostDeclaration | None:
    """The declaration at `path`; None where there is none. Raises InputError."""
    data = read_capped(path, LIMITS.declaration, str(path))
    return None if data is None else parse_declaration(data, str(path))
