"""An admin's desk without a server or Nix: for what goes wrong before either is needed."""

import hashlib
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rig import zygote
from rig.nix import nix_env
from rig.world import PROGRAMS, said


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder: kind, mode, and content or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = bytes(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = f"{status.st_mode:o} {hashlib.sha256(content).hexdigest()}"
    return found


def refused(done: subprocess.CompletedProcess[bytes], *named: str, code: int = 2) -> str:
    """What a command said that must have failed as a person can bear it."""
    text = done.stderr.decode()
    assert done.returncode == code, said(done)
    assert text.startswith("error: "), text
    assert "\nhint: " in text, f"no hint: {text}"
    assert "Traceback" not in text
    assert " has a bug" not in text
    assert all(char.isprintable() or char == "\n" for char in text), repr(text)
    for thing in named:
        assert thing in text, f"{thing!r} is not named: {text}"
    return text


@dataclass
class Desk:
    """An admin's machine: a fleet with the hosts web and db, a publish folder, a home, all below `folder`."""

    folder: Path

    @property
    def fleet(self) -> Path:
        return self.folder / "fleet"

    @property
    def publish(self) -> Path:
        return self.folder / "publish"

    @property
    def settings(self) -> Path:
        return self.fleet / "bento.toml"

    @property
    def env(self) -> dict[str, str]:
        """What its programs get; never this machine's own home, state or Nix store."""
        return {
            **nix_env(self.folder / "home"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "NIX_REMOTE": f"local?root={self.folder.parent / 'store'}",
        }

    def bento(
        self, *args: str, stdin: bytes = b"", path: str | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        env = self.env
        if path is not None:
            env["PATH"] = path
        return zygote.run([PROGRAMS / "bento", *args], env, cwd or self.fleet, stdin, timeout=200)

    def refuses(self, *args: str, named: tuple[str, ...], stdin: bytes = b"", code: int = 2) -> str:
        """The command must fail, naming things, and leave everything as it was."""
        before = tree(self.folder)
        text = refused(self.bento(*args, stdin=stdin), *named, code=code)
        assert tree(self.folder) == before, "something was written"
        return text


def wrong(file: Path, old: str, new: str) -> None:
    """Edit a file, as a person's slip would."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def line_with(file: Path, text: str) -> int:
    """The number of the first line that begins with `text`."""
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if line.startswith(text))
