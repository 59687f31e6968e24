"""The fleet folder as it stands: bento.toml, its hosts and their keys, the trust file."""

import os
import shlex
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from bento.admin.workspace import Workspace
from bento.errors import InputError
from bento.models.fleet import FleetFile, HostTable, as_json, parse_fleet
from bento.models.manifest import Settings
from bento.models.signed import sha256
from bento.models.strict import Source
from bento.models.targets import SftpPlace
from bento.models.trigger import TriggerPlace
from bento.models.trust import Trust, parse_trust
from bento.names import Digest, HostName, Serial, TagName, did_you_mean, printable
from bento_secrets.lost import ELSEWHERE, in_git
from bento_secrets.members import Member
from bento_secrets.recipients import Recipient, check_host_key
from bento_secrets.ssh_keys import SshPublicKey
from bento_secrets.store import SecretStore

MAIN = "bento.toml"
LOCAL = "bento.local.toml"
TRUST = "utils/trust.toml"


@dataclass(frozen=True)
class Host:
    """One host. `source` is its configuration's folder, absolute; `attribute` its nixosConfigurations name.

    With `hold` it gets that release's content until the line goes. ssh reaches it at `address` (USER@HOST), where
    `agent` calls its agent; `trigger` is its trigger socket.
    """

    name: HostName
    keys: tuple[SshPublicKey, ...]
    tags: tuple[TagName, ...]
    source: Path
    attribute: str
    settings: Settings
    hold: Serial | None = None
    address: str | None = None
    trigger: TriggerPlace | None = None
    agent: tuple[str, ...] = ("bento-agent",)

    @cached_property
    def recipient(self) -> Recipient:
        """Whom its secrets are sealed to: derived from its first key, where it is needed."""
        return Recipient.of_host_key(self.keys[0])

    @property
    def member(self) -> Member:
        """The host as the secrets module sees it."""
        return Member(self.name, lambda: self.recipient, frozenset(self.tags))


@dataclass(frozen=True)
class Fleet:
    """A fleet folder, read once."""

    root: Path
    file: FleetFile
    hosts: Mapping[HostName, Host]
    admins: tuple[Recipient, ...]

    def host(self, name: str) -> Host:
        """The host of that name, as a person typed it. Raises InputError."""
        found = self.hosts.get(HostName(name))
        if found is None:
            raise InputError(
                f"no host is called '{printable(name)}'",
                *did_you_mean(name, self.hosts),
                "bento host list",
            )
        return found

    @property
    def store(self) -> SecretStore:
        """The secret store."""
        return SecretStore(self.root / "secrets")

    @property
    def members(self) -> tuple[Member, ...]:
        """All hosts as the secrets module sees them."""
        return tuple(host.member for host in self.hosts.values())

    @property
    def signing_keys(self) -> tuple[Path, ...]:
        """Where the signing keys lie: `~` is the user's home, a relative path begins at the fleet."""
        return tuple(self.root / _expanded(key, "signing.keys") for key in self.file.signing.keys)

    @property
    def identity_files(self) -> tuple[Path, ...]:
        """Where this admin's identities lie: `~` is the user's home, a relative path begins at the fleet."""
        return tuple(self.root / Path(file).expanduser() for file in self.file.secrets.identities)

    @property
    def publish_to(self) -> tuple[Path | SftpPlace, ...]:
        """Where releases go: folders on this machine and places on servers, in bento.toml's order."""
        return tuple(
            to if isinstance(to, SftpPlace) else self.root / _expanded(to, "publish.to") for to in self.file.publish.to
        )

    @property
    def publish_identity(self) -> Path | None:
        """The key that logs in at servers, if one is named."""
        named = self.file.publish.identity
        return None if named is None else self.root / _expanded(named, "publish.identity")

    def shown(self, path: Path) -> str:
        """A path as a person knows it: from the fleet folder, where it lies in there."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def _expanded(text: str, key: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(
            f"{MAIN}: {key} = '{printable(text)}' names the home of nobody", "write the whole path"
        ) from None


class _Settings:
    """What hosts are told in their manifests. Most have the same, and share them: of a thousand it saves time."""

    _told = (
        "action",
        "on_difference",
        "evaluate",
        "reboot",
        "reboot_window",
        "reboot_notice",
        "reboot_kexec",
        "self_update",
    )

    def __init__(self, args: tuple[str, ...]) -> None:
        self._args = args
        self._values = attrgetter(*self._told)
        self._made: dict[tuple[object, ...], Settings] = {}

    def of(self, table: HostTable) -> Settings:
        """A host's."""
        values = self._values(table)
        if values not in self._made:
            said = dict(zip(self._told, values, strict=True))
            self._made[values] = Settings.model_validate({**said, "args": self._args})
        return self._made[values]


def find_fleet(start: Path, named: Path | None) -> Path:
    """The fleet folder: the named one, or the nearest upwards from `start` with a bento.toml. Raises InputError."""
    for folder in [named] if named is not None else [start, *start.parents]:
        if (folder / MAIN).is_file():
            return folder.resolve()
    if named is not None:
        raise InputError(f"{named} is no fleet: it has no {MAIN}", f"make one: bento init {shlex.quote(str(named))}")
    raise InputError(
        f"{start} is not in a fleet: no {MAIN} here or above",
        "make one: bento init DIR",
        "or name one: bento --dir DIR status",
    )


def load_fleet(root: Path) -> Fleet:
    """Read bento.toml and bento.local.toml. Raises InputError naming file, line and key."""
    return read_fleet(root, Source(MAIN, _text(root / MAIN)))


