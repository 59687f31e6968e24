"""Collect a host's tree: what may leave the fleet folder, or the host's source, for that host, and nothing else."""

import os
import re
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from bento.adapters.flakes import FEATURES, inputs_of
from bento.adapters.git import Tracked, tracked, work_tree
from bento.adapters.tree import Entry, check_name
from bento.errors import InputError
from bento.models.fleet import HostTable
from bento.models.limits import LIMITS
from bento.models.manifest import ConfigKind

_SKIPPED = frozenset({".git", ".direnv"})
_NIX_STORE = "/nix/store/"
_MARKERS = {
    "REBOOT": 'set reboot = "when-needed" for its hosts in bento.toml, and remove it',
    "SELF_UPDATE": "remove it, and name the inputs that its hosts may update in bento.toml: self_update = […]"
    if "self_update" in HostTable.model_fields
    else "remove it: hosts can't update inputs by themselves yet",
}
_NAMED = 5  # files named in one warning
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
    """A source's files, checked. Hosts of one flake have the same. `warnings` say what git keeps from them."""

    kind: ConfigKind
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()


def collect(source: Path, fleet: Path, host: str) -> Tree:
    """The files of a configuration's folder, symlinks inside it and the fleet followed; `host` is one that has it.

    Of a git work tree of its own only what git tracks, as Nix does. Raises InputError naming what can't go.
    """
    walk = _Walk(source, fleet.resolve(), host)
    if not source.is_dir():
        hints = () if source.is_symlink() or not walk.inside else (f"mkdir -p {shlex.quote(walk.shown(source))}",)
        raise InputError(
            f"the folder {walk.shown(source)} isn't there",
            ": ".join(("make it, with a configuration.nix or a flake.nix in it", *hints)),
        )
    walk.start()
    return Tree(walk.kind(), tuple(walk.entries), walk.warnings())


