"""What the shell offers after Tab: hosts, tags, secret names. Quick, and silent whatever is wrong with the fleet.

The files are read with tomllib alone: half-written ones, which no command would take, still have names to offer.
"""

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from bento.admin.inventory import LOCAL, MAIN
from bento.cli.where import fleet_root
from bento.errors import BentoError
from bento.names import HostName, SecretName, TagName

_LARGEST = 4 * 1024 * 1024  # bytes; a file that takes longer to read than a person waits for Tab


class HostParam(StringParamType):
    """A host's name, as the person typed it."""

    name = "host"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The fleet's hosts, but those that stand on the line already."""
        del param
        return _items(_Names(ctx).hosts(), incomplete)


class HostsParam(StringParamType):
    """What `--on` takes: names, globs, @tags, comma-separated."""

    name = "hosts"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Hosts and tags for the last word of the list."""
        del param
        names = _Names(ctx)
        before, comma, last = incomplete.rpartition(",")
        taken = set(before.split(","))
        return _items((name for name in names.targets() if name not in taken), last, before + comma)


class TargetParam(StringParamType):
    """Whom a secret is for: a host, or @tag."""

    name = "target"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Hosts and tags."""
        del param
        return _items(_Names(ctx).targets(), incomplete)


class SecretParam(StringParamType):
    """A secret's name."""

    name = "secret"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that are declared for the target on the line; without one there, all."""
        del param
        return _items(_Names(ctx).secrets(ctx.params.get("target")), incomplete)


HOST, HOSTS, TARGET, SECRET = HostParam(), HostsParam(), TargetParam(), SecretParam()


def _items(names: Iterable[str], incomplete: str, before: str = "") -> list[CompletionItem]:
    found = sorted({name for name in names if name.startswith(incomplete)})
    return [CompletionItem(before + name) for name in found]


class _Names:
    """The names of the fleet that the command line is about; none where it has no fleet."""

    def __init__(self, context: click.Context) -> None:
        try:
            self._root: Path | None = fleet_root(context)
        except (BentoError, OSError):
            self._root = None

    def hosts(self) -> Iterator[str]:
        """Host names."""
        for name, _ in self._tables():
            if _is(HostName, name):
                yield name

    def targets(self) -> Iterator[str]:
        """Host names and tags."""
        yield from self.hosts()
        for tag in self._tags(""):
            yield f"@{tag}"

    def secrets(self, target: object) -> Iterator[str]:
        """The secrets for a target: a host's own and those of its tags. Every name where no target is given."""
        wanted = None if not isinstance(target, str) else {target, *(f"@{tag}" for tag in self._tags(target))}
        for one in _tables_in(self._read("secrets/secrets.toml").get("secret")):
            if (wanted is None or one.get("target") in wanted) and _is(SecretName, one.get("name")):
                yield one["name"]

    def _tags(self, host: str) -> Iterator[str]:
        """The tags of a host; with an empty name, of all."""
        for name, table in self._tables():
            tags = table.get("tags")
            for tag in tags if isinstance(tags, list) and host in ("", name) else ():
                if isinstance(tag, str) and _is(TagName, tag.removeprefix("@")):
                    yield tag.removeprefix("@")

    def _tables(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in (MAIN, LOCAL):
            content = self._read(file)
            hosts, defaults = content.get("hosts"), content.get("defaults")
            inherited = defaults if isinstance(defaults, dict) else {}
            for name, table in hosts.items() if isinstance(hosts, dict) else ():
                yield name, {**inherited, **(table if isinstance(table, dict) else {})}

    def _read(self, file: str) -> dict[str, Any]:
        if self._root is None:
            return {}
        try:
            with (self._root / file).open("rb") as handle:
                return tomllib.loads(handle.read(_LARGEST).decode())
        except (OSError, ValueError, RecursionError):
            return {}


def _tables_in(value: object) -> Iterator[dict[str, Any]]:
    yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _is(kind: type[HostName | SecretName | TagName], text: object) -> bool:
    """Whether a name keeps its rule: anything else in the file could hold what a terminal acts on."""
    try:
        kind.parse(text if isinstance(text, str) else "")
    except BentoError:
        return False
    return True