def read_fleet(root: Path, main: Source) -> Fleet:
    """The fleet as it would be with this bento.toml. Raises InputError."""
    local, workspace = read_local(root), Workspace(root)
    file = parse_fleet(main, local, workspace.recall("settings", _texts(main, local)))
    settings = _Settings((*file.build.args, *file.build.remote_args))
    usual = Path(os.path.normpath(root / "hosts"))
    hosts = {
        name: _host(root, main, usual / name, name, table, settings.of(table)) for name, table in file.hosts.items()
    }
    _check_keys(hosts.values(), main, workspace)
    _distinct_keys(hosts.values(), main)
    admins = tuple(_admin(main, number, text) for number, text in enumerate(file.secrets.admins))
    return Fleet(root, file, hosts, admins)


def read_local(root: Path) -> Source | None:
    """This admin's own settings, if any. Raises InputError."""
    return Source(LOCAL, _text(root / LOCAL)) if (root / LOCAL).exists() else None


def load_trust(root: Path) -> Trust:
    """Read utils/trust.toml. Raises InputError."""
    return parse_trust(_text(root / TRUST), TRUST)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is not UTF-8", f"see which bytes: LC_ALL=C grep -n '[^ -~]' {shlex.quote(str(path))}"
        ) from None
    except OSError as error:
        hints: tuple[str, ...] = (ELSEWHERE,)
        if in_git(path.parent):  # whatever folder the command is given in, git must look at the fleet's
            hints = (f"take it from git: git -C {shlex.quote(str(path.parent))} checkout HEAD -- {path.name}",)
        if path.name == LOCAL:
            hints = ('it is this admin\'s own, and names the signing key: [signing] keys = ["…"]',)
        elif path.name == Path(TRUST).name:
            hints = (*hints, f"or from a host: scp root@HOST:/etc/bento/trust.toml {shlex.quote(str(path))}")
        raise InputError(f"can't read {path}: {error.strerror}", *hints) from None


def _host(root: Path, main: Source, usual: Path, name: HostName, table: HostTable, settings: Settings) -> Host:
    try:
        keys = tuple(SshPublicKey.parse(text) for text in table.keys)
    except InputError as error:
        raise _wrong_key(main, name, error) from None
    if table.self_update and table.evaluate == "server":
        raise InputError(
            f"{main.place('hosts', name, 'self_update')}: {name} can't update inputs by itself: "
            'with evaluate = "server" it only fetches what the admin built',
            "take out one of the two; for this host alone: self_update = []",
        )
    return Host(
        name=name,
        keys=keys,
        tags=tuple(dict.fromkeys(table.tags)),
        source=usual if table.source is None else _source(root, main, name, table.source),
        attribute=table.attribute or name,
        settings=settings,
        hold=table.hold,
        address=table.address,
        trigger=table.trigger,
        agent=table.agent,
    )


def _wrong_key(main: Source, host: HostName, error: InputError) -> InputError:
    place = main.place("hosts", host, "keys")
    return InputError(f"{place}: the key of {host} is wrong: {error.message}", *error.hints)


def _check_keys(hosts: Collection[Host], main: Source, workspace: Workspace) -> None:
    """All of them: a weak key that may log in and sign reports is as bad as one that secrets are sealed to.

    Those of the last deploy aren't checked again: of a thousand it is most of what reading a fleet takes.
    """
    if workspace.recall("keys", _mark(hosts)) is not None:
        return
    for host in hosts:
        try:
            for key in host.keys:
                check_host_key(key)
        except InputError as error:
            raise _wrong_key(main, host.name, error) from None


def note_fleet(fleet: Fleet, workspace: Workspace) -> None:
    """All hosts' keys are in order, and what bento.toml says needn't be read from TOML again.

    For commands that write there anyway: one that refuses leaves nothing behind.
    """
    mark = _mark(fleet.hosts.values())
    if workspace.recall("keys", mark) is None:
        workspace.note("keys", mark)
    with suppress(InputError):  # edited since the fleet was read: then that is for the next command to say
        main, local = Source(MAIN, _text(fleet.root / MAIN)), read_local(fleet.root)
        mark = _texts(main, local)
        if workspace.recall("settings", mark) is None:
            workspace.note("settings", mark, as_json(main, local))


def _texts(main: Source, local: Source | None) -> Digest:
    return sha256(repr((main.text, None if local is None else local.text)).encode())


def _mark(hosts: Iterable[Host]) -> Digest:
    return sha256("\n".join(key.line for host in hosts for key in host.keys).encode())


def _source(root: Path, main: Source, name: HostName, given: str) -> Path:
    """A configuration's folder. One that holds the fleet would take secrets/ into a Nix store with it."""
    source = Path(os.path.normpath(root / _expanded(given, f"hosts.{name}.source")))
    if root.is_relative_to(source):
        raise InputError(
            f"{main.place('hosts', name, 'source')}: the source of {name} is a folder that holds the fleet itself",
            "keep the fleet, with its secrets/, in a folder beside the configuration",
        )
    return source


def _distinct_keys(hosts: Iterable[Host], main: Source) -> None:
    owners: dict[bytes, HostName] = {}
    for host in hosts:
        for key in host.keys:
            other = owners.setdefault(key.blob, host.name)
            if other != host.name:
                raise InputError(
                    f"{main.place('hosts', host.name, 'keys')}: {host.name} and {other} have the same key",
                    "each host needs its own: with one key each could read the other's secrets",
                )


def _admin(main: Source, number: int, text: str) -> Recipient:
    try:
        return Recipient.parse(text)
    except InputError as error:
        place = main.place("secrets", "admins")
        raise InputError(
            f"{place}: secrets.admins number {number + 1} is wrong: {error.message}", *error.hints
        ) from None
