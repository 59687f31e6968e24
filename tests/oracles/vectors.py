"""secrets/vectors/, read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bento_secrets import armor

FOLDER = Path(__file__).parents[2] / "secrets" / "vectors"
_ALL: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text())


@dataclass(frozen=True)
class Sealed:
    """A sealed file: who opens it, by their seeds, and what it then says; `refused` says why no host may."""

    name: str
    to: tuple[str, ...]
    plaintext: bytes
    refused: str | None

    @property
    def text(self) -> str:
        return (FOLDER / "sealed" / f"{self.name}.txt").read_text()

    @property
    def binary(self) -> bytes:
        return armor.dearmor(self.text.encode())


ACCEPTED: list[dict[str, str]] = _ALL["accepted"]
REFUSED_KEYS: list[dict[str, str]] = _ALL["refused_keys"]
REFUSED_RECIPIENTS: list[dict[str, str]] = _ALL["refused_recipients"]
SEALED = [
    Sealed(Path(one["file"]).stem, tuple(one["to"]), one.get("plaintext", "").encode(), one.get("refused"))
    for one in _ALL["sealed"]
]
OPENABLE = [one for one in SEALED if one.refused is None]
ED25519 = [one for one in ACCEPTED if one["ssh"].startswith("ssh-ed25519 ")]
