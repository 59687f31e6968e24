"""Imports go one way (docs/rooms.md). Read from the source, so an import inside a function counts too."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.sources import parsed

ROOT = Path(__file__).parents[2]

_LOW = {"bento", "bento.errors", "bento.names"}
_MODELS = {*_LOW, "bento.models"}
_CORE = {*_MODELS, "bento.core"}
_ADAPTERS = {*_CORE, "bento.adapters"}
_SIDES = {*_ADAPTERS, "bento.admin", "bento.agent"}
# What each room may import of Bento, besides itself and bento_secrets.
MAY_IMPORT: dict[str, set[str]] = {
    "bento": set(),
    "bento.errors": set(),
    "bento.names": {"bento.errors"},
    "bento.models": _LOW,
    "bento.core": _MODELS,
    "bento.adapters": _CORE,
    "bento.admin": _ADAPTERS,
    "bento.agent": _ADAPTERS,
    "bento.demo": _ADAPTERS,
    "bento.cli": {*_SIDES, "bento.demo"},
    "bento_secrets": set(),
}
# Libraries that only these rooms may import.
RESERVED = {
    "rich": {"bento.cli", "bento.demo"},
    "click": {"bento.cli", "bento.demo"},
    "paramiko": {"bento.adapters", "bento.demo"},
    "pyrage": {"bento_secrets"},
}


def room_of(module: str) -> str:
    """`bento.admin` for bento.admin.pack; the top package for anything else."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "bento" else parts[0]


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    for base in (root, root / "secrets"):
        for path in sorted([*base.glob("bento/**/*.py"), *base.glob("bento_secrets/**/*.py")]):
            parts = path.relative_to(base).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(module: str, path: Path) -> Iterator[str]:
    """Every module that the file imports, at any depth, in any form."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            # `from bento import admin` names a room by its alias.
            yield from (f"{source}.{alias.name}" for alias in node.names) if source == "bento" else (source,)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield from (str(one.value) for one in node.args[:1] if isinstance(one, ast.Constant))


def offences(root: Path) -> list[str]:
    found: list[str] = []
    for module, path in modules(root):
        room = room_of(module)
        if room not in MAY_IMPORT:
            found.append(f"{module} is in no room")
            continue
        for name in imported(module, path):
            other = "bento" if name == "bento.__version__" else room_of(name)
            ours = other.partition(".")[0] == "bento"
            if ours and other != room and other not in MAY_IMPORT[room]:
                found.append(f"{module} imports {name}")
            if room not in RESERVED.get(other, {room}):
                found.append(f"{module} imports {name}")
    return found


def test_imports_go_one_way() -> None:
    assert len(list(modules(ROOT))) > 50
    assert offences(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("bento/errors.py", "import bento.names"),
        ("bento/models/x.py", "from bento.core.journal import Journal"),
        ("bento/core/x.py", "from bento.adapters import files"),
        ("bento/core/x.py", "import bento.adapters.files"),
        ("bento/core/x.py", "from ..adapters import files"),
        ("bento/core/x.py", "def f():\n    from bento.adapters import files"),
        ("bento/core/x.py", "import importlib\nimportlib.import_module('bento.adapters.files')"),
        ("bento/adapters/x.py", "from bento.admin.pack import collect"),
        ("bento/admin/x.py", "from bento.agent.state import State"),
        ("bento/admin/x.py", "from bento import agent"),
        ("bento/agent/x.py", "if True:\n    import bento.admin.pack"),
        ("bento/agent/x.py", "from bento.cli import top"),
        ("bento/demo/x.py", "from bento.agent.run import run"),
        ("bento/demo/x.py", "from bento.admin.init import init"),
        ("bento/demo/x.py", "from bento.cli.top import warn"),
        ("bento/admin/x.py", "from rich.table import Table"),
        ("bento/agent/x.py", "import click"),
        ("bento/agent/x.py", "import paramiko"),
        ("bento/agent/x.py", "import pyrage"),
        ("bento/newroom/x.py", "import os"),
        ("secrets/bento_secrets/x.py", "from bento.names import HostName"),
        ("secrets/bento_secrets/x.py", "import paramiko.pkey"),
        ("secrets/bento_secrets/x.py", "def f():\n    import bento"),
    ],
)
def test_an_import_the_wrong_way_is_caught(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    assert len(offences(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("bento/admin/x.py", "from bento.adapters import files\nfrom bento.admin.pack import collect\nimport bentobox"),
        ("bento/cli/x.py", "from bento import __version__\nimport click\nfrom bento.agent.run import run"),
        ("bento/core/x.py", "from bento_secrets.names import HostName\nfrom . import journal"),
    ],
)
def test_an_import_the_right_way_passes(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    assert offences(tmp_path) == []


@pytest.mark.parametrize("room", ["models", "core", "adapters", "admin", "agent"])
def test_the_page_of_the_rooms_names_each_file_and_no_other(room: str) -> None:
    section = (ROOT / "docs/rooms.md").read_text("utf-8").partition(f"## bento/{room}\n")[2].partition("\n## ")[0]
    named = [
        path.name
        for one in re.findall(r"`([a-z_*]+\.py)`", section)
        for path in sorted((ROOT / "bento" / room).glob(one)) or [Path(f"{one} is gone")]
    ]
    there = {path.name for path in (ROOT / "bento" / room).glob("*.py")} - {"__init__.py"}
    assert set(named) == there


def test_the_secrets_folder_does_not_shadow_the_standard_library() -> None:
    assert (ROOT / "secrets/bento_secrets/__init__.py").exists()
    assert not (ROOT / "secrets/__init__.py").exists()


def loaded_by(module: str) -> set[str]:
    """The slow libraries that a fresh interpreter has loaded after importing `module`."""
    code = f"import sys, {module}; print(*[m for m in ('pydantic', 'rich', 'paramiko', 'pyrage') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_the_check_for_slow_libraries_can_see_them() -> None:
    assert loaded_by("bento.models.manifest") == {"pydantic"}
    assert loaded_by("bento.adapters.sftp") == {"paramiko"}


@pytest.mark.parametrize(
    "module",
    ["bento.models.trust", "bento.models.agent_settings", "bento.agent.host", "bento.agent.run", "bento.cli.agent"],
)
def test_the_poll_path_starts_without_slow_libraries(module: str) -> None:
    assert loaded_by(module) == set()
