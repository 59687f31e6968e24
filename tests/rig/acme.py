"""A small fleet beside another tool's folder, for imports: keys made here, sealed and opened by Debian's `age`."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from bento_secrets.identities import age_identity_of_seed
from bento_secrets.recipients import Recipient
from rig import make_ssh_key, sops, zygote
from rig.keys import KeyKind
from rig.world import PROGRAMS

PLAIN = "correct-horse-battery"
NIX = "experimental-features = nix-command\nsubstitute = false\nbuild-users-group =\n"


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and time of change."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def _elsewhere() -> str:
    """PATH without the virtual environment's programs: its `sops` is there for who asks for it by name."""
    return os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if Path(one) != PROGRAMS)


class Acme:
    """A fleet, its hosts' keys, and a folder of another tool beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fleet, self.theirs = folder, folder / "fleet", folder / "theirs"
        self.programs = folder / "programs"
        self.env = {
            "PATH": f"{self.programs}:{_elsewhere()}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "NIX_CONFIG": NIX,
        }

    def make(self) -> None:
        """The empty fleet."""
        sops.install(self.programs)
        for name in ("home", "tmp", "theirs", "keys"):
            (self.folder / name).mkdir()
        signing = str(self.key("signing"))
        self.bento("init", str(self.fleet), "--fleet", "acme", "--signing-key", signing, cwd=self.folder)

    def copy(self, folder: Path) -> "Acme":
        """The same for one test."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Acme(folder)

    def key(self, name: str, kind: KeyKind = "ed25519") -> Path:
        """A key pair's private file."""
        path = self.folder / "keys" / name
        return path if path.exists() else make_ssh_key(path, kind, f"{name}@acme", 2048 if kind == "rsa" else None).path

    def public(self, name: str) -> str:
        return self.key(name).with_name(f"{name}.pub").read_text().strip()

    def recipient(self, name: str) -> str:
        """As ssh-to-age gives it."""
        return Recipient.parse(self.public(name)).text

    def host(self, name: str, *tags: str, kind: KeyKind = "ed25519") -> None:
        key = self.key(name, kind)
        self.bento("host", "add", name, "--key-file", f"{key}.pub", *(f"--tag={tag}" for tag in tags))

    def try_bento(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = zygote.run([PROGRAMS / "bento", *args], self.env, cwd or self.fleet, b"", timeout=200)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def bento(self, *args: str, code: int = 0, cwd: Path | None = None) -> str:
        """What it printed on stdout, then stderr."""
        done = self.try_bento(*args, cwd=cwd)
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def take(self, tool: str, *args: str, code: int = 0) -> str:
        return self.bento("secret", "import", tool, str(self.theirs), *args, code=code)

    def plan(self, tool: str, *args: str) -> dict[str, list[tuple[str | None, str]]]:
        """What a dry run says: by source, target and reason."""
        done = self.try_bento("secret", "import", tool, str(self.theirs), "--dry-run", "--json", *args)
        assert done.returncode == 0, done.stderr
        rows: dict[str, list[tuple[str | None, str]]] = {}
        for row in json.loads(done.stdout)["secrets"]:
            rows.setdefault(row["from"], []).append((row["target"], row["why"]))
        return rows

    def declared(self) -> set[tuple[str, str, str]]:
        rows = json.loads(self.try_bento("secret", "list", "--json").stdout)
        assert all((row["owner"], row["group"], row["mode"]) == ("root", "root", "0400") for row in rows)
        return {(row["target"], row["name"], host["host"]) for row in rows for host in row["hosts"]}

    def opened(self, host: str, name: str, by: str | None = None) -> bytes | None:
        """A host's copy, opened by Debian's age with a host's identity; None if that can't open it."""
        key = self.key(by or host)
        private = load_ssh_private_key(key.read_bytes(), password=None)
        if isinstance(private, Ed25519PrivateKey):
            key = key.with_name(f"{key.name}.derived")
            key.write_text(age_identity_of_seed(private.private_bytes_raw()) + "\n")
        argv = ["age", "-d", "-i", str(key), str(self.fleet / f"secrets/{host}/{name}.age")]
        done = subprocess.run(argv, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def seal(self, file: str, *readers: str, content: str = PLAIN, armour: bool = False) -> None:
        """As agenix does: `age` with the SSH keys themselves, and age recipients as they are."""
        path = self.theirs / file
        path.parent.mkdir(parents=True, exist_ok=True)
        argv = ["age", "-e", *(("-a",) if armour else ()), "-o", str(path)]
        argv += [word for one in readers for word in ("-r", one if one.startswith("age1") else self.public(one))]
        subprocess.run(argv, input=content.encode(), check=True)


def unchanged(acme: Acme, work: Callable[[], object]) -> None:
    """`work` leaves every file of fleet and folder as it was."""
    before = tree(acme.fleet), tree(acme.theirs)
    work()
    assert (tree(acme.fleet), tree(acme.theirs)) == before


def identities(acme: Acme, *names: str) -> list[str]:
    return [word for name in names for word in ("--identity", str(acme.folder / "keys" / name))]
