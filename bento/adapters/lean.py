"""paramiko without what it imports and Bento has no use for.

`invoke` (with yaml, asyncio and unittest) takes as long as all that a poll needs.

paramiko can do without: it wants it for `Match exec` in ssh_config files alone, which Bento doesn't read, and takes its
absence for an answer. None in sys.modules is Python's own way to say that a module isn't there (importlib's reference).

`importlib.metadata` (with email, zipfile and csv) takes as long as a twelfth of a poll. paramiko wants to know its own
version from it, which it tells to servers. They needn't hear which faults it has.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_METADATA = "importlib.metadata"


class _Versions(ModuleType):
    """In its place: of any package the same version. Who wants more gets the real one."""

    @staticmethod
    def version(_package: str) -> str:
        return "0"

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(_METADATA) is self:
            del sys.modules[_METADATA]
        import importlib.metadata

        return getattr(importlib.metadata, name)


@contextmanager
def _instead(name: str, module: ModuleType | None) -> Iterator[None]:
    if name in sys.modules:  # it costs nothing more
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]
    try:
        yield
    finally:
        if sys.modules.get(name) is module:
            del sys.modules[name]


with _instead("invoke", None), _instead(_METADATA, _Versions(_METADATA)):
    import paramiko

__all__ = ["paramiko"]
