"""Real parts for integration tests: Nix in a private root, OpenSSH's sshd, system users, searches for leaked secrets.

Everything here but the searches needs root, and leaves nothing behind.
"""

from collections.abc import Callable

from rig.keys import SshKey, make_ssh_key
from rig.markers import hits, inside
from rig.nix import nix_env
from rig.root import PrivateRoot
from rig.sshd import Sshd
from rig.trace import argv_hits, execve_args, traced
from rig.users import system_user

MakeRoot = Callable[[str], PrivateRoot]  # from a name of your choice
HostUser = Callable[[str], str]  # from a word such as "a" to the name of a system user that exists

__all__ = [
    "HostUser",
    "MakeRoot",
    "PrivateRoot",
    "SshKey",
    "Sshd",
    "argv_hits",
    "execve_args",
    "hits",
    "inside",
    "make_ssh_key",
    "nix_env",
    "system_user",
    "traced",
]
