"""What to do where a file of the fleet is gone, damaged, or in the midst of a merge."""

import shlex
from pathlib import Path

LOCK = "secrets.lock"
ELSEWHERE = "take it from another copy of the fleet's folder: this one is not in git"
_EMPTY = '{"format":1,"copies":{}}'


def in_git(folder: Path) -> bool:
    """Whether the folder is in a git work tree. No program is asked."""
    folder = folder.absolute()
    return any((above / ".git").exists() for above in (folder, *folder.parents))


def from_git(folder: Path, *names: str, commit: str = "HEAD") -> str:
    """The command that takes files of `folder` from git again; it works in any folder."""
    files = shlex.join(str(Path(folder.name, name)) for name in names)
    return f"git -C {shlex.quote(str(folder.parent))} checkout {commit} -- {files}"


def bring_back(folder: Path, name: str) -> tuple[str, ...]:
    """Hints for a file of `folder` that is gone or no use any more; "" is the folder itself."""
    hints = [f"take it from git: {from_git(folder, name)}" if in_git(folder.parent) else ELSEWHERE]
    if name == LOCK:
        path = shlex.quote(str(folder / name))
        hints.append(f"or begin it anew, then add each secret again with --replace: echo '{_EMPTY}' >{path}")
    return tuple(hints)


def merge_mark(text: str) -> int | None:
    """The 1-based line of the first mark of a git merge that isn't finished; None without one."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            return number
    return None
