"""What the SFTP server of a fleet should look like: accounts, folders, keys, sshd's settings. No I/O.

nix/server.nix makes the same on NixOS; nix/lib/sshd.nix holds the same settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bento.names import HostName
from bento_secrets.ssh_keys import SshPublicKey

HOSTS_GROUP = "bento-hosts"
PUBLISHER = "bento-publisher"
KEYS = Path("/etc/bento-server/keys")  # one file a login; root's, so that nobody lets others in
QUOTAS = Path("/etc/bento-server/quotas")  # the limits that were set last
DROP_IN = Path("/etc/ssh/sshd_config.d/10-bento.conf")  # before others: sshd takes the first value of a setting

_HEAD = "# Made by `bento server apply`, from bento.toml; it is written anew each time.\n"
# What the machine allows its own people is no list of hosts: AllowUsers and AllowGroups in a Match replace it.
_COMMON = """\
    AllowUsers {users}
    AllowGroups {groups}
    AuthorizedKeysFile {keys}
    AuthenticationMethods publickey
    PubkeyAuthentication yes
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    ChrootDirectory {chroot}
    ForceCommand internal-sftp
    DisableForwarding yes
    PermitTTY no
    PermitUserRC no
"""
_ALIVE = """\
    ClientAliveInterval 30
    ClientAliveCountMax 4
"""


@dataclass(frozen=True)
class ServerWish:
    """`folder` holds the hosts' chroots. Without `publishers` there is no account for them, and root publishes.

    `quota` is in MiB, and what each host may fill where the file system keeps quotas.
    """

    folder: Path
    hosts: Mapping[HostName, Sequence[SshPublicKey]]
    publishers: Sequence[SshPublicKey]
    quota: int = 64
    quota_files: int = 4096


@dataclass(frozen=True)
class WantedFolder:
    """A folder with owner, group and mode; accounts by name."""

    path: Path
    owner: str
    group: str
    mode: int


def startups(hosts: int) -> str:
    """MaxStartups for that many hosts: they may all come in the same second, after a power cut say."""
    first = max(100, 2 * hosts)
    return f"{first}:30:{2 * first}"


def match_blocks(folder: Path, keys: str) -> str:
    """The settings that hold for hosts and publishers only."""
    return (
        f"Match Group {HOSTS_GROUP}\n"
        + _COMMON.format(users="*", groups=HOSTS_GROUP, keys=keys, chroot=f"{folder}/%u")
        + "    MaxSessions 4\n"
        + _ALIVE
        + f"Match User {PUBLISHER}\n"
        + _COMMON.format(users=PUBLISHER, groups="*", keys=keys, chroot=folder)
        + _ALIVE
        + "Match all\n"
    )


def drop_in(wish: ServerWish) -> str:
    """The file in sshd_config.d."""
    return f"{_HEAD}MaxStartups {startups(len(wish.hosts))}\n{match_blocks(wish.folder, f'{KEYS}/%u')}"


def key_files(wish: ServerWish) -> Mapping[str, str]:
    """Who may log in with which keys, by login."""
    files = {str(name): _lines(keys) for name, keys in wish.hosts.items()}
    if wish.publishers:
        files[PUBLISHER] = _lines(wish.publishers)
    return files


def _lines(keys: Sequence[SshPublicKey]) -> str:
    return "".join(f"restrict {key.line}\n" for key in keys)


def quota_lines(wish: ServerWish) -> str:
    """What `setquota --batch` reads: login, then soft and hard limit of KiB and of files."""
    return "".join(f"{name} 0 {wish.quota * 1024} 0 {wish.quota_files}\n" for name in sorted(wish.hosts))


def folders(wish: ServerWish) -> tuple[WantedFolder, ...]:
    """All folders, each after the one that it lies in."""
    publisher = PUBLISHER if wish.publishers else "root"
    found = [
        WantedFolder(wish.folder, "root", "root", 0o755),
        WantedFolder(wish.folder / ".publisher", publisher, publisher, 0o700),
    ]
    for name in sorted(wish.hosts):
        home = wish.folder / name
        found += [
            WantedFolder(home, "root", "root", 0o755),
            WantedFolder(home / "release", publisher, publisher, 0o755),
            WantedFolder(home / "release" / "objects", publisher, publisher, 0o755),
            WantedFolder(home / "reports", publisher, name, 0o2770),
        ]
    return tuple(found)
