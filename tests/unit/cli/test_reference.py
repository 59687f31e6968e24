"""docs/reference.md names what the code has: each command and option as it is, each setting in its own part."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from bento.core.host_state import State
from bento.models import agent_settings, trust
from bento.models.fleet import BuildTable, FleetFile, HostTable, SecretsTable, SigningTable
from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings, TemplateRef
from bento.models.report import Heartbeat, Outcome, Report, SecretReport, SecretState
from bento_secrets import declared, declared_templates

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference.md").read_text()
_READ = re.compile(r'\.(?:text|texts|number|choice|has|table|tables|parse)\(\s*"(\w+)"')


def part(title: str) -> str:
    """What stands below a heading, up to the next of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no part {title}"
    return found[2]


def missing(names: list[str], title: str) -> list[str]:
    """Those of `names` that this part doesn't name, each in a code span of its own."""
    named = set(re.findall(r"`([^`]+)`", part(title)))
    return [name for name in names if name not in named]


def read_by(module: object) -> list[str]:
    """The keys that a parser without a model asks its tables for."""
    return sorted(set(_READ.findall(Path(str(getattr(module, "__file__", ""))).read_text())))


def defaults(model: type[BaseModel]) -> dict[str, str]:
    """Each key of a model of bento.toml whose default TOML can write, as it is written there."""
    shown: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, str):
            shown[name] = f'`"{field.default}"`'
        elif field.default == ():
            shown[name] = "`[]`"
        elif isinstance(field.default, bool):
            shown[name] = f"`{str(field.default).lower()}`"
        elif isinstance(field.default, int):
            shown[name] = f"`{field.default}`"
    return shown


def test_the_commands_are_as_they_say_themselves() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_pictures_are_what_the_commands_show_and_fetch_nothing() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/pictures.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in ("status", "deploy"):
        text = (ROOT / f"docs/{name}.svg").read_text()
        assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}
        assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)


@pytest.mark.parametrize(
    ("model", "title"),
    [
        (HostTable, "[hosts.NAME] and [defaults]"),
        (Manifest, "The manifest"),
        (ConfigRef, "The manifest"),
        (SecretRef, "The manifest"),
        (TemplateRef, "The manifest"),
        (Settings, "The manifest"),
        (Report, "Reports"),
        (SecretReport, "Reports"),
        (Heartbeat, "Reports"),
    ],
)
def test_each_field_of_a_model_is_named(model: type[BaseModel], title: str) -> None:
    assert missing(list(model.model_fields), title) == []


@pytest.mark.parametrize(
    ("model", "title"), [(SigningTable, "[signing]"), (SecretsTable, "[secrets]"), (BuildTable, "[build]")]
)
def test_defaults_are_those_of_the_code(model: type[BaseModel], title: str) -> None:
    for name, default in defaults(model).items():
        assert f"| `{name}` | {default} |" in part(title)


def test_each_table_of_the_fleet_file_has_a_part_with_all_its_keys() -> None:
    for name, field in FleetFile.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel) and name != "defaults":
            assert missing(list(table.model_fields), f"[{name}]") == []


def test_a_hosts_defaults_are_those_of_the_code() -> None:
    for name, default in defaults(HostTable).items():
        assert f"| `{name}` | {default} |" in part("[hosts.NAME] and [defaults]")


def test_each_key_of_the_files_that_are_read_without_models_is_named() -> None:
    for module, title in ((trust, "utils/trust.toml"), (agent_settings, "agent.toml")):
        keys = read_by(module)
        assert len(keys) > 5  # else nothing was found, and nothing shown
        assert missing(keys, title) == []
    assert missing([*declared._KEYS, *declared_templates._KEYS], "secrets/secrets.toml") == []


def test_each_state_outcome_and_fate_of_a_secret_is_named() -> None:
    assert missing(list(get_args(State)), "States in `bento status`") == []
    assert missing(list(get_args(Outcome)), "Exit codes") == []
    assert missing(list(get_args(SecretState)), "Reports") == []


def test_each_environment_variable_that_the_code_asks_for_is_named() -> None:
    asked = re.compile(r"""environ(?:\.get\(|ment\.get\(|\[)\s*["']([A-Z_]+)["']|envvar=["']([A-Z_]+)["']""")
    found = {
        first or second
        for folder in ("bento", "secrets/bento_secrets")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "demo" not in path.parts
        for first, second in asked.findall(path.read_text())
    } - {"PATH"}
    assert len(found) > 5
    assert missing(sorted(found), "Environment variables") == []
