"""What this admin's machine remembers of a fleet between commands: packed trees, GC roots, what was built from what."""

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from threading import Lock
from typing import TYPE_CHECKING

import platformdirs

from bento import __version__
from bento.adapters import nix
from bento.adapters.files import busy_lock, publish_text, read_capped, store
from bento.adapters.stamps import Stamps
from bento.adapters.tree import unpack, write_tar
from bento.adapters.verdicts import Verdicts
from bento.admin.memory import Memory
from bento.admin.pack import RULES, Tree
from bento.errors import BentoError, EnvironmentFailed, WorkFailed
from bento.models.signed import canonical, sha256
from bento.names import BadName, Digest, HostName, SystemPath

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_RECORD = 4096  # bytes


class _Nowhere(io.RawIOBase):
    """A file that forgets what is written to it."""

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer") -> int:
        return memoryview(data).nbytes


class Workspace:
    """Lies in the user's state folder, apart from the fleet; losing it costs time only."""

    def __init__(self, fleet: Path) -> None:
        tag = hashlib.sha256(os.fsencode(fleet)).hexdigest()[:12]
        # Nix takes a tree by a URL, in which a space or an # of the fleet's folder would be something else.
        name = re.sub(r"[^A-Za-z0-9._-]", "-", fleet.name)
        self.root = platformdirs.user_state_path("bento") / f"{name}-{tag}"

    def prepare(self) -> None:
        """Make the folders. Raises EnvironmentFailed."""
        try:
            for name in ("trees", "roots"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"can't make {self.root}: {error.strerror}",
                f"see whose it is: ls -ld {quote(str(_there(self.root)))}",
                "or keep it elsewhere: export XDG_STATE_HOME=FOLDER",
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands on this fleet out while trees are packed and built. Raises Busy."""
        self.prepare()
        with busy_lock(self.root / "lock", f"another build or deploy of {self.root.name}"):
            yield

    def stamps(self, *, trusting: bool = True) -> Stamps:
        """What is remembered of files that haven't changed; if not `trusting`, only to remember anew."""
        return Stamps(self.root / "stamps", f"{__version__} {RULES}", trusting=trusting)

    def verdicts(self) -> Verdicts:
        """Which documents were verified before."""
        return Verdicts(self.root / "verdicts", __version__)

    def recall(self, what: str, mark: Digest) -> str | None:
        """What was noted of this; None where it wasn't, or something else by that name since."""
        try:
            head, _, text = Path(f"{self.root}/{what}").read_bytes().partition(b"\n")
        except OSError:
            return None
        return text.decode() if head == self._head(mark, text) else None

    def note(self, what: str, mark: Digest, text: str = "") -> None:
        """Keep what was found of it. Not to keep that costs time only."""
        data = text.encode()
        with suppress(BentoError):
            store(self.root / what, self._head(mark, data) + b"\n" + data, 0o600)

    @staticmethod
    def _head(mark: Digest, text: bytes) -> bytes:
        return f"{__version__} {mark} {sha256(text)}".encode()

    @staticmethod
    def measure(tree: Tree) -> tuple[Digest, int]:
        """The sha256 and size of the tree's tar; nothing is written."""
        return tree.packed or write_tar(tree.entries, io.BufferedWriter(_Nowhere()))

    def pack(self, tree: Tree) -> tuple[Digest, int]:
        """Keep the tree as a tar and return its sha256 and size in bytes. One that is here already is not written.

        Nothing waits for the disk: whoever reads it sees by its digest whether a power cut took it. Raises
        EnvironmentFailed.
        """
        if tree.packed is not None and os.path.isfile(f"{self.root}/trees/{tree.packed[0]}.tar"):  # noqa: PTH113 — of a thousand
            return tree.packed
        folder = self.root / "trees"
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".pack-", delete=False) as out:
                temporary = Path(out.name)
                try:
                    digest, size = write_tar(tree.entries, out)
                    out.flush()
                    if not self.tar(digest).is_file():
                        temporary.replace(self.tar(digest))
                finally:
                    temporary.unlink(missing_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"can't write a configuration to {folder}: {error.strerror}",
                f"see whose it is, and how full: ls -ld {quote(str(folder))}; df -h {quote(str(folder))}",
            ) from None
        return digest, size

    def keep_tar(self, digest: Digest, data: bytes) -> None:
        """Keep a packed tree that came from elsewhere; its digest has been checked."""
        self.prepare()
        store(self.tar(digest), data, 0o644)

    def tar(self, digest: Digest) -> Path:
        """Where a packed tree lies."""
        return Path(f"{self.root}/trees/{digest}.tar")

    def tree(self, digest: Digest) -> Path:
        """Where a packed tree lies when it is unpacked."""
        return Path(f"{self.root}/trees/{digest}")

    def unpacked(self, digest: Digest) -> Path:
        """The tree unpacked, as hosts unpack it: both sides build from the same files with the same times.

        Raises WorkFailed.
        """
        tar, folder = self.tar(digest), self.tree(digest)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with tar.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError:
            whole = False
        if not whole:
            raise damaged(tar)
        unpack(tar, folder)
        return folder

    def forget_trees_except(self, keep: frozenset[Digest]) -> None:
        """Drop trees that no host has any more."""
        for path in (self.root / "trees").iterdir():
            if path.name.removesuffix(".tar") not in keep:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def gc_root(self, host: HostName) -> Path:
        """The GC root that keeps the host's newest system in this machine's Nix store."""
        return Path(f"{self.root}/roots/{host}")

    def keep_published(self, host: HostName, system: SystemPath) -> None:
        """A second GC root: what hosts may fetch from here stays, whatever is built next. No root without a build."""
        if Path(system).exists():
            nix.keep(self.root / "roots" / f"{host}.published", system)

    def memory(self) -> Memory:
        """What was published from here, read anew."""
        return Memory(self.root / "releases")

    def _record(self, host: HostName) -> Path:
        return Path(f"{self.root}/roots/.{host}.json")

    def expected(self, host: HostName, key: Digest) -> SystemPath | None:
        """The system that these inputs give, if they were the last to be built or evaluated."""
        try:
            record = json.loads(read_capped(self._record(host), _RECORD, f"what was built for {host}") or b"")
            return SystemPath.parse(record["system"]) if record["key"] == key else None
        except (BentoError, ValueError, KeyError, TypeError, BadName):
            return None

    def built(self, host: HostName, key: Digest) -> SystemPath | None:
        """The system built from these inputs, if that was the last build and the Nix store still has it."""
        system = self.expected(host, key)
        return system if system is not None and self.has(host, system) else None

    def has(self, host: HostName, system: SystemPath) -> bool:
        """Whether this is the host's newest system, and still in the Nix store."""
        try:
            return os.readlink(f"{self.root}/roots/{host}") == system and os.path.exists(system)  # noqa: PTH110, PTH115
        except OSError:
            return False

    def remember(self, host: HostName, key: Digest, system: SystemPath) -> None:
        """Note what these inputs gave. A power cut may take it: then the host is built again."""
        publish_text(self._record(host), canonical({"key": key, "system": system}).decode())


def damaged(tar: Path) -> WorkFailed:
    """What to say of a packed tree that isn't what its name says; it is forgotten."""
    tar.unlink(missing_ok=True)
    return WorkFailed(f"the packed configuration {tar} was damaged", "pack it anew: bento deploy")


def _there(path: Path) -> Path:
    """The nearest of the folders above it that is there."""
    return next(folder for folder in path.parents if folder.is_dir())


class Unpacking:
    """Unpacks a tree when it is first needed: of a thousand hosts, beside the evaluations and not before them all."""

    def __init__(self, workspace: Workspace, digest: Digest) -> None:
        self._workspace = workspace
        self._digest = digest
        self._lock = Lock()
        self._done = False

    def __call__(self) -> None:
        """Raises WorkFailed, to each that asks."""
        with self._lock:
            if not self._done:
                self._workspace.unpacked(self._digest)
                self._done = True