class _Walk:
    """Gathers entries of one source."""

    def __init__(self, source: Path, fleet: Path, host: str) -> None:
        self.entries: list[Entry] = []
        self._secrets = fleet / "secrets"
        self._fleet = fleet
        self._source = source
        self._real = source.resolve()
        self._host = host
        self._bytes = 0
        self._tracked: Tracked | None = None
        self._folders: frozenset[str] = frozenset()
        # One that lies elsewhere was named in bento.toml. In the fleet a link can lead out without that.
        self.inside = source.parent.resolve().is_relative_to(fleet)

    def start(self) -> None:
        """Walk the source."""
        if self._fleet.is_relative_to(self._real):
            raise InputError(
                f"{self.shown(self._source)} holds the fleet itself, with secrets/, which never goes into a Nix store",
                "keep the fleet in a folder beside the configuration",
            )
        self.follow(self._source)
        top = work_tree(self._real)
        # Files of the fleet's own work tree are the fleet's, tracked or not.
        if top is not None and not (self.inside and self._fleet.is_relative_to(top)):
            self._tracked = tracked(self._real)
            parents = {parent for name in self._tracked.files for parent in Path(name).parents}
            self._folders = frozenset(map(str, parents))
        self.folder(self._real, "", ())

    def kind(self) -> ConfigKind:
        """What it is, by the files that go: one that git doesn't track is as good as missing."""
        names = {entry.name: entry for entry in self.entries if not entry.is_folder}
        if "flake.nix" in names:
            if "flake.lock" not in names:
                self._check_inputs(names["flake.nix"].source)
            return "flake"
        if "configuration.nix" in names:
            return "channel"
        for name in ("flake.nix", "configuration.nix"):
            if (self._real / name).exists():
                raise self._untracked(name)
        raise InputError(
            f"{self.shown(self._source)} has neither a flake.nix nor a configuration.nix",
            "put the machine's configuration there; bento init made an example in hosts/example"
            if self.inside
            else "name the folder that has it: source = …",
        )

    def _check_inputs(self, flake: Path) -> None:
        """Without a lock file both sides would take whatever the inputs are that day."""
        inputs = inputs_of(flake)
        if not inputs:  # none, or an error that the build names
            return
        if (self._real / "flake.lock").exists():
            raise self._untracked("flake.lock")
        # By `path:` Nix takes this folder alone; from inside a git work tree it would copy all of it, secrets/ too.
        where = '"path:$PWD"' if self._tracked is None else ""
        lock = f"nix {shlex.join(FEATURES)} flake lock {where}".rstrip()
        add = " && git add flake.lock" if self._tracked is not None else ""
        raise InputError(
            f"{self.shown(self._source)}/flake.nix has inputs but no flake.lock",
            f"lock them: (cd {shlex.quote(str(self._real))} && {lock}{add})",
        )

    def _untracked(self, name: str) -> InputError:
        return InputError(
            f"{self.shown(self._source)}/{name} isn't tracked by git, so that no host gets it",
            f"git -C {shlex.quote(str(self._real))} add {name}",
        )

    def warnings(self) -> tuple[str, ...]:
        """What git keeps from hosts that they may need, and files that were settings once."""
        where = self.shown(self._source)
        there = {entry.name for entry in self.entries}
        found = [
            f"{where}/{marker} does nothing here, as it did in the bash Bento; {instead}"
            for marker, instead in _MARKERS.items()
            if marker in there
        ]
        if self._tracked is None:
            return tuple(found)
        if names := self._tracked.untracked_nix:
            found.append(
                f"{where}: git doesn't track {_listed(names)}, so that no host gets it; "
                f"to add it: git -C {shlex.quote(str(self._real))} add {shlex.join(names[:_NAMED])}"
            )
        if names := self._tracked.submodules:
            found.append(
                f"{where}: hosts don't get the git submodule {_listed(names)}, as with Nix; "
                "make it an input of the flake if they need it"
            )
        return tuple(found)

    def _is_tracked(self, path: Path) -> bool:
        """`path` is where the file lies, no link on its way; it may be a link itself."""
        if self._tracked is None or not path.is_relative_to(self._real):
            return True
        name = str(path.relative_to(self._real))
        return name in (self._folders if path.is_dir() and not path.is_symlink() else self._tracked.files)

    def folder(self, path: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        """One folder. `above` holds the folders being walked, to notice a symlink that leads in a circle."""
        status = path.stat()
        me = (status.st_dev, status.st_ino)
        if me in above:
            raise InputError(f"{self.shown(path)} is a symlink that leads in a circle", f"rm {self.shown(path)}")
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise InputError(
                f"can't read {self.shown(path)}: {error.strerror}", f"see whose it is: ls -ld {quote(str(path))}"
            ) from None
        for entry in entries:
            self._entry(Path(entry.path), prefix + entry.name, (*above, me))

    def _entry(self, path: Path, name: str, above: tuple[tuple[int, int], ...]) -> None:
        if path.name in _SKIPPED or not self._is_tracked(path):
            return
        try:
            check_name(name)
        except InputError as error:
            raise InputError(f"{self.shown(path.parent)}: {error.message}", "rename or remove it") from None
        real = path
        if path.is_symlink():
            if path.name.startswith("result") and os.path.realpath(path).startswith(_NIX_STORE):
                return  # a build's result
            real = self.follow(path)
            if not self._is_tracked(real):
                raise InputError(
                    f"{self.shown(path)} leads to {self.shown(real)}, which git doesn't track",
                    f"git -C {shlex.quote(str(self._real))} add {shlex.quote(str(real.relative_to(self._real)))}",
                )
        if len(self.entries) >= LIMITS.tree_entries:
            raise InputError(
                f"{self.shown(path)}: a configuration may have {LIMITS.tree_entries} files at most",
                f"see what is large: du -a --inodes {quote(str(self._source))} | sort -n | tail",
            )
        try:
            status = real.stat()
        except OSError as error:
            raise InputError(
                f"can't read {self.shown(path)}: {error.strerror}", "is something writing there?"
            ) from None
        if stat.S_ISDIR(status.st_mode):
            self.entries.append(Entry(name, real, is_folder=True, executable=False))
            self.folder(real, name + "/", above)
        elif stat.S_ISREG(status.st_mode):
            self._bytes += status.st_size
            if self._bytes > LIMITS.tree_bytes:
                raise InputError(
                    f"{self.shown(path)}: a configuration may have {LIMITS.tree_bytes} bytes at most",
                    f"see what is large: du -a {quote(str(self._source))} | sort -n | tail",
                )
            self._refuse_private(path, real)
            executable = bool(status.st_mode & stat.S_IXUSR)
            self.entries.append(Entry(name, real, is_folder=False, executable=executable))
        else:
            raise InputError(f"{self.shown(path)} is neither a file nor a folder", f"rm {self.shown(path)}")

    def follow(self, path: Path) -> Path:
        """Where a path really lies. Published as root, a symlink that leads outside would leak that file."""
        target = os.path.realpath(path)
        real = Path(target)
        if not real.is_relative_to(self._fleet) and (self.inside or not real.is_relative_to(self._real)):
            where = "fleet" if self.inside else "source"
            hint = f"copy the file into the {where}, or remove the link"
            if path == self._source:
                hint = f'if hosts are to get that folder, name it in bento.toml: source = "{target}"'
            raise InputError(f"{self.shown(path)} is a symlink that leads out of the {where}, to {target}", hint)
        if real in (self._fleet / "bento.toml", self._fleet / "bento.local.toml"):
            raise InputError(
                f"{self.shown(path)} leads to {real.name}, which is the admin's side and goes to no host",
                "what hosts may know is in utils/trust.toml",
            )
        if real.is_relative_to(self._secrets):
            raise InputError(
                f"{self.shown(path)} leads into secrets/, which never goes into a Nix store",
                "the host opens its secrets under /run/bento/secrets/",
            )
        if not real.exists():
            raise InputError(f"{self.shown(path)} is a symlink to nothing", f"remove it: rm {self.shown(path)}")
        return real

    def _refuse_private(self, path: Path, real: Path) -> None:
        try:
            data = real.read_bytes()
        except OSError as error:
            raise InputError(
                f"can't read {self.shown(path)}: {error.strerror}", f"see whose it is: ls -ld {quote(str(path))}"
            ) from None
        if _PRIVATE.search(data) or _PRIVATE.search(data.replace(b"\0", b"")):  # UTF-16 has NULs between
            raise InputError(
                f"{self.shown(path)} holds a private key: it would become world-readable in the Nix store",
                f"use bento secret add {self._host} {self.shown(path)}",
                f"then remove it here: rm {self.shown(path)}",
            )

    def shown(self, path: Path) -> str:
        """A path as a person knows it: from the fleet, or whole."""
        return str(path.relative_to(self._fleet)) if path.is_relative_to(self._fleet) else str(path)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
