"""What git tracks of a folder. Read only: the repository isn't changed, and no program that it names is started."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.process import Done, run
from bento.errors import InputError

_TIMEOUT = 60  # seconds
_SUBMODULE = "160000"  # the mode of a submodule's entry in git's index
# Set by git for its hooks: with these, git would look at another repository than that of the folder.
_REPOSITORY = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
    }
)


@dataclass(frozen=True)
class Tracked:
    """Paths below the folder, parts divided by `/`. `untracked_nix` are .nix files that git neither has nor ignores."""

    files: frozenset[str]
    submodules: tuple[str, ...]
    untracked_nix: tuple[str, ...]


def work_tree(folder: str, known: dict[str, str | None] | None = None) -> str | None:
    """The git work tree that a folder lies in: the nearest folder, it or above, with a repository's `.git`.

    `folder` is absolute; `known` keeps what was found, for the next one that is asked for.
    """
    known = {} if known is None else known
    if folder not in known:
        parent = os.path.dirname(folder)
        mark = f"{folder}/.git"
        if os.path.lexists(mark) and (os.path.isfile(mark) or os.path.exists(f"{mark}/HEAD")):
            known[folder] = folder
        else:
            known[folder] = work_tree(parent, known) if parent != folder else None
    return known[folder]


def tracked(folder: Path) -> Tracked:
    """What git tracks below a folder of a work tree.

    Raises InputError where git won't read the repository or a merge is under way, EnvironmentFailed without git.
    """
    files: set[str] = set()
    submodules: list[str] = []
    for line in _git(folder, "ls-files", "-z", "--cached", "--stage"):
        about, _, name = line.partition("\t")
        mode, _, stage = about.split(" ")
        if stage != "0":
            raise InputError(
                f"{folder} is in the middle of a merge: {name} has conflicts",
                f"git -C {shlex.quote(str(folder))} status",
            )
        if mode == _SUBMODULE:
            submodules.append(name)
        else:
            files.add(name)
    untracked = _git(folder, "ls-files", "-z", "--others", "--exclude-standard", "--", "*.nix")
    return Tracked(frozenset(files), tuple(sorted(submodules)), tuple(sorted(untracked)))


def _git(folder: Path, *args: str) -> list[str]:
    env = {name: value for name, value in os.environ.items() if name not in _REPOSITORY}
    # core.fsmonitor may name a program of the repository's.
    argv = ["git", "-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false", *args]
    done = run(argv, env={**env, "LC_ALL": "C"}, timeout=_TIMEOUT)
    if done.code != 0:
        raise _refusal(folder, done)
    return [os.fsdecode(name) for name in done.out.split(b"\0") if name]


def _refusal(folder: Path, done: Done) -> InputError:
    if b"dubious ownership" in done.err or b"is owned by someone else" in done.err:
        top = shlex.quote(work_tree(str(folder)) or str(folder))
        return InputError(
            f"git won't read {folder} for this user: the repository is somebody else's",
            f"if you trust it: git config --global --add safe.directory {top}",
        )
    return InputError(f"git can't read {folder}: {done.words()}", f"try it: git -C {shlex.quote(str(folder))} status")
