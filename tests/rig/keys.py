"""SSH key pairs, made by ssh-keygen as a person makes them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

KeyKind = Literal["ed25519", "rsa", "ecdsa"]


@dataclass(frozen=True)
class SshKey:
    """A key pair on disk. `line` is the public half with its comment, without a newline."""

    path: Path
    line: str


def make_ssh_key(path: Path, kind: KeyKind = "ed25519", comment: str = "", bits: int | None = None) -> SshKey:
    """Make `path` and `path`.pub without a passphrase. `bits` is for RSA and ECDSA."""
    size = () if bits is None else ("-b", str(bits))
    argv = ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return SshKey(path, path.with_name(f"{path.name}.pub").read_text().strip())
