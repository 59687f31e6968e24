"""`bento.toml` with `bento.local.toml` over it: the admin's side of a fleet."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationError

from bento.errors import InputError
from bento.models.fields import (
    ArgsField,
    AttributeField,
    Frozen,
    HostField,
    InputsField,
    NoticeField,
    SerialField,
    WindowField,
)
from bento.models.manifest import Action, Evaluate, OnDifference, RebootPolicy
from bento.models.strict import Source, parse_toml
from bento.models.targets import (
    ServerKey,
    SftpPlace,
    parse_server_key,
    parse_target,
)
from bento.models.trigger import TriggerPlace, parse_trigger
from bento.models.trust import parse_address as parse_server_address
from bento.models.trust import parse_proxy_command
from bento.names import BadName, did_you_mean, printable
from bento_secrets.names import TagName
from bento_secrets.ssh_keys import SshPublicKey

# Both reach ssh's command line as one word that can't be taken for an option.
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_ADDRESS = re.compile(r"[A-Za-z0-9:\[][A-Za-z0-9.:%_\]-]{0,254}")


def _tag(value: object) -> TagName:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 — pydantic turns only ValueErrors into its own
    return TagName.parse(value.removeprefix("@"))


TagField = Annotated[TagName, PlainValidator(_tag)]


def parse_address(text: str) -> str:
    """Where ssh reaches a host: HOST, or USER@HOST. Root, where it names no user. Raises InputError.

    IPv6 may stand in brackets; the result is without, as ssh takes it.
    """
    user, at, host = text.rpartition("@")
    if not at:
        user = "root"
    wrong = InputError(
        f"'{printable(text)}' is no address", "write it as HOST or USER@HOST; a port goes to NIX_SSHOPTS"
    )
    if not _USER.fullmatch(user) or not _ADDRESS.fullmatch(host):
        raise wrong
    try:
        return f"{user}@{parse_server_address(host)}"
    except InputError:
        raise wrong from None


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 — pydantic turns only ValueErrors into its own
    return parse_address(value)


AddressField = Annotated[str, PlainValidator(_address)]


def _targets(value: object) -> tuple[str | SftpPlace, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadName("it must be a text, or a list of texts", 'for example: to = "/home/chroot"')
    try:
        targets = tuple(parse_target(text) for text in texts)
    except InputError as error:
        raise BadName(error.message, *error.hints) from None
    if len(set(targets)) < len(targets):
        raise BadName("a target is named twice", "name each once")
    return targets


def _key(value: object) -> SshPublicKey:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 — pydantic turns only ValueErrors into its own
    try:
        return SshPublicKey.parse(value)
    except InputError as error:
        raise BadName(error.message, *error.hints) from None


def _server_key(value: object) -> ServerKey:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 — pydantic turns only ValueErrors into its own
    try:
        return parse_server_key(value)
    except InputError as error:
        raise BadName(error.message, *error.hints) from None


def _proxy(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise BadName("it must be a list of texts", 'for example: ["ssh", "-W", "%h:%p", "gateway.example.org"]')
    try:
        return parse_proxy_command(tuple(value))
    except InputError as error:
        raise BadName(error.message, *error.hints) from None


class PublishTable(Frozen):
    """Where releases go: a folder on this machine, sftp://user@server/folder, or several, which are mirrors.

    `host_keys` are the servers' pinned keys beside those in utils/trust.toml, each for all of them or, with its address
    before it as in known_hosts, for one; `identity` is the key that logs in;
    `proxy_command` makes the connections from here, with `%h` and `%p` for address and port.
    """

    to: Annotated[tuple[str | SftpPlace, ...], PlainValidator(_targets)] = ("/home/chroot",)
    host_keys: tuple[Annotated[ServerKey, PlainValidator(_server_key)], ...] = ()
    identity: Annotated[str, Field(min_length=1)] | None = None
    proxy_command: Annotated[tuple[str, ...], PlainValidator(_proxy)] = ()


class SigningTable(Frozen):
    """Private keys (or .pub files whose private half an ssh-agent or token holds) that sign releases."""

    keys: tuple[str, ...] = ()


class SecretsTable(Frozen):
    """`admins` are recipients that may open secrets on the admin's side; `identities` are their private files."""

    admins: tuple[str, ...] = ()
    identities: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class BuildTable(Frozen):
    """At most `jobs` hosts are evaluated or built at once, else as many as there are processors, within memory.

    The arguments are Nix's: `args` on both sides.
    With `mode` dry-build a deploy only evaluates, and publishes the path that hosts are to arrive at.
    """

    mode: Literal["build", "dry-build"] = "build"
    jobs: Annotated[int, Field(ge=1, le=64)] | None = None
    args: ArgsField = ()
    local_args: ArgsField = ()
    remote_args: ArgsField = ()


class ServerTable(Frozen):
    """What `bento server apply` and nix/server.nix make. `publishers`: ssh keys that may publish without being root.

    `folder` holds the hosts' chroots, by default the one that is published to; `quota`: MiB that a host may fill.
    """

    folder: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    publishers: tuple[Annotated[SshPublicKey, PlainValidator(_key)], ...] = ()
    quota: Annotated[int, Field(ge=1, le=1_048_576)] = 64


