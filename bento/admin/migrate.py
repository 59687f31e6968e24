"""`bento migrate`: a new fleet from a folder of the bash Bento, which stays as it is."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bento.admin.edit import add_host, add_settings
from bento.admin.init import GITIGNORE, Answers, Made, check_place, fleet_name, init
from bento.admin.old_bento import CONFIG, MARKERS, Left, OldFleet, OldHost, read_old
from bento.errors import BentoError, EnvironmentFailed, InputError
from bento.models.fleet import HostTable
from bento.models.trust import parse_address
from bento_secrets.ssh_keys import SshPublicKey

AGENTS = "agents"  # the hosts' agent.toml, to be brought there by hand
_TIMEOUTS = range(1, 601)  # seconds, as trust.toml takes them
_PORTS = range(1, 65536)
# What is not for a new fleet, and why, where the person has to know.
_NOT_COPIED = {
    ".git": "its history stays where it is",
    CONFIG: None,
    "states.txt": None,
    "secrets": "seal each file in it: bento secret add TARGET FILE",
    "flake.nix": "at the fleet's root Nix would copy secrets/ into its store with it; put it into a folder of hosts/",
    "flake.lock": None,
}
_AGENT = """\
# {name}'s /etc/bento/agent.toml; utils/trust.toml goes there too, as /etc/bento/trust.toml.
host = "{name}"
identities = [{identities}]   # root's key, which fleet.nix lets in: it logs in and opens secrets
"""


@dataclass(frozen=True)
class Choices:
    """What the person named; None means: as the old fleet has it."""

    fleet: str | None = None
    publish: str | None = None
    address: str | None = None
    port: int | None = None
    server_key: SshPublicKey | None = None
    signing_key: Path | None = None
    fleet_nix: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What would be made. `notes` are sentences on what is not as before."""

    old: OldFleet
    new: Path
    answers: Answers
    notes: tuple[str, ...]

    @property
    def left(self) -> tuple[Left, ...]:
        """What the person has to do something about."""
        return self.old.left


def plan_migration(old: Path, new: Path, choices: Choices) -> Plan:
    """Read the old fleet and say what the new one would be; nothing is written. Raises InputError."""
    old, new = Path(os.path.realpath(old)), Path(os.path.realpath(new))
    _check_new(old, new)
    read = read_old(old, choices.fleet_nix)
    fleet = fleet_name(choices.fleet, new)
    answers, notes = _answers(fleet, read, choices)
    for name, why in _NOT_COPIED.items():
        if why is not None and os.path.lexists(old / name):
            notes.append(f"{name} is not copied: {why}")
    notes.extend(f"not read: {line}" for line in read.config.unread)
    unknown = sorted({key for host in read.hosts for key in host.settings if key not in HostTable.model_fields})
    notes.extend(f"bento.toml gets {key} as a comment: this Bento doesn't do it yet" for key in unknown)
    if any((old / "utils").glob("**/bento.nix")):
        notes.append(
            "utils/bento.nix is the old agent's timer: when a host's new agent runs, take it out of its imports"
        )
    return Plan(read, new, answers, tuple(notes))


def _check_new(old: Path, new: Path) -> None:
    if new.is_relative_to(old) or old.is_relative_to(new):
        raise InputError(
            f"{new} and {old} hold each other",
            f"name a folder beside the old one: {shlex.quote(str(old.with_name(f'{old.name}-new')))}",
        )
    check_place(new)
    if os.path.lexists(new) and not (new.is_dir() and not any(new.iterdir())):
        raise InputError(
            f"{new} is there already", "name a folder that is not there yet: bento migrate OLD_DIR NEW_DIR"
        )
    if not new.parent.is_dir():
        raise InputError(f"{new.parent} is no folder", f"make it: mkdir -p {shlex.quote(str(new.parent))}")


