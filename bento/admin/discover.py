"""The hosts that a flake has, read from what they would get of it."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.flakes import configurations
from bento.adapters.tree import unpack, write_tar
from bento.admin.pack import collect
from bento.errors import BadName, BentoError, InputError
from bento.names import HostName


@dataclass(frozen=True)
class Found:
    """`attributes` are nixosConfigurations names, sorted; `warnings` say what git keeps from hosts."""

    attributes: tuple[str, ...]
    warnings: tuple[str, ...]


NOTHING = Found((), ())


def find_hosts(source: Path, fleet: Path) -> Found:
    """The hosts of the flake in `source`, an absolute path. `fleet` needn't be there yet.

    Nix gets the files that hosts would get, and nothing else of the folder. Raises InputError where it is no flake,
    can't be packed, or Nix can't tell; EnvironmentFailed without Nix.
    """
    tree = collect(source, fleet, "NAME")
    if tree.kind != "flake":
        raise InputError(
            f"{source} is no flake, so that it names no hosts",
            "make the fleet without it, then: bento host add NAME --key-file FILE --source DIR",
        )
    with tempfile.TemporaryDirectory(prefix="bento-") as folder:
        packed = Path(folder, "tree.tar")
        with packed.open("wb") as out:
            write_tar(tree.entries, out)
        unpack(packed, Path(folder, "tree"))
        try:
            return Found(configurations(Path(folder, "tree")), tree.warnings)
        except BentoError as error:
            raise type(error)(f"{source}: {error.message}", *error.hints) from None


def host_name_for(attribute: str) -> HostName | None:
    """The host name nearest to a name in a flake; None where there is none."""
    try:
        return HostName.parse(re.sub(r"[^a-z0-9_-]", "-", attribute.lower())[:31])
    except BadName:
        return None
