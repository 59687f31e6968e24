"""`bento secret edit`: open into RAM, let the person's editor work there, seal what it left."""

import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.process import attend
from bento.adapters.ramfolder import ram_folder
from bento.admin.inventory import Fleet
from bento.admin.secret_changes import add_given
from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento.names import HostName, SecretName, Target, printable
from bento_secrets.declared import Attributes
from bento_secrets.limits import LIMITS
from bento_secrets.sealing import Opener, Plaintext
from bento_secrets.store import NewSecret

_VIM = ("-n", "-i", "NONE", "--cmd", "silent! set nobackup nowritebackup noswapfile viminfo=")
_VIM_LAST = ("-c", "silent! set nobackup nowritebackup noswapfile", "-c", "silent! set noundofile")
_EMACS = ("--eval", "(setq make-backup-files nil auto-save-default nil create-lockfiles nil)")
_KNOWN = "vim, nvim, nano, emacs, joe, micro and kak"
# What keeps an editor from writing the text anywhere but into its file: swap, backup, undo, history.
_QUIET: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("vim", "vim.basic", "vim.tiny", "vim.nox", "vim.gtk3", "nvim"), (*_VIM, *_VIM_LAST)),
    "gvim": ("-f", *_VIM, *_VIM_LAST),  # without -f it would go on alone, after its file has gone
    "nano": ("--ignorercfiles",),
    **dict.fromkeys(("emacs", "emacs-nox", "emacs-gtk"), _EMACS),
    **dict.fromkeys(("joe", "jmacs", "jstar", "jpico", "rjoe"), ("-nobackups", "-nodeadjoe")),
    "micro": tuple(
        word for option in ("backup", "permbackup", "saveundo", "savehistory") for word in (f"-{option}", "false")
    ),
    "kak": (),  # it writes nothing else
}


@dataclass(frozen=True)
class Editor:
    """The command; `known` if it leaves no copies: its arguments see to that."""

    argv: tuple[str, ...]
    known: bool


def edit_secret(
    fleet: Fleet,
    target: Target,
    name: SecretName,
    identities: Sequence[Opener],
    clock: Callable[[], int],
    warn: Callable[[str], None],
) -> tuple[HostName, ...]:
    """Edit the content; the hosts it was sealed for, none if it is what it was. `clock` gives UTC seconds.

    Raises OpenFailed, InputError, EnvironmentFailed without an editor or RAM, WorkFailed if the editor fails; nothing
    was changed then.
    """
    before = fleet.store.open(target, name, fleet.members, identities)
    if before.declaration.target != target:
        theirs = before.declaration.target
        raise InputError(f"{target} gets {name} from {theirs}", f"edit it there: bento secret edit {theirs} {name}")
    editor = find_editor(os.environ)
    with ram_folder() as folder:
        if folder.warning is not None:
            warn(folder.warning)
        if not editor.known:
            name_ = printable(Path(editor.argv[0]).name)
            warn(f"{name_} may keep the text elsewhere, as backup or history; {_KNOWN} are known to keep none")
        file = folder.path / name.split("/")[-1]
        _write(file, before.plaintext.data)
        code = attend([*editor.argv, str(file)], _environment(folder.path))
        if code != 0:
            how = f"exited with {code}" if code > 0 else f"was ended by signal {-code}"
            raise WorkFailed(
                f"the editor {editor.argv[0]} {how}, so nothing was changed",
                "name another editor: export EDITOR=vi",
            )
        after = _read(file)
    if after.data == before.plaintext.data:
        return ()
    if not after.data:
        raise InputError(
            "the file came back empty, so nothing was changed",
            f"if it should be empty: bento secret add {target} /dev/null --name {name} --replace",
        )
    item = NewSecret(target, name, Attributes(), after)
    return add_given(fleet, [item], warn, replace=True, now=clock(), seen=before.state)[0]


def find_editor(environment: Mapping[str, str]) -> Editor:
    """The person's editor with arguments that keep it from leaving copies. Raises EnvironmentFailed."""
    for variable in ("VISUAL", "EDITOR"):
        try:
            argv = shlex.split(environment.get(variable, ""))
        except ValueError:
            raise EnvironmentFailed(
                f"{variable} is no command: a quote isn't closed", f"set it: export {variable}=vim"
            ) from None
        if argv:
            break
    else:
        argv = [name for name in ("nano", "vim", "vi") if shutil.which(name)][:1]
    if not argv:
        raise EnvironmentFailed("there is no editor here", "name yours: export EDITOR=vim")
    found = shutil.which(argv[0])
    if found is None:
        raise EnvironmentFailed(
            f"there is no program {printable(argv[0])}, which {variable} names", f"name another: export {variable}=vim"
        )
    known = (Path(argv[0]).name, Path(found).resolve().name)  # `vi` is often a link to vim
    quiet = next((_QUIET[name] for name in known if name in _QUIET), None)
    # Before the person's own arguments: `vim -c COMMAND -c wq` would be gone before it had heard the rest.
    return Editor((argv[0], *(quiet or ()), *argv[1:]), known=quiet is not None)


def _environment(folder: Path) -> dict[str, str]:
    """Where editors put what outlives the file, and temporary copies: into the same RAM."""
    moved = ("TMPDIR", "TMP", "TEMP", "XDG_STATE_HOME", "XDG_CACHE_HOME")
    return {**os.environ, **dict.fromkeys(moved, str(folder))}


def _write(file: Path, data: bytes) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
    except OSError as error:
        raise EnvironmentFailed(
            f"can't write to {file.parent}: {error.strerror}",
            f"see how full it is: df -h {shlex.quote(str(file.parent))}",
        ) from None


def _read(file: Path) -> Plaintext:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as handle:
            return Plaintext(handle.read(LIMITS.MAX_SECRET + 1))
    except OSError as error:
        raise WorkFailed(
            f"the editor left no file, so nothing was changed: {error.strerror}",
            "name another editor: export EDITOR=vi",
        ) from None
