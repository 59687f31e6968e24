"""`bento server apply`: make this machine the SFTP server of the fleet. On NixOS nix/server.nix does the same.

`plan` looks, and says what differs from what is wished; `apply` does it, step by step. Doing it again does nothing.
Whether sshd then has in force what it should is `check_server`'s to say (admin/check_server.py).
"""

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bento.adapters.accounts import find_sshd
from bento.adapters.files import read_capped, store
from bento.adapters.process import run
from bento.admin.check_found import Finding
from bento.admin.check_server import check_way
from bento.admin.inventory import Fleet
from bento.admin.server_quotas import quotas
from bento.core.server_wish import (
    DROP_IN,
    HOSTS_GROUP,
    KEYS,
    PUBLISHER,
    ServerWish,
    WantedFolder,
    drop_in,
    folders,
    key_files,
)
from bento.errors import EnvironmentFailed, InputError, WorkFailed

_FOLDER = Path("/home/chroot")
_NOLOGIN = "/usr/sbin/nologin"
_FIRST_PERSON = 1000  # people's accounts begin here on the usual distributions (login.defs)
_PRIVSEP = ("a folder that is missing in /run comes with the service: systemctl start ssh",)
_SMALL = 1024 * 1024  # bytes of a configuration file that are read
_SSHD_CONFIG = Path("/etc/ssh/sshd_config")


@dataclass(frozen=True)
class Step:
    """One thing to do: as a person would type it, and doing it."""

    shown: str
    do: Callable[[], None]


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what can't be had here: a sentence, and hints after it; nothing where all can."""

    steps: tuple[Step, ...]
    lacking: tuple[str, ...] = ()


def wish_of(fleet: Fleet) -> ServerWish:
    """What bento.toml asks of the server. Raises InputError."""
    server = fleet.file.server
    local = next((to for to in fleet.publish_to if isinstance(to, Path)), None)
    folder = Path(server.folder) if server.folder is not None else local or _FOLDER
    if not folder.is_absolute() or any(char.isspace() or char in '%"\\' for char in str(folder)):
        raise InputError(
            f"bento.toml: the hosts' folders can't lie in {folder}: sshd's settings have no way to name it",
            'name a plain, absolute path: [server] folder = "/home/chroot"',
        )
    return ServerWish(folder, {name: host.keys for name, host in fleet.hosts.items()}, server.publishers, server.quota)


def serves_here(fleet: Fleet) -> bool:
    """Whether this machine is the fleet's server: hosts of it have accounts here that Bento made."""
    return bool((_members(HOSTS_GROUP) or frozenset()) & set(fleet.hosts))


def plan(wish: ServerWish) -> Plan:
    """What is to be done on this machine. Raises InputError, EnvironmentFailed where it can't be done here."""
    if Path("/etc/NIXOS").exists():
        raise EnvironmentFailed(
            "this machine is NixOS, whose accounts and sshd its configuration makes",
            "use the module: nix/server.nix (docs/nixos.md)",
        )
    if find_sshd() is None:
        raise EnvironmentFailed("there is no sshd on this machine", "install it (Debian: apt install openssh-server)")
    _check_include()
    _check_way(wish.folder)
    # Quotas come last: where the file system disappoints, all else is done.
    limits = quotas(wish)
    last = () if limits.shown is None or limits.do is None else (Step(limits.shown, limits.do),)
    return Plan((*_accounts(wish), *_folders(wish), *_keys(wish), *_sshd(wish), *last), limits.lacking)


def _check_way(folder: Path) -> None:
    for one in check_way(folder.parent):
        if isinstance(one, Finding):
            raise InputError(one.message, 'name one below folders of root alone: [server] folder = "/home/chroot"')


def apply(steps: tuple[Step, ...], say: Callable[[str], None]) -> None:
    """Do the steps, as root. Raises EnvironmentFailed, WorkFailed at the first that fails; run it again then."""
    if os.geteuid() != 0:
        raise EnvironmentFailed(
            "only root can make accounts and change sshd's settings",
            "see what it would do: bento server apply --dry-run",
            "then: sudo bento server apply",
        )
    for step in steps:
        say(step.shown)
        try:
            step.do()
        except OSError as error:
            raise WorkFailed(
                f"{step.shown}: {error.strerror}", "see the whole plan: bento server apply --dry-run"
            ) from None


# Accounts


def _accounts(wish: ServerWish) -> Iterator[Step]:
    members = _members(HOSTS_GROUP)
    if members is None:
        yield _command("groupadd", "--system", HOSTS_GROUP)
    for name in sorted(wish.hosts):
        yield from _account(name, members or frozenset(), (HOSTS_GROUP,))
    if wish.publishers:
        yield from _account(PUBLISHER, frozenset((PUBLISHER,)), ())


