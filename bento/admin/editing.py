"""`bento secret edit`: open into RAM, let the person's editor work there, seal what it left."""

import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bento.adapters.process import attend
from bento.adapters.ramfolder import ram_folder
from bento.admin.inventory import Fleet
from bento.admin.secret_changes import add_given
from bento.errors import EnvironmentFailed, InputError, WorkFailed
from bento.names import HostName, SecretName, Target
from bento_secrets.declared import Attributes
from bento_secrets.limits import LIMITS
from bento_secrets.sealing import Opener, Plaintext
from bento_secrets.store import NewSecret

_VIM = ("-n", "-i", "NONE", "--cmd", "silent! set nobackup nowritebackup noswapfile viminfo=")
_VIM_LAST = ("-c", "silent! set nobackup nowritebackup noswapfile", "-c", "silent! set noundofile")
_EMACS = ("--eval", "(setq make-backup-files nil auto-save-default nil create-lockfiles nil)")
# What keeps an editor from writing the text anywhere but into its file: swap, backup, undo, history.
_QUIET: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("vim", "vim.basic", "vim.tiny", "vim.nox", "vim.gtk3", "nvim", "gvim"), (*_VIM, *_VIM_LAST)),
    "nano": ("--ignorercfiles",),
    "emacs": _EMACS,
    "emacs-nox": _EMACS,
}


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
    argv = editor_command(os.environ)
    with ram_folder() as folder:
        if folder.warning is not None:
            warn(folder.warning)
        file = folder.path / name.split("/")[-1]
        _write(file, before.plaintext.data)
        code = attend([*argv, str(file)], _environment(folder.path))
        if code != 0:
            how = f"exited with {code}" if code > 0 else f"was ended by signal {-code}"
            raise WorkFailed(
                f"the editor {argv[0]} {how}, so nothing was changed",
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


def editor_command(environment: Mapping[str, str]) -> list[str]:
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
        argv = [next((name for name in ("nano", "vim", "vi") if shutil.which(name)), "")]
    found = shutil.which(argv[0]) if argv[0] else None
    if found is None:
        raise EnvironmentFailed("there is no editor here", "name yours: export EDITOR=vim")
    known = (Path(argv[0]).name, Path(found).resolve().name)  # `vi` is often a link to vim
    quiet = next((_QUIET[name] for name in known if name in _QUIET), ())
    return [*argv, *quiet]


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
