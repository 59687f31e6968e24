"""What the demo needs of the machine it runs on, looked at before anything is made."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from bento.adapters.process import missing_program
from bento.errors import EnvironmentFailed

_FROM_UTIL_LINUX = ("unshare", "nsenter", "mount", "umount", "pivot_root")
_PROGRAMS = ("nix", "nix-build", "nix-env", "nix-store", "nix-instantiate", "ssh-keygen", "bash")
_HIDDEN = (Path("/nix"), Path("/run"), Path("/demo"))  # what the demo's machines have of their own


def find_programs() -> str:
    """The PATH for the demo's machines. Raises EnvironmentFailed, with a hint, for whatever is missing."""
    if os.geteuid() != 0:
        raise EnvironmentFailed("the demo needs root: each of its machines has mounts of its own", "sudo bento demo")
    scripts = Path(sys.executable).parent
    for name in ("bento", "bento-agent"):
        if not (scripts / name).is_file():
            raise EnvironmentFailed(f"the command {name} isn't beside {sys.executable}", "install it: pip install -e .")
    # mount and pivot_root lie where an ordinary user's PATH doesn't look
    path = f"{scripts}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    for name in (*_FROM_UTIL_LINUX, *_PROGRAMS):
        found = shutil.which(name, path=path)
        if found is None:
            if name in _FROM_UTIL_LINUX:
                raise EnvironmentFailed(f"the program {name} is not installed", "install util-linux")
            raise missing_program(name)
        _refuse_hidden(f"the program {name}", Path(found))
    for python in (sys.executable, sys.prefix):
        _refuse_hidden("Python", Path(python))
    _refuse_hidden("Bento", Path(__file__))
    _refuse_hidden("the folder for temporary files", Path(tempfile.gettempdir()))
    return path


def _refuse_hidden(what: str, path: Path) -> None:
    real = path.resolve()
    for folder in _HIDDEN:
        if real.is_relative_to(folder):
            raise EnvironmentFailed(
                f"{what} lies in {real.parent}, and the demo's machines have a {folder} of their own",
                "run the demo where Nix is a package of the system, for example in a container with Debian's nix-bin",
            )
