"""A folder of the bash Bento, read: config.sh, fleet.nix, hosts/. Nothing of it is run as a shell script."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bento.adapters.flakes import accounts_of
from bento.admin.discover import find_hosts
from bento.errors import BentoError, InputError
from bento.names import HostName, printable
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey

CONFIG = "config.sh"
_KNOWN = ("CHROOT_DIR", "REMOTE_IP", "REMOTE_PORT", "TIMEOUT", "NOLOCALBUILD")
# What means the same to every shell: NAME=VALUE, with nothing in it that a shell would work on.
_LINE = re.compile(
    r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)="
    r"(?:'([^']*)'|\"([^\"$`\\]*)\"|([A-Za-z0-9_./:@%+,=-]*))[ \t]*;?(?:[ \t]+#.*)?"
)
MARKERS = frozenset({"SELF_UPDATE", "REBOOT"})  # files in a host's folder that were settings


@dataclass(frozen=True)
class OldConfig:
    """config.sh. `unread` are lines that only a shell could tell the meaning of, as `config.sh:LINE: text`."""

    values: Mapping[str, str]
    unread: tuple[str, ...]


@dataclass(frozen=True)
class OldHost:
    """One host. `folder` is its configuration's, below hosts/; `settings` follow from its marker files."""

    name: HostName
    folder: str
    attribute: str | None
    keys: tuple[SshPublicKey, ...]
    settings: Mapping[str, str | list[str]]


@dataclass(frozen=True)
class Left:
    """Something that can't be taken over as it is."""

    what: str
    why: str
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class OldFleet:
    """All of it. `files` are those that the keys were read from."""

    root: Path
    config: OldConfig
    files: tuple[Path, ...]
    hosts: tuple[OldHost, ...]
    left: tuple[Left, ...]


def read_old(root: Path, fleet_nix: Path | None = None) -> OldFleet:
    """Read an old fleet; `root` is absolute. Raises InputError where it is none, EnvironmentFailed without Nix."""
    if not (root / CONFIG).is_file() or not (root / "hosts").is_dir():
        raise InputError(
            f"{root} is no folder of the bash Bento: that has a {CONFIG} and a hosts/",
            "name it: bento migrate OLD_DIR NEW_DIR",
        )
    config = parse_config((root / CONFIG).read_bytes().decode("utf-8", "replace"))
    files = _fleet_files(root, fleet_nix)
    accounts: dict[str, tuple[str, ...]] = {}
    for file in files:
        for name, keys in accounts_of(file).items():
            accounts[name] = tuple(dict.fromkeys((*accounts.get(name, ()), *keys)))
    hosts, left = _hosts(root, accounts)
    known = {host.name for host in hosts} | {one.what for one in left}
    for name, keys in accounts.items():
        if keys and name not in known and name != "root":
            left.append(Left(name, "it has a key, but no configuration in hosts/"))
    return OldFleet(root, config, files, tuple(hosts), tuple(left))


def parse_config(text: str) -> OldConfig:
    """What config.sh sets, as far as that can be told without running it. As in a shell the last line wins."""
    values: dict[str, str] = {}
    unread: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            unread.append(f"{CONFIG}:{number}: {printable(line)}")
            for name in _KNOWN:
                if name in line:  # whatever it was before, this line may say otherwise
                    values.pop(name, None)
            continue
        values[found[1]] = next((value for value in found.groups()[1:] if value is not None), "")
    unread.extend(f"{CONFIG}: {name} means nothing to Bento" for name in values if name not in _KNOWN)
    return OldConfig({name: value for name, value in values.items() if name in _KNOWN}, tuple(unread))


def _fleet_files(root: Path, named: Path | None) -> tuple[Path, ...]:
    places = [named] if named is not None else [root / "fleet.nix", *sorted(root.glob("utils/**/fleet.nix"))]
    if named is None:
        places.extend(sorted(root.glob("hosts/*/fleet.nix")))
    files = tuple(dict.fromkeys(path.resolve() for path in places if path.is_file()))
    if not files:
        raise InputError(
            f"{named} isn't there" if named is not None else f"{root} has no fleet.nix, which names the hosts' keys",
            "name the file: bento migrate --fleet-nix FILE OLD_DIR",
        )
    return files


def _hosts(root: Path, accounts: Mapping[str, tuple[str, ...]]) -> tuple[list[OldHost], list[Left]]:
    hosts: list[OldHost] = []
    left: list[Left] = []
    for folder in sorted(path for path in (root / "hosts").iterdir() if path.is_dir()):
        if _is_empty(folder):
            continue
        attributes: tuple[str | None, ...] = (None,)
        if (folder / "flake.nix").is_file():
            try:
                attributes = find_hosts(folder, root).attributes
            except BentoError as error:
                left.append(Left(f"hosts/{folder.name}", error.message, error.hints))
                continue
        for attribute in attributes:
            try:
                hosts.append(_host(folder, attribute, accounts, hosts))
            except InputError as error:
                left.append(Left(attribute or folder.name, error.message, error.hints))
    return hosts, left


def _is_empty(folder: Path) -> bool:
    """As the old `init` leaves hosts/example."""
    configuration = folder / "configuration.nix"
    return not (folder / "flake.nix").exists() and configuration.is_file() and not configuration.read_bytes().strip()


def _host(
    folder: Path, attribute: str | None, accounts: Mapping[str, tuple[str, ...]], before: list[OldHost]
) -> OldHost:
    known_as = attribute or folder.name
    named = f" --attribute {attribute}" if attribute else ""
    name = HostName.parse(known_as)
    hint = f"bento host add {name} --source hosts/{folder.name}{named} --key-file FILE"
    twin = next((one for one in before if one.name == name), None)
    if twin is not None:
        raise InputError(f"hosts/{folder.name} has it, and hosts/{twin.folder} too", f"add it by another name: {hint}")
    lines = accounts.get(known_as, ())
    if not lines:
        raise InputError("fleet.nix has no key of it", f"when you have its key: {hint}")
    keys = tuple(SshPublicKey.parse(line) for line in lines)
    for key in keys:
        Recipient.of_host_key(key)
        other = next((one for one in before if key.blob in {its.blob for its in one.keys}), None)
        if other is not None:
            raise InputError(f"it has the same key as {other.name}", f"each host needs its own: {hint}")
    return OldHost(name, folder.name, attribute if attribute != name else None, keys, _settings(folder))


def _settings(folder: Path) -> Mapping[str, str | list[str]]:
    settings: dict[str, str | list[str]] = {}
    if (folder / "REBOOT").exists():
        settings["reboot"] = "when-needed"
    if (folder / "SELF_UPDATE").exists() and (folder / "flake.nix").exists():
        settings["self_update"] = _inputs(folder / "flake.lock")
    return settings


def _inputs(lock: Path) -> list[str]:
    """All inputs of a locked flake: the old Bento updated every one."""
    try:
        data = json.loads(lock.read_bytes())
        return sorted(data["nodes"][data["root"]].get("inputs", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
