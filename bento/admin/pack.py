"""Collect a host's tree: what may leave the fleet folder, or the host's source, for that host, and nothing else."""

import os
import re
import shlex
import stat
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from shlex import quote

from bento.adapters.files import read_whole
from bento.adapters.flakes import FEATURES, inputs_of
from bento.adapters.git import Tracked, tracked, work_tree
from bento.adapters.stamps import Sight, Stamps, stamp_of
from bento.adapters.tree import Entry, check_name
from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.manifest import ConfigKind
from bento.names import Digest, listed

_BY_NAME = attrgetter("name")
_SKIPPED = frozenset({".git", ".direnv"})
_NIX_STORE = "/nix/store/"
_MARKERS = {
    "REBOOT": 'set reboot = "when-needed" for its hosts in bento.toml, and remove it',
    "SELF_UPDATE": "remove it, and name the inputs that its hosts may update in bento.toml: self_update = […]",
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
RULES = f"{_PRIVATE.pattern!r}"  # what was found in files by other rules counts for nothing


@dataclass(frozen=True)
class Tree:
    """A source's files, checked. Hosts of one flake have the same. `warnings` say what git keeps from them.

    `sight` is how they stood, where that is remembered; `packed` their tar's sha256 and size if they haven't changed.
    """

    kind: ConfigKind
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()
    sight: Sight | None = None
    packed: tuple[Digest, int] | None = None

    def is_as_seen(self) -> bool:
        """Whether the files still stand as when they were collected; what was read meanwhile is then what was seen."""
        try:
            return all(one.stamp is None or stamp_of(os.stat(one.place)) == one.stamp for one in self.entries)
        except OSError:
            return False


class Around:
    """What lies around the sources of one fleet, asked once for all of them; with `stamps`, no file is read in vain."""

    def __init__(self, fleet: Path, stamps: Stamps | None = None) -> None:
        self.fleet = fleet.resolve()
        self.stamps = stamps
        self._folders: dict[str, str] = {}
        self._inside: dict[str, bool] = {}
        self._work_trees: dict[str, str | None] = {}

    def real(self, path: str) -> str:
        """Where an absolute path really lies."""
        parent, name = os.path.split(path)
        if name in ("", ".", ".."):
            return os.path.realpath(path)
        if parent not in self._folders:
            self._folders[parent] = os.path.realpath(parent)
        found = os.path.join(self._folders[parent], name)
        return os.path.realpath(found) if os.path.islink(found) else found

    def is_inside(self, source: str) -> bool:
        """Whether a source's folder lies in one of the fleet's. In the fleet a link can lead out with nobody's word."""
        parent = os.path.dirname(source)
        if parent not in self._inside:
            self._inside[parent] = _below(self.real(parent), str(self.fleet))
        return self._inside[parent]

    def work_tree(self, folder: str) -> str | None:
        """The git work tree that a folder lies in."""
        return work_tree(folder, self._work_trees)


def collect(source: Path, fleet: Path, host: str, around: Around | None = None) -> Tree:
    """The files of a configuration's folder, symlinks inside it and the fleet followed; `host` is one that has it.

    Of a git work tree of its own only what git tracks, as Nix does. Raises InputError naming what can't go.
    """
    walk = _Walk(source, around or Around(fleet), host)
    if not walk.is_there():
        hints = () if source.is_symlink() or not walk.inside else (f"mkdir -p {shlex.quote(walk.shown(source))}",)
        raise InputError(
            f"the folder {walk.shown(source)} isn't there",
            ": ".join(("make it, with a configuration.nix or a flake.nix in it", *hints)),
        )
    return walk.tree()


def _below(path: str, folder: str) -> bool:
    """Whether a path is the folder's or the folder; both are absolute and normal."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class _Walk:
    """Gathers entries of one source. Paths are texts here: of ten thousand files pathlib's would take a second."""

    def __init__(self, source: Path, around: Around, host: str) -> None:
        self.entries: list[Entry] = []
        self._files: list[tuple[str, str]] = []  # how a person knows each, and where it really lies
        self._around = around
        self._fleet = str(around.fleet)
        self._source = str(source)
        self._real = around.real(self._source)
        self._host = host
        self._bytes = 0
        self._tracked: Tracked | None = None
        self._folders: frozenset[str] = frozenset()
        self.inside = around.is_inside(self._source)  # one that lies elsewhere was named in bento.toml

    def is_there(self) -> bool:
        """Whether the source is a folder."""
        return os.path.isdir(self._real)

    def tree(self) -> Tree:
        """What goes; only what isn't known is read."""
        began = self._around.stamps.now() if self._around.stamps is not None else 0
        self._start()
        kind, warnings = self.kind(), self.warnings()
        sight, packed = self._known(began)
        if packed is None:
            for path, real in self._files:
                self._refuse_private(path, real)
        return Tree(kind, tuple(self.entries), warnings, sight, packed)

    def _known(self, began: int) -> tuple[Sight | None, tuple[Digest, int] | None]:
        """How the files stand, and their tar if they were packed like that, in which no private key was found."""
        stamps = self._around.stamps
        if stamps is None:
            return None, None
        words = [(f"{entry.name}*" if entry.executable else entry.name, entry.stamp) for entry in self.entries]
        sight = stamps.sight(f"tree {self._real}", words, began)
        value = stamps.recall(sight)
        return sight, None if value is None else (Digest(str(value[0])), int(value[1]))

    def _start(self) -> None:
        """Walk the source."""
        if _below(self._fleet, self._real):
            raise InputError(
                f"{self.shown(self._source)} holds the fleet itself, with secrets/, which never goes into a Nix store",
                "keep the fleet in a folder beside the configuration",
            )
        self._check_place(self._source, self._real)
        top = self._around.work_tree(self._real)
        # Files of the fleet's own work tree are the fleet's, tracked or not.
        if top is not None and not (self.inside and _below(self._fleet, top)):
            self._tracked = tracked(Path(self._real))
            parents = {parent for name in self._tracked.files for parent in Path(name).parents}
            self._folders = frozenset(map(str, parents))
        status = os.stat(self._real)
        self.folder(self._real, "", ((status.st_dev, status.st_ino),))

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
            if os.path.exists(f"{self._real}/{name}"):
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
        if os.path.exists(f"{self._real}/flake.lock"):
            raise self._untracked("flake.lock")
        # By `path:` Nix takes this folder alone; from inside a git work tree it would copy all of it, secrets/ too.
        where = '"path:$PWD"' if self._tracked is None else ""
        lock = f"nix {shlex.join(FEATURES)} flake lock {where}".rstrip()
        add = " && git add flake.lock" if self._tracked is not None else ""
        raise InputError(
            f"{self.shown(self._source)}/flake.nix has inputs but no flake.lock",
            f"lock them: (cd {shlex.quote(self._real)} && {lock}{add})",
        )

    def _untracked(self, name: str) -> InputError:
        return InputError(
            f"{self.shown(self._source)}/{name} isn't tracked by git, so that no host gets it",
            f"git -C {shlex.quote(self._real)} add {name}",
        )

    def warnings(self) -> tuple[str, ...]:
        """What git keeps from hosts that they may need, and files that were settings once."""
        there = {entry.name for entry in self.entries}
        found = [
            f"{self.shown(self._source)}/{marker} does nothing here, as it did in the bash Bento; {instead}"
            for marker, instead in _MARKERS.items()
            if marker in there
        ]
        if self._tracked is None:
            return tuple(found)
        where = self.shown(self._source)
        if names := self._tracked.untracked_nix:
            found.append(
                f"{where}: git doesn't track {listed(names)}, so that no host gets it; "
                f"to add it: git -C {shlex.quote(self._real)} add {shlex.join(names[:_NAMED])}"
            )
        if names := self._tracked.submodules:
            found.append(
                f"{where}: hosts don't get the git submodule {listed(names)}, as with Nix; "
                "make it an input of the flake if they need it"
            )
        return tuple(found)

    def _is_tracked(self, path: str) -> bool:
        """`path` is where the file lies, no link on its way; it may be a link itself."""
        if self._tracked is None or not _below(path, self._real):
            return True
        name = path[len(self._real) + 1 :] or "."
        folder = os.path.isdir(path) and not os.path.islink(path)
        return name in (self._folders if folder else self._tracked.files)

    def folder(self, path: str, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        """One folder. `above` holds it and those it is walked from, to notice a symlink that leads in a circle."""
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=_BY_NAME)
        except OSError as error:
            raise InputError(
                f"can't read {self.shown(path)}: {error.strerror}", f"see whose it is: ls -ld {quote(str(path))}"
            ) from None
        for entry in entries:
            self._entry(entry, prefix + entry.name, above)

    def _entry(self, entry: os.DirEntry[str], name: str, above: tuple[tuple[int, int], ...]) -> None:
        path = entry.path
        if entry.name in _SKIPPED or (self._tracked is not None and not self._is_tracked(path)):
            return
        try:
            check_name(name)
        except InputError as error:
            raise InputError(f"{self.shown(os.path.dirname(path))}: {error.message}", "rename or remove it") from None
        real = path
        if entry.is_symlink():
            if entry.name.startswith("result") and os.path.realpath(path).startswith(_NIX_STORE):
                return  # a build's result
            real = self.follow(path)
            if not self._is_tracked(real):
                raise InputError(
                    f"{self.shown(path)} leads to {self.shown(real)}, which git doesn't track",
                    f"git -C {shlex.quote(self._real)} add {shlex.quote(real[len(self._real) + 1 :])}",
                )
        if len(self.entries) >= LIMITS.tree_entries:
            raise InputError(
                f"{self.shown(path)}: a configuration may have {LIMITS.tree_entries} files at most",
                f"see what is large: du -a --inodes {quote(str(self._source))} | sort -n | tail",
            )
        try:
            status = entry.stat(follow_symlinks=False) if real is path else os.stat(real)
        except OSError as error:
            raise InputError(
                f"can't read {self.shown(path)}: {error.strerror}", "is something writing there?"
            ) from None
        if stat.S_ISREG(status.st_mode):
            self._bytes += status.st_size
            if self._bytes > LIMITS.tree_bytes:
                raise InputError(
                    f"{self.shown(path)}: a configuration may have {LIMITS.tree_bytes} bytes at most",
                    f"see what is large: du -a {quote(str(self._source))} | sort -n | tail",
                )
            executable = bool(status.st_mode & stat.S_IXUSR)
            self._files.append((path, real))
            self.entries.append(Entry(name, real, False, executable, stamp_of(status)))
        elif stat.S_ISDIR(status.st_mode):
            here = (status.st_dev, status.st_ino)
            if here in above:
                raise InputError(
                    f"{self.shown(path)} is a symlink that leads in a circle", f"rm {quote(self.shown(path))}"
                )
            self.entries.append(Entry(name, real, is_folder=True, executable=False))
            self.folder(real, name + "/", (*above, here))
        else:
            raise InputError(f"{self.shown(path)} is neither a file nor a folder", f"rm {quote(self.shown(path))}")

    def follow(self, path: str) -> str:
        """Where a path really lies. Published as root, a symlink that leads outside would leak that file."""
        real = self._around.real(path)
        self._check_place(path, real)
        if not os.path.exists(real):
            raise InputError(f"{self.shown(path)} is a symlink to nothing", f"remove it: rm {quote(self.shown(path))}")
        return real

    def _check_place(self, path: str, real: str) -> None:
        if not _below(real, self._fleet) and (self.inside or not _below(real, self._real)):
            where = "fleet" if self.inside else "source"
            hint = f"copy the file into the {where}, or remove the link"
            if path == self._source:
                hint = f'if hosts are to get that folder, name it in bento.toml: source = "{real}"'
            raise InputError(f"{self.shown(path)} is a symlink that leads out of the {where}, to {real}", hint)
        if real in (f"{self._fleet}/bento.toml", f"{self._fleet}/bento.local.toml"):
            raise InputError(
                f"{self.shown(path)} leads to {os.path.basename(real)}, which is the admin's side and goes to no host",
                "what hosts may know is in utils/trust.toml",
            )
        if _below(real, f"{self._fleet}/secrets"):
            raise InputError(
                f"{self.shown(path)} leads into secrets/, which never goes into a Nix store",
                "the host opens its secrets under /run/bento/secrets/",
            )

    def _refuse_private(self, path: str, real: str) -> None:
        try:
            data = read_whole(real)
        except OSError as error:
            raise InputError(
                f"can't read {self.shown(path)}: {error.strerror}", f"see whose it is: ls -ld {quote(str(path))}"
            ) from None
        if _PRIVATE.search(data) or _PRIVATE.search(data.replace(b"\0", b"")):  # UTF-16 has NULs between
            raise InputError(
                f"{self.shown(path)} holds a private key: it would become world-readable in the Nix store",
                f"use bento secret add {self._host} {quote(self.shown(path))}",
                f"then remove it here: rm {quote(self.shown(path))}",
            )

    def shown(self, path: str | Path) -> str:
        """A path as a person knows it: from the fleet, or whole."""
        path = Path(path)
        return str(path.relative_to(self._fleet)) if path.is_relative_to(self._fleet) else str(path)
