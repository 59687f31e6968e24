"""The same work by bare programs: no checks, no lists, nothing that could be undone. What Bento is measured against."""

import argparse
import hashlib
import io
import os
import shutil
import sys
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
from nacl import bindings

from bento_secrets import bech32


def derived(line: str) -> pyrage.x25519.Recipient:
    """The recipient of an ssh-ed25519 line, as ssh-to-age derives it."""
    import base64

    point = base64.b64decode(line.split()[1])[-32:]
    if not bindings.crypto_core_ed25519_is_valid_point(point):
        raise ValueError("no sound point")
    text = bech32.encode("age", bindings.crypto_sign_ed25519_pk_to_curve25519(point))
    return pyrage.x25519.Recipient.from_str(text)


def write(path: Path, content: bytes) -> None:
    """Write a file; it and its name are on the disk afterwards."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(descriptor, content)
    os.fsync(descriptor)
    os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def add(keys: Path, plaintext: Path, store: Path) -> None:
    """Derive, seal, write: `keys` holds a line `HOST KEY` for each host."""
    content = plaintext.read_bytes()
    for line in keys.read_text().splitlines():
        host, key = line.split(" ", 1)
        sealed = pyrage.encrypt(content, [derived(key)])
        (store / host).mkdir()
        write(store / host / "token.age", sealed)


def rekey(keys: Path, identity: Path, store: Path) -> None:
    """Open each file, seal it to the keys (a line each), write it back."""
    opener = pyrage.x25519.Identity.from_str(identity.read_text().strip())
    recipients = [
        pyrage.x25519.Recipient.from_str(line) if line.startswith("age1") else derived(line)
        for line in keys.read_text().splitlines()
    ]
    for path in sorted(store.rglob("*.age")):
        opened = io.BytesIO()
        with path.open("rb") as file:
            pyrage.decrypt_io(file, opened, [opener])
        write(path, pyrage.encrypt(opened.getvalue(), recipients))


def check(store: Path) -> None:
    """Read and digest each file."""
    for path in store.rglob("*.age"):
        hashlib.sha256(path.read_bytes()).hexdigest()


def install(identity: Path, objects: Path, place: Path) -> None:
    """Digest and open each file, write its content to `place`."""
    opener = pyrage.x25519.Identity.from_str(identity.read_text().strip())
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for path in objects.iterdir():
        sealed = path.read_bytes()
        if hashlib.sha256(sealed).hexdigest() != path.name:
            raise ValueError("another file")
        opened = io.BytesIO()
        pyrage.decrypt_io(io.BytesIO(sealed), opened, [opener])
        (place / path.name).touch(0o400)
        (place / path.name).write_bytes(opened.getvalue())


WORK = {"add": add, "rekey": rekey, "check": check, "install": install}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("paths", nargs="+", type=Path)
    options = parser.parse_args()
    WORK[options.work](*options.paths)
    sys.exit(0)
