"""Changes to bento.toml that keep its comments and order."""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import InlineTable, Table

from bento.admin.inventory import LOCAL, MAIN, Fleet, Host, load_fleet, read_fleet, read_local
from bento.errors import EnvironmentFailed, InputError
from bento.models.fleet import HostTable, parse_fleet
from bento.models.strict import Source, parse_toml
from bento.names import HostName, Serial, TagName, did_you_mean
from bento_secrets.durable import write_atomic
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey

_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")


def add_host(
    root: Path,
    name: HostName,
    keys: tuple[SshPublicKey, ...],
    tags: tuple[TagName, ...],
    source: str | None = None,
    attribute: str | None = None,
) -> None:
    """Add `[hosts.NAME]`. Raises InputError, with nothing written, where the result would not be a valid fleet.

    `source` and `attribute` are as bento.toml has them; None leaves them to the defaults.
    """
    fleet = load_fleet(root)
    if name in fleet.hosts:
        raise InputError(f"the host {name} is in {MAIN} already", f"see it: bento host show {name}")
    _check_keys(keys, fleet.hosts.values())
    path, text = _settings(root)
    document = tomlkit.parse(text)
    hosts: Any = document.get("hosts")
    if hosts is None:
        hosts = tomlkit.table(is_super_table=True)
        document["hosts"] = hosts
    elif isinstance(hosts, InlineTable):
        raise InputError(f"{MAIN} has its hosts in one inline table", "write each as a table of its own: [hosts.NAME]")
    table: Table = tomlkit.table()
    table["keys"] = _array(f"{key.line} {key.comment}".strip() for key in keys)
    if tags:
        table["tags"] = _array(dict.fromkeys(tags))
    if source is not None:
        table["source"] = source
    if attribute is not None:
        table["attribute"] = attribute
    hosts[name] = table
    changed = tomlkit.dumps(document)
    read_fleet(root, Source(MAIN, changed))  # never write what couldn't be read again
    _write(path, changed)


def add_settings(root: Path, name: HostName, settings: Mapping[str, str | list[str]]) -> None:
    """Add settings to a host's table. One that this version doesn't know becomes a comment. Raises as add_host."""
    path, text = _settings(root)
    document: Any = tomlkit.parse(text)
    table = document["hosts"][name]
    for key, value in settings.items():
        if key in HostTable.model_fields:
            table[key] = value
        else:
            table.add(tomlkit.comment(f"{key} = {tomlkit.item(value).as_string()}"))
    changed = tomlkit.dumps(document)
    read_fleet(root, Source(MAIN, changed))
    _write(path, changed)


def as_written(folder: str, root: Path) -> str:
    """How bento.toml names a folder that was typed in the working folder."""
    return folder if Path(folder).is_absolute() else os.path.relpath(Path.cwd() / folder, root.resolve())


def replace_keys(root: Path, name: HostName, keys: tuple[SshPublicKey, ...]) -> Fleet:
    """Give a host these keys in place of its old ones; the fleet as it is then. Raises InputError as add_host."""
    fleet = load_fleet(root)
    fleet.host(name)
    _check_keys(keys, [host for host in fleet.hosts.values() if host.name != name])
    if fleet.hosts[name].keys == keys:  # an earlier run may have been cut before it came to the secrets
        return fleet

    def replace(table: Any) -> None:
        table["keys"] = _array(f"{key.line} {key.comment}".strip() for key in keys)

    return _change_keys(root, name, replace, keys)


def add_key(root: Path, name: HostName, key: SshPublicKey) -> Fleet:
    """Let a host log in with one more key, after those that it has; the fleet as it is then. Raises as add_host."""
    fleet = load_fleet(root)
    host = fleet.host(name)
    if key.blob in {one.blob for one in host.keys}:
        raise InputError(f"{name} has the key {key.fingerprint} already", f"see its keys: bento host show {name}")
    _check_keys([key], [one for one in fleet.hosts.values() if one.name != name])

    def append(table: Any) -> None:
        table["keys"].append(f"{key.line} {key.comment}".strip())

    return _change_keys(root, name, append, (*host.keys, key))


def remove_key(root: Path, name: HostName, wanted: str) -> Fleet:
    """Take a key from a host, by its fingerprint or its line; the fleet as it is then. Raises InputError.

    The first key stays: secrets are sealed to it.
    """
    fleet = load_fleet(root)
    host = fleet.host(name)
    words = wanted.split()
    number = next(
        (i for i, key in enumerate(host.keys) if wanted == key.fingerprint or words[:2] == key.line.split()), None
    )
    if number is None:
        shown = [key.fingerprint for key in host.keys]
        raise InputError(f"{name} has no such key", *did_you_mean(wanted, shown), f"see them: bento host show {name}")
    if number == 0:
        another = (
            f"bento host rekey {name} --key '{host.keys[1].line}' --keep"
            if len(host.keys) > 1
            else f"bento host rekey {name} --key-file FILE"
        )
        raise InputError(
            f"{host.keys[0].fingerprint} is the first key of {name}, to which its secrets are sealed",
            f"put another first: {another}",
        )

    def drop(table: Any) -> None:
        del table["keys"][number]

    return _change_keys(root, name, drop, (*host.keys[:number], *host.keys[number + 1 :]))


