"""Accounts of this machine, and what its sshd would do for them."""

import grp
import os
import pwd
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.process import run
from bento.errors import EnvironmentFailed

_SSHD = "/usr/sbin:/sbin:/run/current-system/sw/bin"  # where sshd is that isn't in a user's PATH
_ELSEWHERE = "192.0.2.1"  # an address that is nobody's (RFC 5737): hosts come from anywhere


@dataclass(frozen=True)
class Account:
    """A user of this machine, with the names of his groups.

    `locked`: its password field says so; None where that can't be read.
    """

    name: str
    uid: int
    gid: int
    home: str
    locked: bool | None
    groups: frozenset[str] = frozenset()


def read_account(name: str) -> Account | None:
    """The account of that name; None without one."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = frozenset(_group_name(gid) for gid in os.getgrouplist(name, entry.pw_gid))
    return Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir, _locked(name), groups)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _locked(name: str, shadow: Path = Path("/etc/shadow")) -> bool | None:
    try:
        lines = shadow.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    return any(line.startswith(f"{name}:!") for line in lines)


def find_sshd() -> str | None:
    """Where sshd lies; None without it."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{_SSHD}")


def sshd_settings(sshd: str, user: str, config: Path | None = None) -> Mapping[str, str]:
    """What sshd has in force for a user who logs in from elsewhere: lower-case keywords and their values.

    A keyword that stands several times has its values on lines. Raises EnvironmentFailed, as for anybody but root.
    """
    file = () if config is None else ("-f", str(config))
    done = run([sshd, "-T", *file, "-C", f"user={user},host={_ELSEWHERE},addr={_ELSEWHERE}"], timeout=60)
    if done.code != 0:
        raise EnvironmentFailed(f"sshd doesn't tell its settings: {done.words()}", f"try it as root: {sshd} -T")
    found: dict[str, str] = {}
    for line in done.out.decode("utf-8", "replace").splitlines():
        keyword, _, value = line.partition(" ")
        found[keyword] = f"{found[keyword]}\n{value}" if keyword in found else value
    return found