class DefaultsTable(Frozen):
    """Host settings that hold where a host has none of its own.

    `source` is the configuration's folder: absolute, `~/…`, or from the fleet folder. `agent` is how its agent
    is called over ssh. `self_update`: inputs of its flake that a host may move on by itself.
    """

    source: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    tags: tuple[TagField, ...] = ()
    action: Action = "switch"
    on_difference: OnDifference = "report"
    evaluate: Evaluate = "host"
    reboot: RebootPolicy = "never"
    reboot_window: WindowField | None = None
    reboot_notice: NoticeField = 5
    reboot_kexec: bool = False
    self_update: InputsField = ()
    agent: Annotated[ArgsField, Field(min_length=1)] = ("bento-agent",)


def _trigger(value: object) -> TriggerPlace:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 — pydantic turns only ValueErrors into its own
    try:
        return parse_trigger(value)
    except InputError as error:
        raise BadName(error.message, *error.hints) from None


class HostTable(DefaultsTable):
    """One host. `keys`: ssh public keys, all may log in, secrets are sealed to the first.

    `address` (`HOST` or `USER@HOST`) is where push and trigger reach it over ssh, `trigger` its trigger socket. `hold`
    is set by `bento rollback`: publish this release's content until the line goes.
    """

    keys: Annotated[tuple[str, ...], Field(min_length=1)]
    attribute: AttributeField | None = None
    address: AddressField | None = None
    trigger: Annotated[TriggerPlace, PlainValidator(_trigger)] | None = None
    hold: SerialField | None = None


class FleetFile(Frozen):
    """The whole file."""

    publish: PublishTable = PublishTable()
    signing: SigningTable = SigningTable()
    secrets: SecretsTable = SecretsTable()
    build: BuildTable = BuildTable()
    defaults: DefaultsTable = DefaultsTable()
    server: ServerTable = ServerTable()
    hosts: dict[HostField, HostTable] = Field(default_factory=dict)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _has(values: Mapping[str, Any], path: tuple[str | int, ...]) -> bool:
    here: Any = values
    for part in path:
        if not isinstance(here, dict) or part not in here:
            return isinstance(part, int)  # a list's item stands where the list does
        here = here[part]
    return True


def _known_keys(path: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand beside the last part of `path`."""
    if len(path) == 1:
        return list(FleetFile.model_fields)
    if path[0] == "hosts":
        return list(HostTable.model_fields)
    model = FleetFile.model_fields[str(path[0])].annotation
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, Frozen) else []


def _complaint(error: ValidationError, sources: list[tuple[Source, dict[str, Any]]]) -> InputError:
    # A misspelt key is said before the key that is missing for it.
    found = sorted(
        error.errors(include_url=False, include_input=False), key=lambda one: one["type"] != "extra_forbidden"
    )
    first = found[0]
    path = tuple(part for part in first["loc"] if part != "[key]")
    source = next((source for source, values in sources if _has(values, path)), sources[-1][0])
    shown = printable(".".join(str(part) for part in path))
    place = source.place(*path)
    if first["type"] == "extra_forbidden":
        meant = did_you_mean(str(path[-1]), _known_keys(path))
        known = f"known here: {', '.join(_known_keys(path))}"
        return InputError(f"{place}: unknown key '{shown}'", *(meant or (known,)))
    if first["type"] == "missing":
        hint = "add it with: bento host add NAME --key-file FILE" if shown.endswith(".keys") else f"add {path[-1]} = …"
        return InputError(f"{place}: '{shown}' is missing", hint)
    cause = first.get("ctx", {}).get("error")
    hints = cause.hints if isinstance(cause, InputError) else ()
    said = cause.message if isinstance(cause, InputError) else first["msg"][:1].lower() + first["msg"][1:]
    hints = hints or ("fix the line and run the command again",)
    return InputError(f"{place}: '{shown}' is wrong: {printable(said, 200)}", *hints)


def parse_fleet(main: Source, local: Source | None = None, known: str | None = None) -> FleetFile:
    """The fleet of bento.toml, with the local file's keys over it. Raises InputError naming file, line and key.

    `known` is what `as_json` once made of these.
    """
    if known is not None:
        with suppress(ValidationError):  # what is wrong with it is told of the files themselves
            return FleetFile.model_validate_json(known)
    sources, merged = _tables(main, local)
    try:
        return FleetFile.model_validate_json(_json(main, merged))
    except ValidationError as error:
        raise _complaint(error, sources) from None


def as_json(main: Source, local: Source | None = None) -> str:
    """What the two files say, as one. To read TOML takes five times as long as all that is checked of it afterwards.

    Raises InputError.
    """
    return _json(main, _tables(main, local)[1])


def _tables(main: Source, local: Source | None) -> tuple[list[tuple[Source, dict[str, Any]]], dict[str, Any]]:
    tables = parse_toml(main.text, main.name)
    sources = [(main, tables)]
    if local is not None:
        over = parse_toml(local.text, local.name)
        sources.insert(0, (local, over))
        try:
            tables = _merged(tables, over)
        except RecursionError:
            raise InputError(
                f"{local.name}: too many tables inside each other", "write it as `bento init` does"
            ) from None
    defaults, hosts = tables.get("defaults", {}), tables.get("hosts", {})
    merged = dict(tables)
    if isinstance(defaults, dict) and isinstance(hosts, dict):
        merged["hosts"] = {
            name: _merged(defaults, host) if isinstance(host, dict) else host for name, host in hosts.items()
        }
    return sources, merged


def _json(main: Source, merged: dict[str, Any]) -> str:
    try:
        return json.dumps(merged)
    except RecursionError:
        raise InputError(f"{main.name}: too many tables inside each other", "write it as `bento init` does") from None
    except TypeError:
        raise InputError(f"{main.name}: dates and times have no place here", "put the value in quotes") from None