def _account(name: str, members: frozenset[str], groups: tuple[str, ...]) -> Iterator[Step]:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        group = ("--user-group",) if _members(name) is None else ("--gid", name)
        more = ("--groups", ",".join(groups)) if groups else ()
        # `*`: no password fits, and the account isn't locked: without PAM sshd refuses one that is.
        yield _command(
            *("useradd", "--system", *group, *more, "--no-create-home", "--home-dir", "/nonexistent"),
            *("--shell", _NOLOGIN, "--password", "*", name),
        )
        return
    if name in members:
        return
    if entry.pw_uid == 0 or entry.pw_uid >= _FIRST_PERSON or Path(entry.pw_shell).name not in ("nologin", "false"):
        raise InputError(
            f"this machine has an account {name} already, and it is not one for a host",
            "give the host another name in bento.toml, or the account to the fleet:",
            f"usermod --append --groups {HOSTS_GROUP} {name}",
        )
    yield _command("usermod", "--append", "--groups", HOSTS_GROUP, name)


def _members(group: str) -> frozenset[str] | None:
    try:
        return frozenset(grp.getgrnam(group).gr_mem)
    except KeyError:
        return None


def _command(*argv: str) -> Step:
    shown = shlex.join(argv)

    def do() -> None:
        done = run(argv, timeout=60)
        if done.code != 0:
            raise WorkFailed(f"{shown}: {done.words()}", "then run it again: bento server apply")

    return Step(shown, do)


# Folders


def _folders(wish: ServerWish) -> Iterator[Step]:
    for one in folders(wish):
        if not _is_as_wanted(one):
            mode = f"{one.mode:04o}"
            argv = ("install", "-d", "-o", one.owner, "-g", one.group, "-m", mode, str(one.path))
            yield Step(shlex.join(argv), partial(_make_folder, one))


def _is_as_wanted(one: WantedFolder) -> bool:
    try:
        status = one.path.lstat()
        owner, group = pwd.getpwnam(one.owner).pw_uid, grp.getgrnam(one.group).gr_gid
    except (OSError, KeyError):
        return False
    found = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    return stat.S_ISDIR(status.st_mode) and found == (owner, group, one.mode)


def _make_folder(one: WantedFolder) -> None:
    one.path.mkdir(mode=0o755, parents=True, exist_ok=True)
    # A publisher may have made it a link: root gives nothing away through one.
    descriptor = os.open(one.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, pwd.getpwnam(one.owner).pw_uid, grp.getgrnam(one.group).gr_gid)
        os.fchmod(descriptor, one.mode)
    finally:
        os.close(descriptor)


# Keys and sshd


def _keys(wish: ServerWish) -> Iterator[Step]:
    wanted = key_files(wish)
    for name, text in sorted(wanted.items()):
        yield from _file(KEYS / name, text)
    there = sorted(path.name for path in KEYS.iterdir()) if KEYS.is_dir() else []
    for name in there:
        if name not in wanted:
            yield Step(f"rm {shlex.quote(str(KEYS / name))}", (KEYS / name).unlink)


def _file(path: Path, text: str) -> Iterator[Step]:
    if _read(path) != text:
        yield Step(f"write {path}", lambda: _write(path, text))


def _read(path: Path) -> str | None:
    data = read_capped(path, _SMALL, str(path))
    return None if data is None else data.decode("utf-8", "replace")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    store(path, text.encode(), 0o644)


def _check_include() -> None:
    lines = (_read(_SSHD_CONFIG) or "").splitlines()
    if not any(line.split()[:1] == ["Include"] and f"{DROP_IN.parent}/*.conf" in line.split()[1:] for line in lines):
        raise EnvironmentFailed(
            f"{_SSHD_CONFIG} doesn't read {DROP_IN.parent}",
            f"put this line at its top: Include {DROP_IN.parent}/*.conf",
        )


def _sshd(wish: ServerWish) -> Iterator[Step]:
    text = drop_in(wish)
    before = _read(DROP_IN)
    if before == text:
        return

    def do() -> None:
        _write(DROP_IN, text)
        done = run([find_sshd() or "sshd", "-t"], timeout=60)
        if done.code != 0:  # a broken sshd would lock everybody out
            if before is None:
                DROP_IN.unlink()
            else:
                _write(DROP_IN, before)
            raise WorkFailed(
                f"sshd refuses the settings, and has the old ones again: {done.words()}", "see: sshd -t", *_PRIVSEP
            )
        _reload()

    yield Step(f"write {DROP_IN}, and reload sshd", do)


def _reload() -> None:
    if not Path("/run/systemd/system").is_dir():
        return  # nobody to ask; the command's end says that sshd must be told
    for unit in ("ssh.service", "sshd.service"):
        if run(["systemctl", "is-active", "--quiet", unit], timeout=60).code == 0:
            done = run(["systemctl", "reload", unit], timeout=60)
            if done.code != 0:
                raise WorkFailed(f"sshd can't be reloaded: {done.words()}", f"see: systemctl status {unit}")
            return