def _answers(fleet: str, read: OldFleet, choices: Choices) -> tuple[Answers, list[str]]:
    values = read.config.values
    notes = []
    address = choices.address or _said(values, "REMOTE_IP", "--address HOST")
    try:
        address = parse_address(address)
    except InputError as error:
        raise InputError(f"the server's address: {error.message}", "name it: --address HOST") from None
    publish = choices.publish or _said(values, "CHROOT_DIR", "--publish-to FOLDER")
    if "://" not in publish and not publish.startswith(("/", "~")):
        raise InputError(f"{CONFIG}: CHROOT_DIR = '{publish}' is no whole path", "name it: --publish-to FOLDER")
    unsure = [line for line in read.config.unread if "REMOTE_PORT" in line and "REMOTE_PORT" not in values]
    if choices.port is None and unsure:
        raise InputError(f"{unsure[0]} can't be read without running it", "name the port: --port PORT")
    port = choices.port or _number(values, "REMOTE_PORT", 22, _PORTS, "--port PORT")
    timeout = _number(values, "TIMEOUT", 20, range(10**6), "mend the line")
    if timeout not in _TIMEOUTS:
        notes.append(f"{CONFIG}: TIMEOUT = {timeout} is no time that Bento takes; it is 20 seconds now")
        timeout = 20
    dry = values.get("NOLOCALBUILD", "0") == "1"
    answers = Answers(
        fleet, publish, address, port, choices.server_key, choices.signing_key, None, timeout, dry, example=False
    )
    return answers, notes


def _said(values: Mapping[str, str], name: str, option: str) -> str:
    value = values.get(name, "")
    if not value:
        raise InputError(
            f"{CONFIG} doesn't say {name} in words that mean the same without a shell", f"name it: {option}"
        )
    return value


def _number(values: Mapping[str, str], name: str, default: int, allowed: range, hint: str) -> int:
    text = values.get(name) or str(default)
    if not text.isdecimal() or len(text) > len(str(allowed.stop)) or int(text) not in allowed:
        raise InputError(f"{CONFIG}: {name} = '{text}' is wrong", f"name it: {hint}")
    return int(text)


def migrate(plan: Plan) -> Made:
    """Make the new fleet: all of it or nothing. Raises InputError, EnvironmentFailed."""
    made: Made | None = None
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(dir=plan.new.parent, prefix=f".{plan.new.name}-"))
        folder.chmod(0o755)
        _copy(plan.old.root, folder)
        made = init(folder, plan.answers)
        for host in plan.old.hosts:
            _add(folder, host)
        _complete_gitignore(folder / ".gitignore")
        folder.rename(plan.new)
    except BaseException as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if made is not None and made.key_is_new:
            for path in (made.signing_key, made.signing_key.with_name(f"{made.signing_key.name}.pub")):
                path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise EnvironmentFailed(
                f"can't make {plan.new}: {error.strerror or error}", "nothing was changed"
            ) from None
        raise
    return replace(made, root=plan.new)


def _copy(old: Path, new: Path) -> None:
    """Everything that a host's links may lead to, the links as they are."""

    def markers(folder: str, names: list[str]) -> set[str]:
        return set(names) & MARKERS if Path(folder).parent == old / "hosts" else set()

    for entry in sorted(old.iterdir()):
        if entry.name in _NOT_COPIED:
            continue
        if entry.is_dir() and not entry.is_symlink():
            try:
                shutil.copytree(entry, new / entry.name, symlinks=True, ignore=markers)
            except shutil.Error as error:  # it names all that failed, and went on
                source, _, why = error.args[0][0]
                raise InputError(f"{source} can't be copied: {why}", "move it out of the old folder") from None
        else:
            shutil.copy2(entry, new / entry.name, follow_symlinks=False)


def _add(root: Path, host: OldHost) -> None:
    source = f"hosts/{host.folder}" if host.folder != host.name else None
    try:
        add_host(root, host.name, host.keys, (), source, host.attribute)
        add_settings(root, host.name, host.settings)
    except BentoError as error:
        raise type(error)(f"{host.name}: {error.message}", *error.hints) from None
    (root / AGENTS).mkdir(exist_ok=True)
    identities = ", ".join(f'"{path}"' for path in identities_of(host))
    (root / AGENTS / f"{host.name}.toml").write_text(_AGENT.format(name=host.name, identities=identities), "utf-8")


def identities_of(host: OldHost) -> tuple[str, ...]:
    """Where the private halves lie on the host: the old agent was root's ssh."""
    names = {"ssh-ed25519": "id_ed25519", "ssh-rsa": "id_rsa"}
    return tuple(dict.fromkeys(f"/root/.ssh/{names[key.kind]}" for key in host.keys))


def _complete_gitignore(path: Path) -> None:
    have = path.read_text("utf-8") if path.exists() else ""
    missing = [line for line in GITIGNORE.splitlines() if line not in have.splitlines()]
    if missing:
        path.write_text("\n".join([*have.splitlines(), *missing]) + "\n", "utf-8")