def _change_keys(root: Path, name: HostName, change: Callable[[Any], None], wanted: tuple[SshPublicKey, ...]) -> Fleet:
    """Edit a host's table in place, so that its comments stay; `wanted` are the keys that must come of it."""
    path, text = _settings(root)
    document: Any = tomlkit.parse(text)
    table = document.get("hosts", {}).get(name, {})
    if "keys" not in table:
        raise InputError(f"the keys of {name} are not in {MAIN}", f"change them where they are: {LOCAL}")
    change(table)
    changed = tomlkit.dumps(document)
    read = parse_fleet(Source(MAIN, changed), read_local(root)).hosts[name].keys
    if [SshPublicKey.parse(text).blob for text in read] != [key.blob for key in wanted]:
        raise InputError(f"{LOCAL} gives {name} other keys than {MAIN}", f"take them out of {LOCAL}")
    _write(path, changed)
    return load_fleet(root)


def check_removable(root: Path, name: HostName) -> None:
    """Raise InputError where `remove_host` would."""
    _without_host(root, name)


def remove_host(root: Path, name: HostName) -> None:
    """Take `[hosts.NAME]` out of bento.toml; every comment outside of it stays. Raises InputError, nothing written."""
    path, changed = _without_host(root, name)
    _write(path, changed)


def _without_host(root: Path, name: HostName) -> tuple[Path, str]:
    path, text = _settings(root)
    local = root / LOCAL
    if local.is_file() and name in parse_toml(local.read_text("utf-8"), LOCAL).get("hosts", {}):
        raise InputError(f"{LOCAL} has settings for {name}", f"take them out first: [hosts.{name}] in {LOCAL}")
    wanted = parse_toml(text, MAIN)
    wanted["hosts"].pop(name, None)
    if not wanted["hosts"]:
        del wanted["hosts"]
    changed = _cut_table(text, ("hosts", name))
    try:
        read = parse_toml(changed, MAIN)
    except InputError:  # what looked like its table was something else
        read = {}
    if not read.get("hosts", True):
        del read["hosts"]
    if read != wanted:
        place = Source(MAIN, text).place("hosts", name)
        raise InputError(f"{place}: {name} is not written as a table of its own", "take it out there by hand")
    return path, changed


def _cut_table(text: str, path: tuple[str, ...]) -> str:
    """The text without that table and those inside it. Comments after its last line are the next table's, and stay."""
    kept: list[str] = []
    inside = False
    pending: list[str] = []  # blank lines and comments of which it isn't known yet whose they are
    for line in text.splitlines(keepends=True):
        header = _HEADER.match(line)
        if header is not None:
            names = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            was, inside = inside, names[: len(path)] == path
            kept += pending if not (was and inside) else []
            pending = []
        if not inside:
            kept.append(line)
        elif header is None and (not line.strip() or line.lstrip().startswith("#")):
            pending.append(line)
        else:
            pending = []
    return "".join([*kept, *pending])


def set_hold(root: Path, name: HostName, serial: Serial | None) -> None:
    """Set the host's `hold`, or take the line out. Raises InputError as add_host."""
    fleet = load_fleet(root)
    if fleet.host(name).hold == serial:
        return
    path, text = _settings(root)
    document: Any = tomlkit.parse(text)
    table = document.get("hosts", {}).get(name)
    if table is None or (serial is None and "hold" not in table):
        raise InputError(f"{LOCAL} says of {name} what this would change in {MAIN}", f"change it there: {LOCAL}")
    if serial is None:
        del table["hold"]
    else:
        table["hold"] = int(serial)
    changed = tomlkit.dumps(document)
    if parse_fleet(Source(MAIN, changed), read_local(root)).hosts[name].hold != serial:
        raise InputError(f"{LOCAL} gives {name} another hold than {MAIN}", f"take it out of {LOCAL}")
    _write(path, changed)


def _settings(root: Path) -> tuple[Path, str]:
    """Where bento.toml really lies (it may be a symlink), and its text with its line ends."""
    path = (root / MAIN).resolve()
    return path, path.read_bytes().decode()


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text.encode(), stat.S_IMODE(path.stat().st_mode))
    except OSError as error:
        raise EnvironmentFailed(f"can't write {path}: {error.strerror}", "nothing was changed") from None


def _check_keys(keys: Iterable[SshPublicKey], others: Iterable[Host]) -> None:
    """All of them: a weak key that may log in and sign reports is as bad as one that secrets are sealed to."""
    owners = {key.blob: host.name for host in others for key in host.keys}
    for key in keys:
        if key.blob in owners:
            raise InputError(f"this key is the key of {owners[key.blob]}", "each host needs its own")
        Recipient.of_host_key(key)


def _array(texts: Iterable[str]) -> Any:
    array = tomlkit.array()
    array.extend(str(text) for text in texts)
    return array
