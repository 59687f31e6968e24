"""Changes to bento.toml that keep its comments and order."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from bento.admin.inventory import LOCAL, MAIN, Fleet, Host, load_fleet
from bento.errors import InputError
from bento.models.fleet import parse_fleet
from bento.models.strict import Source
from bento.names import HostName, TagName, did_you_mean
from bento_secrets.durable import write_atomic
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey


def add_host(root: Path, name: HostName, keys: tuple[SshPublicKey, ...], tags: tuple[TagName, ...]) -> None:
    """Add `[hosts.NAME]`. Raises InputError, with nothing written, where the result would not be a valid fleet."""
    fleet = load_fleet(root)
    if name in fleet.hosts:
        raise InputError(f"the host {name} is in {MAIN} already", f"see it: bento host show {name}")
    _check_free(keys, fleet.hosts.values())
    Recipient.of_host_key(keys[0])
    text = (root / MAIN).read_text("utf-8")
    document = tomlkit.parse(text)
    hosts: Any = document.get("hosts")
    if hosts is None:
        hosts = tomlkit.table(is_super_table=True)
        document["hosts"] = hosts
    table: Table = tomlkit.table()
    table["keys"] = _array(f"{key.line} {key.comment}".strip() for key in keys)
    if tags:
        table["tags"] = _array(tags)
    hosts[name] = table
    changed = tomlkit.dumps(document)
    parse_fleet(Source(MAIN, changed))  # never write what couldn't be read again
    write_atomic(root / MAIN, changed.encode(), 0o644)


def replace_keys(root: Path, name: HostName, keys: tuple[SshPublicKey, ...]) -> Fleet:
    """Give a host these keys in place of its old ones; the fleet as it is then. Raises InputError as add_host."""
    fleet = load_fleet(root)
    if name not in fleet.hosts:
        raise InputError(f"no host is called '{name}'", *did_you_mean(name, fleet.hosts), "bento host list")
    _check_free(keys, [host for host in fleet.hosts.values() if host.name != name])
    Recipient.of_host_key(keys[0])
    if fleet.hosts[name].keys == keys:  # an earlier run may have been cut before it came to the secrets
        return fleet
    document: Any = tomlkit.parse((root / MAIN).read_text("utf-8"))
    table = document.get("hosts", {}).get(name, {})
    if "keys" not in table:
        raise InputError(f"the keys of {name} are not in {MAIN}", f"change them where they are: {LOCAL}")
    table["keys"] = _array(f"{key.line} {key.comment}".strip() for key in keys)
    changed = tomlkit.dumps(document)
    local = root / LOCAL
    over = Source(LOCAL, local.read_text("utf-8")) if local.is_file() else None
    read = parse_fleet(Source(MAIN, changed), over).hosts[name].keys
    if [SshPublicKey.parse(text).blob for text in read] != [key.blob for key in keys]:
        raise InputError(f"{LOCAL} gives {name} other keys than {MAIN}", f"take them out of {LOCAL}")
    write_atomic(root / MAIN, changed.encode(), 0o644)
    return load_fleet(root)


def _check_free(keys: Iterable[SshPublicKey], others: Iterable[Host]) -> None:
    owners = {key.blob: host.name for host in others for key in host.keys}
    for key in keys:
        if key.blob in owners:
            raise InputError(f"this key is the key of {owners[key.blob]}", "each host needs its own")


def _array(texts: Iterable[str]) -> Any:
    array = tomlkit.array()
    array.extend(str(text) for text in texts)
    return array
