"""Where the fleet is."""

import os
from pathlib import Path

import click

from bento.admin.inventory import find_fleet
from bento.errors import InputError


def fleet_root(context: click.Context) -> Path:
    """The fleet folder: --dir, else BENTO_DIR, else upwards from here."""
    named = context.find_root().params.get("directory") or os.environ.get("BENTO_DIR")
    if named and Path(named).is_absolute():
        return find_fleet(Path(named), Path(named))
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise InputError("the working folder is gone", "go to the fleet first: cd DIR") from None
    return find_fleet(here, Path(named).absolute() if named else None)
