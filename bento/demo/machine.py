"""A throw-away machine: the real one's file system, but a /nix, a /run, a home and processes of its own.

It is a mount and a PID namespace, so it is gone, with every mount and process in it, when its first process ends; that
one waits for the end of a pipe which this process holds, and so outlives it in no case. Needs root.
"""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bento.adapters.process import Done, run
from bento.errors import EnvironmentFailed
from bento_secrets.ramdisk import Mount, parse_mountinfo

HOME = Path("/demo")  # where its home is, seen from inside
_PATIENCE = 10  # seconds for its end
_LONGEST = 120  # seconds that one command may take

_NIX_CONFIG = """\
experimental-features = nix-command flakes
substitute = false
substituters =
sandbox = false
build-users-group =
"""

# A new root of bind mounts: everything of this machine but the folders named in $2, which are those of $1, so that the
# real root needs none of them. It is pivot_root and not chroot: Nix goes back to the root of its mount namespace.
# The holder is `cat`: its stdin is a pipe from here, so it ends when we do. The tests' machines are made by it too.
HOLD = """
set -eu
new=$1/root
mount -t tmpfs -o mode=755 tmpfs "$new"
for entry in /*; do
    case " $2 " in *" ${entry#/} "*) continue ;; esac
    if [ -L "$entry" ]; then cp -P "$entry" "$new/"
    elif [ -d "$entry" ]; then mkdir "$new$entry"; mount --rbind "$entry" "$new$entry"
    fi
done
for own in $2; do
    mkdir "$new/$own"
    mount --bind "$1/$own" "$new/$own"
done
mkdir "$new/.old"
cd "$new"
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
umount -l "$new" # the new root has bound a copy of itself
echo ready
exec cat >/dev/null
"""


class Machine:
    """Its /nix, /run and home lie in `folder`, which is made. `path` is its PATH, `nixpkgs` its channel."""

    def __init__(self, name: str, folder: Path, path: str, nixpkgs: Path) -> None:
        self.name = name
        self.folder = folder
        for part in ("nix/var/nix/profiles", "run", "demo", "root", "tmp"):
            (folder / part).mkdir(parents=True)
        # A whole environment: nothing of the user's reaches a command, no ssh-agent and no BENTO_DIR.
        self._env = {
            "PATH": path,
            "HOME": str(HOME),
            "LANG": "C.UTF-8",
            "TMPDIR": str(folder / "tmp"),
            "NIX_CONFIG": _NIX_CONFIG,
            "NIX_PATH": f"nixpkgs={nixpkgs}",
        }
        self._first = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def home(self) -> Path:
        """Its home, seen from outside."""
        return self.folder / "demo"

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, cwd: Path = HOME) -> Done:
        """Run a command on it to its end."""
        spaces = f"/proc/{self._first.pid}/ns"
        # nsenter before 2.39 has no folder that is looked up inside
        enter = ["nsenter", f"--mount={spaces}/mnt", f"--pid={spaces}/pid_for_children", "--", "env", f"--chdir={cwd}"]
        return run([*enter, *argv], stdin=stdin, env=self._env, timeout=_LONGEST)

    def path(self, inside: str | Path) -> Path:
        """Where a path of it can be read from outside, also what is on its tmpfs. Absolute symlinks lead elsewhere."""
        return Path(f"/proc/{self._first.pid}/root{inside}")

    def link(self, inside: str) -> str | None:
        """What a symlink of it says; None where there is none."""
        try:
            return str(self.path(inside).readlink())
        except OSError:
            return None

    def mounts(self) -> list[Mount]:
        """Its mounts, as the kernel tells them."""
        return parse_mountinfo(Path(f"/proc/{self._first.pid}/mountinfo").read_text("utf-8", "surrogateescape"))

    def stop(self) -> None:
        """End it, and wait until all its processes are gone. Its folder stays."""
        first = self._first
        if first.stdin is not None:
            first.stdin.close()
        try:
            first.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            first.kill()  # the kernel then kills the others (unshare --kill-child)
            first.wait()
        finally:
            if first.stdout is not None:
                first.stdout.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        # In a session of its own: Ctrl-C is for us, and we tidy up.
        first = subprocess.Popen(
            [*argv, "sh", "-c", HOLD, "machine", str(self.folder), "nix run demo"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._env,
            start_new_session=True,
        )
        said = b""
        try:
            said = first.stdout.readline() if first.stdout is not None else b""
            if said == b"ready\n":
                return first
            with suppress(OSError, subprocess.TimeoutExpired):
                said += first.communicate(timeout=_PATIENCE)[0]
        finally:
            if said != b"ready\n":
                first.kill()
                first.wait()
        raise EnvironmentFailed(
            f"can't make the machine {self.name}: {said.decode('utf-8', 'replace').strip()}",
            "the demo needs leave to mount: in a container, a privileged one",
        )
