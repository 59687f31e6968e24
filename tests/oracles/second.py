"""The store's format once more, from secrets/README.md alone: with the standard library and the `age` command.

It imports nothing of Bento, and is small: ed25519 host keys, one secret at a time, and of the checks only whether a
copy is the one that the lock names.
"""

import base64
import fcntl
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHARS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_P = 2**255 - 19


def bech32(prefix: str, data: bytes) -> str:
    """BIP 173's text for `data`, in lower case."""
    bits, total = int.from_bytes(data, "big"), len(data) * 8
    pad = -total % 5
    words = [(bits << pad) >> shift & 31 for shift in range(total + pad - 5, -1, -5)]
    check = 1
    spread = [*(ord(char) >> 5 for char in prefix), 0, *(ord(char) & 31 for char in prefix)]
    for word in [*spread, *words, *[0] * 6]:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ word
        for number, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> number & 1 else 0
    words += [(check ^ 1) >> 5 * (5 - number) & 31 for number in range(6)]
    return f"{prefix}1" + "".join(_CHARS[word] for word in words)


def recipient(ssh: str) -> str:
    """`age1…` of an ssh-ed25519 public line: u = (1 + y) / (1 - y)."""
    y = int.from_bytes(base64.b64decode(ssh.split()[1])[-32:], "little") & (1 << 255) - 1
    return bech32("age", ((1 + y) * pow(1 - y, -1, _P) % _P).to_bytes(32, "little"))


def identity(seed: bytes) -> str:
    """`AGE-SECRET-KEY-1…` of an ed25519 key's seed."""
    return bech32("age-secret-key-", hashlib.sha512(seed).digest()[:32]).upper()


@contextmanager
def _locked(store: Path, how: int) -> Iterator[None]:
    folder = os.open(store, os.O_RDONLY)
    try:
        fcntl.flock(folder, how)
        yield
    finally:
        os.close(folder)


class Reader:
    """What lies in the store, a change that was cut after its commit included."""

    def __init__(self, store: Path) -> None:
        self._store = store
        plan = store / ".staged/plan"
        self._plan: dict[str, str | None] = json.loads(plan.read_text())["files"] if plan.exists() else {}

    def read(self, path: str) -> bytes:
        """A file of the store."""
        number = self._plan.get(path, path)
        if number is None:
            raise FileNotFoundError(path)
        staged = self._store / ".staged" / number
        return (staged if path in self._plan and staged.exists() else self._store / path).read_bytes()

    def copies(self) -> dict[str, dict[str, Any]]:
        """The lock, by HOST/NAME."""
        lock = json.loads(self.read("secrets.lock"))
        assert lock["format"] == 1
        return dict(lock["copies"])

    def ciphertext(self, key: str) -> bytes:
        """A copy that is what the lock says."""
        content = self.read(f"{key}.age")
        assert hashlib.sha256(content).hexdigest() == self.copies()[key]["sha256"], key
        return content


def open_all(store: Path, host: str, seed: bytes) -> dict[str, bytes]:
    """By name, what a host's secrets say."""
    with _locked(store, fcntl.LOCK_SH), tempfile.NamedTemporaryFile("w", dir="/dev/shm") as file:
        file.write(identity(seed))
        file.flush()
        reader, found = Reader(store), {}
        for key in reader.copies():
            if key.startswith(f"{host}/"):
                argv = ["age", "-d", "-i", file.name]
                done = subprocess.run(argv, input=reader.ciphertext(key), capture_output=True, check=True)
                found[key.partition("/")[2]] = done.stdout
    return found


def add(store: Path, target: str, name: str, content: bytes, hosts: dict[str, str], now: int, *, cut: bool) -> None:
    """Seal for `hosts` (public lines by name), as one change. `cut`: stop just after its commit."""
    with _locked(store, fcntl.LOCK_EX):
        copies = Reader(store).copies()
        files: dict[str, bytes] = {}
        for host, line in hosts.items():
            argv = ["age", "-e", "-r", recipient(line)]
            sealed = subprocess.run(argv, input=content, capture_output=True, check=True).stdout
            files[f"{host}/{name}.age"] = sealed
            copies[f"{host}/{name}"] = {
                "sha256": hashlib.sha256(sealed).hexdigest(),
                "recipients": [recipient(line)],
                "sealed": now,
                "must_rotate": False,
                "target": target,
            }
        lines = [f"{json.dumps(key)}:{json.dumps(copies[key], separators=(',', ':'))}" for key in sorted(copies)]
        files["secrets.lock"] = ('{"format":1,"copies":{\n' + ",\n".join(lines) + "\n}}\n").encode()
        table = f'\n[[secret]]\ntarget = "{target}"\nname = "{name}"\n'
        files["secrets.toml"] = (store / "secrets.toml").read_bytes() + table.encode()
        _commit(store, files, cut=cut)


def _commit(store: Path, files: dict[str, bytes], *, cut: bool) -> None:
    staged = store / ".staged"
    staged.mkdir()
    for number, content in enumerate(files.values()):
        (staged / str(number)).write_bytes(content)
    plan = {"format": 1, "files": {path: str(number) for number, path in enumerate(files)}}
    (staged / "plan.new").write_text(json.dumps(plan))
    (staged / "plan.new").rename(staged / "plan")
    if cut:
        return
    for number, path in enumerate(files):
        (store / path).parent.mkdir(exist_ok=True, parents=True)
        (staged / str(number)).rename(store / path)
    (staged / "plan").unlink()
    staged.rmdir()
