"""Collect a host's tree: what may leave the fleet folder for that host, and nothing else."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.tree import Entry, check_name
from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.manifest import ConfigKind

_SKIPPED = frozenset({".git", ".direnv"})
_NIX_STORE = "/nix/store/"
# An identity in a configuration ends up world-readable in the Nix store. The patterns want key material after the
# words, so that a comment which only mentions them passes.
_PRIVATE = re.compile(
    rb"(?i:AGE-SECRET-KEY-1[0-9A-Z]{50})"
    # header lines, as an encrypted key has them; a line end, perhaps escaped in a Nix string; then the content
    rb"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
    rb"(?:(?:\n|\\n)[ \t]*[A-Za-z-]{1,40}: [^\r\n\\]{0,200}\r?)*"
    rb"(?:\s|\\[rn])+[A-Za-z0-9+/=]{20}"
    rb"|-----BEGIN PGP PRIVATE KEY"
)


@dataclass(frozen=True)
class Tree:
    """A source's files, checked. Hosts of one flake have the same."""

    kind: ConfigKind
    entries: tuple[Entry, ...]


def collect(source: Path, fleet: Path) -> Tree:
    """The files of a host's folder, symlinks inside the fleet followed. Raises InputError naming what can't go."""
    if not source.is_dir():
        shown = source.relative_to(fleet)
        raise InputError(
            f"the folder {shown} isn't there",
            f"make it, with a configuration.nix or a flake.nix in it: mkdir -p {shown}",
        )
    walk = _Walk(fleet.resolve(), source.name)
    walk.follow(source)
    walk.folder(source, "", ())
    kind = _kind(source, fleet)
    return Tree(kind, tuple(walk.entries))


def _kind(source: Path, fleet: Path) -> ConfigKind:
    if (source / "flake.nix").is_file():
        _check_lock(source, fleet)
        return "flake"
    if (source / "configuration.nix").is_file():
        return "channel"
    raise InputError(
        f"{source.relative_to(fleet)} has neither a flake.nix nor a configuration.nix",
        "put the machine's configuration there; bento init made an example in hosts/example",
    )


def _check_lock(source: Path, fleet: Path) -> None:
    """Without a lock file both sides would take whatever the inputs are that day."""
    if (source / "flake.lock").exists():
        return
    text = re.sub(r"#[^\n]*|/\*.*?\*/", "", (source / "flake.nix").read_text("utf-8", "replace"), flags=re.DOTALL)
    if re.search(r"\binputs\b\s*(=\s*\{\s*[^}\s]|\.)", text):
        shown = source.relative_to(fleet)
        raise InputError(
            f"{shown}/flake.nix has inputs but no flake.lock", f"lock them: (cd {shown} && nix flake lock)"
        )


class _Walk:
    """Gathers entries of one source."""

    def __init__(self, fleet: Path, host: str) -> None:
        self.entries: list[Entry] = []
        self._secrets = fleet / "secrets"
        self._fleet = fleet
        self._host = host  # for hints: a source is hosts/NAME unless it says otherwise
        self._bytes = 0

    def folder(self, path: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        """One folder. `above` holds the folders being walked, to notice a symlink that leads in a circle."""
        status = path.stat()
        me = (status.st_dev, status.st_ino)
        if me in above:
            raise InputError(f"{self._shown(path)} is a symlink that leads in a circle", f"rm {self._shown(path)}")
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise InputError(f"can't read {self._shown(path)}: {error.strerror}") from None
        for entry in entries:
            self._entry(Path(entry.path), prefix + entry.name, (*above, me))

    def _entry(self, path: Path, name: str, above: tuple[tuple[int, int], ...]) -> None:
        if path.name in _SKIPPED:
            return
        try:
            check_name(name)
        except InputError as error:
            raise InputError(f"{self._shown(path.parent)}: {error.message}", "rename or remove it") from None
        real = path
        if path.is_symlink():
            if path.name.startswith("result") and os.path.realpath(path).startswith(_NIX_STORE):
                return  # a build's result
            real = self.follow(path)
        if len(self.entries) >= LIMITS.tree_entries:
            raise InputError(f"{self._shown(path)}: a configuration may have {LIMITS.tree_entries} files at most")
        try:
            status = real.stat()
        except OSError as error:
            raise InputError(
                f"can't read {self._shown(path)}: {error.strerror}", "is something writing there?"
            ) from None
        if stat.S_ISDIR(status.st_mode):
            self.entries.append(Entry(name, real, is_folder=True, executable=False))
            self.folder(real, name + "/", above)
        elif stat.S_ISREG(status.st_mode):
            self._bytes += status.st_size
            if self._bytes > LIMITS.tree_bytes:
                raise InputError(f"{self._shown(path)}: a configuration may have {LIMITS.tree_bytes} bytes at most")
            self._refuse_private(path, real)
            executable = bool(status.st_mode & stat.S_IXUSR)
            self.entries.append(Entry(name, real, is_folder=False, executable=executable))
        else:
            raise InputError(f"{self._shown(path)} is neither a file nor a folder", f"rm {self._shown(path)}")

    def follow(self, path: Path) -> Path:
        """Where a path really lies. Published as root, a symlink that leads outside would leak that file."""
        target = os.path.realpath(path)
        real = Path(target)
        if not real.is_relative_to(self._fleet):
            raise InputError(
                f"{self._shown(path)} is a symlink that leads out of the fleet, to {target}",
                "copy the file into the fleet, or remove the link",
            )
        if real in (self._fleet / "bento.toml", self._fleet / "bento.local.toml"):
            raise InputError(
                f"{self._shown(path)} leads to {real.name}, which is the admin's side and goes to no host",
                "what hosts may know is in utils/trust.toml",
            )
        if real.is_relative_to(self._secrets):
            raise InputError(
                f"{self._shown(path)} leads into secrets/, which never goes into a Nix store",
                "the host opens its secrets under /run/bento/secrets/",
            )
        if not real.exists():
            raise InputError(f"{self._shown(path)} is a symlink to nothing", f"remove it: rm {self._shown(path)}")
        return real

    def _refuse_private(self, path: Path, real: Path) -> None:
        try:
            data = real.read_bytes()
        except OSError as error:
            raise InputError(f"can't read {self._shown(path)}: {error.strerror}") from None
        if _PRIVATE.search(data) or _PRIVATE.search(data.replace(b"\0", b"")):  # UTF-16 has NULs between
            raise InputError(
                f"{self._shown(path)} holds a private key: it would become world-readable in the Nix store",
                f"use bento secret add {self._host} {self._shown(path)}",
                f"then remove it here: rm {self._shown(path)}",
            )

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self._fleet)) if path.is_relative_to(self._fleet) else str(path)
