"""A fleet that is deployed without Nix, for tests of what a deploy reads and leaves alone."""

import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bento.adapters import evaluation, nix, stamps
from bento.adapters.transport import PublishTarget
from bento.admin import publishing, workspace
from bento.admin.build import AS_USUAL, How
from bento.admin.content import Content
from bento.admin.deploy import deploy
from bento.admin.inventory import load_fleet, load_trust
from bento.admin.look import Look
from bento.admin.publishing import Deployed
from bento.names import HostName, SystemPath

START = 1_700_000_000
SYSTEM = SystemPath.parse("/nix/store/" + "a" * 32 + "-nixos-system")


class Desk:
    """A fleet that is deployed without Nix. The files are a minute old to it, unless `young`."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.clock = root, START
        self.opened: list[str] = []
        self.publish = root.parent / "publish"
        self.publish.mkdir()
        self._patch = patch
        patch.setenv("XDG_STATE_HOME", str(root.parent / "state"))
        derivation = nix.Derivation(f"{SYSTEM}.drv", str(SYSTEM))
        patch.setattr(evaluation, "alone", lambda *_: (derivation, 1))
        patch.setattr(evaluation, "together", lambda flake, *_: dict.fromkeys(flake.attributes, derivation))
        self.builds = 0
        patch.setattr(nix, "build_derivation", self._build)
        patch.setattr(nix, "require_nix", lambda: None)
        patch.setattr(nix, "version", lambda: "nix 2.8")
        patch.setattr(nix, "channel_path", lambda: None)
        self.in_store = True
        patch.setattr(workspace.Workspace, "has", lambda *_: self.in_store)
        self.young(-60)

    def _build(self, *_: object) -> SystemPath:
        self.builds += 1
        return SYSTEM

    def settle(self) -> None:
        """Deploy until nothing is left to be found out."""
        for _ in range(3):
            self.deploy()
        assert self.looked_at(self.changed) == set()

    def looked_at(self, work: Callable[[], object]) -> set[str]:
        """The hosts that a piece of work looks at more closely than their files' stamps."""
        found: set[str] = set()
        real = publishing.look_at

        def look(targets: Sequence[PublishTarget], content: Content, *rest: object) -> Look:
            found.add(content.host)
            return real(targets, content, *rest)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publishing, "look_at", look)
            work()
        return found

    def young(self, seconds: int) -> None:
        """Have a tick last so long; less than nothing makes everything old."""
        self._patch.setattr(stamps, "_TICK", seconds * 1_000_000_000)

    def deploy(self, how: How = AS_USUAL, names: Sequence[str] = ()) -> Deployed:
        self.clock += 60
        fleet = load_fleet(self.root)
        chosen = tuple(map(HostName, names)) or tuple(fleet.hosts)
        return deploy(fleet, load_trust(self.root), chosen, lambda: self.clock, lambda *_: None, how)

    def changed(self, how: How = AS_USUAL, names: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
        done = self.deploy(how, names)
        assert not done.failed
        return {name: one.changed for name, one in done.published.items() if one.changed is not None}

    def file(self, name: str = "configuration.nix") -> Path:
        return self.root / "hosts/web" / name

    def published_tree(self) -> Path:
        (found,) = (self.publish / "web/release/objects").iterdir()
        return found

    def content(self) -> dict[str, bytes]:
        """What the host web would unpack."""
        found = [path for path in (self.publish / "web/release/objects").iterdir() if tarfile.is_tarfile(path)]
        with tarfile.open(max(found, key=lambda path: path.stat().st_mtime_ns)) as tar:
            return {one.name: tar.extractfile(one).read() for one in tar if one.isreg()}  # type: ignore[union-attr]

    def reads(self, work: Callable[[], object]) -> set[str]:
        """The files of the fleet's hosts and the objects that are read for a piece of work."""
        self.opened.clear()
        real = os.open, open

        def note(path: object) -> None:
            if "/hosts/" in str(path) or "/objects/" in str(path):
                self.opened.append(Path(str(path)).name)

        def opening(path: object, *args: object, **more: object) -> object:
            note(path)
            return real[1](path, *args, **more)  # type: ignore[call-overload]

        def low(path: object, *args: object, **more: object) -> int:
            note(path)
            return real[0](path, *args, **more)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("builtins.open", opening)
            patch.setattr(os, "open", low)
            work()
        return set(self.opened)


def keeping_times(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file, and have its old mtime and size."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def edit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-3] + b"#" + data[-2:])


def put_another(path: Path) -> None:
    other = path.with_name("another")
    shutil.copy(path, other)
    edit(other)
    other.replace(path)
