"""`bento check`, the fleet folder: what Nix would copy, what hosts would get, what isn't sealed, what git has."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from shlex import quote

from bento.adapters.process import Done, run
from bento.admin.build import collect_trees
from bento.admin.check_found import Finding, Found, Unchecked, error_of
from bento.admin.inventory import LOCAL, Fleet, Host
from bento.errors import BentoError, EnvironmentFailed
from bento.names import HostName, printable

_EXAMPLE = "example"  # what `bento init` makes in hosts/
_LISTS = frozenset({"secrets.toml", "secrets.lock", ".gitignore"})
_STAGED = ".staged"  # a change of the secret store under way; it holds what is sealed
_SEALED = (b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----")
_NIX_FILE = 4 * 1024 * 1024  # bytes looked at in one .nix file
_COMMENTS = re.compile(r"#[^\n]*|/\*.*?\*/", re.DOTALL)
# Text alone can't tell what is evaluated: what a module elsewhere sets, or an `if` leaves out.
_MENTIONS = (
    (
        re.compile(r"\binitrd\s*\.\s*secrets\b|\binitrd\s*=\s*\{[^}]{0,2000}?\bsecrets\b"),
        "sets boot.initrd.secrets: the boot loader copies such files to /boot, unsealed, for each generation",
        "if it holds what must stay secret, take it out; Bento's secrets are there after the initrd only",
    ),
    (
        re.compile(r"\bboot\s*\.\s*resumeDevice\b|\bresumeDevice\s*="),
        "sets boot.resumeDevice: hibernation writes RAM, with the secrets that are open in it, to that disk",
        "take it out, or make sure that the device is encrypted",
    ),
)


def check_roots(root: Path) -> Iterator[Found]:
    """A flake at the fleet's root, or above it in the same git work tree."""
    for folder in (root, *root.parents):
        if (folder / "flake.nix").is_file():
            yield Finding(
                "error",
                "fleet",
                f"{folder / 'flake.nix'} stands above secrets/: Nix would copy the sealed files into its store",
                ("move it to a folder of its own: mkdir -p hosts/NAME && mv flake.* hosts/NAME/",)
                if folder == root
                else (f"move the fleet out of there: mv {quote(str(root))} {quote(str(folder.parent))}/",),
            )
        if (folder / ".git").exists():
            return


def check_sources(fleet: Fleet, hosts: Iterable[Host]) -> Iterator[Found]:
    """Each host's configuration: whether it can be packed, and what it mentions that leaves Bento's protection."""
    by_source: dict[Path, list[Host]] = {}
    for host in hosts:
        by_source.setdefault(host.source, []).append(host)
    for users in by_source.values():
        names = tuple(host.name for host in users)
        try:
            trees, failed = collect_trees(users, fleet)  # they share one source
        except EnvironmentFailed as error:  # which is a finding about this machine, and told there
            yield Unchecked(f"the configuration of {', '.join(names)}", error.message, error.hints)
            continue
        except BentoError as error:
            yield error_of("fleet", error, names)
            continue
        for name, why in failed.items():
            yield error_of("fleet", why, (name,))
        for tree in trees.values():
            for entry in tree.entries:
                if not entry.is_folder and entry.name.endswith(".nix"):
                    yield from _mentions(entry.source, fleet.root, names)
    used = {host.source for host in fleet.hosts.values()}
    yield from _unused(fleet.root / "hosts", used, fleet)


def _mentions(file: Path, root: Path, hosts: tuple[HostName, ...]) -> Iterator[Found]:
    with file.open("rb") as handle:
        text = handle.read(_NIX_FILE).decode("utf-8", "replace")
    text = _COMMENTS.sub(lambda comment: "\n" * comment[0].count("\n"), text)
    shown = file.relative_to(root) if file.is_relative_to(root) else file
    for pattern, what, hint in _MENTIONS:
        if found := pattern.search(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Finding("warning", "fleet", f"{shown}:{line} {what}", (hint,), hosts)


def _unused(folder: Path, used: set[Path], fleet: Fleet) -> Iterator[Found]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        taken = any(path == one or path in one.parents for one in used)
        if path.is_dir() and path.name != _EXAMPLE and not taken and path.name not in fleet.hosts:
            name = printable(path.name)
            hint = f"add it: bento host add {name} --key-file FILE"
            yield Finding("note", "fleet", f"hosts/{name} is no host's configuration", (hint,))


def check_sealed(root: Path) -> Iterator[Found]:
    """Anything in the secret store that isn't sealed. Nothing is followed, and only the first bytes are read."""
    store = root / "secrets"
    for parent, folders, files in os.walk(store):
        if Path(parent) == store:
            folders[:] = [name for name in folders if name != _STAGED]
        for name in sorted(files):
            path = Path(parent, name)
            if Path(parent) == store and name in _LISTS:
                continue
            if not name.endswith(".age"):
                why, hints = "is no sealed file, and lies in the secret store", _seal_it(path, root)
            elif not _is_sealed(path):
                why, hints = "isn't sealed, whatever its name says", _seal_it(path, root)
            else:
                continue
            yield Finding("error", "secrets", f"{printable(str(path.relative_to(root)), 300)} {why}", hints)


def _seal_it(path: Path, root: Path) -> tuple[str, ...]:
    shown = printable(str(path.relative_to(root)), 300)
    return (f"seal it: bento secret add TARGET {shown} --name NAME", f"then remove it: shred -u {shown}")


def _is_sealed(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as handle:
            return handle.read(64).startswith(_SEALED)
    except OSError:
        return False


def check_git(root: Path) -> Iterator[Found]:
    """What git has that it shouldn't, and what it hasn't yet. Nothing is written, the index neither."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        hint = f"keep its history: git init {quote(str(root))}"
        yield Finding("note", "fleet", "the fleet is not in git: a sealed file that is lost is lost", (hint,))
        return
    try:
        tracked = _git(root, "ls-files", "-z", "--", "secrets", LOCAL)
        changed = _git(root, "status", "--porcelain", "-z", "--", ".")
    except EnvironmentFailed as error:
        yield Unchecked("what git has of the fleet", error.message, error.hints)
        return
    for name in tracked:
        if name == LOCAL:
            hint = f"git rm --cached {LOCAL}"
            yield Finding("warning", "fleet", f"{LOCAL} is in git, and is meant for one admin only", (hint,))
        elif not name.endswith(".age") and name.removeprefix("secrets/") not in _LISTS:
            shown = printable(name, 300)
            hints = (
                f"take it out: git rm --cached {shown}",
                "then change that secret: its content stays in git's past",
            )
            yield Finding("error", "secrets", f"{shown} is in git, and isn't sealed", hints)
    if changed:
        said = f"{len(changed)} change{'s' if len(changed) > 1 else ''} of the fleet not committed"
        yield Finding("note", "fleet", said, ("see them: git status",))


def _git(root: Path, *args: str) -> list[str]:
    """What git lists, by NUL. Raises EnvironmentFailed without git, or where it won't work on this folder."""
    argv = ["git", "-C", str(root), "--no-optional-locks", "-c", "core.fsmonitor=false", *args]
    done: Done = run(argv, timeout=60)
    if done.code != 0:
        raise EnvironmentFailed(f"git says: {done.words()}", f"try it: git -C {quote(str(root))} status")
    return [os.fsdecode(name) for name in done.out.split(b"\0") if name]
