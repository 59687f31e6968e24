"""Changes to bento.toml that keep its comments and order."""

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import InlineTable, Table

from bento.admin.inventory import MAIN, load_fleet
from bento.errors import EnvironmentFailed, InputError
from bento.models.fleet import parse_fleet
from bento.models.strict import Source
from bento.names import HostName, TagName
from bento_secrets.durable import write_atomic
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey


def add_host(root: Path, name: HostName, keys: tuple[SshPublicKey, ...], tags: tuple[TagName, ...]) -> None:
    """Add `[hosts.NAME]`. Raises InputError, with nothing written, where the result would not be a valid fleet."""
    fleet = load_fleet(root)
    if name in fleet.hosts:
        raise InputError(f"the host {name} is in {MAIN} already", f"see it: bento host show {name}")
    for key in keys:
        owner = next((host.name for host in fleet.hosts.values() if key.blob in {k.blob for k in host.keys}), None)
        if owner is not None:
            raise InputError(f"this key is the key of {owner}", "each host needs its own")
        Recipient.of_host_key(key)
    path = (root / MAIN).resolve()  # where it is a symlink, the file behind it changes
    text = path.read_bytes().decode()  # with its line ends
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
    hosts[name] = table
    changed = tomlkit.dumps(document)
    parse_fleet(Source(MAIN, changed))  # never write what couldn't be read again
    try:
        write_atomic(path, changed.encode(), stat.S_IMODE(path.stat().st_mode))
    except OSError as error:
        raise EnvironmentFailed(f"can't write {path}: {error.strerror}", "nothing was changed") from None


def _array(texts: Iterable[str]) -> Any:
    array = tomlkit.array()
    array.extend(str(text) for text in texts)
    return array
