"""One set of units: the page's, the module's (golden files, which tests/nixos holds), and what the code relies on."""

import re
import shlex
from collections import defaultdict
from pathlib import Path

import click
import pytest

from bento.agent.answer import UNIT
from bento.agent.run import EXIT
from bento.agent.turn import AgentBusy
from bento.cli.agent import DEGRADED, agent

PROJECT = Path(__file__).parents[2]
GOLDEN = {path.name: path.read_text() for path in (PROJECT / "tests/nixos/golden/units").iterdir()}
PAGE = dict(
    re.findall(
        r"^`(bento[a-z-]*\.service)`:\n\n```ini\n(.*?)^```$",
        (PROJECT / "docs/on-the-host.md").read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
)
# What the module adds: its manual, what only NixOS's switch-to-configuration reads, and hardening.
MORE = {
    *("Documentation", "X-RestartIfChanged", "X-StopIfChanged", "X-StopOnRemoval", "Environment", "KeyringMode"),
    *("LockPersonality", "RestrictRealtime", "SystemCallArchitectures", "RestrictAddressFamilies", "UMask"),
    *("NoNewPrivileges", "RestrictNamespaces", "RestrictSUIDSGID", "CapabilityBoundingSet"),
    *("SystemCallFilter", "SystemCallErrorNumber"),
}
ELSEWHERE = {("After", "nix-daemon.socket")}  # Nix has none on its own elsewhere


def said(unit: str) -> set[tuple[str, str]]:
    """Key and value, a pair for each word of a list; paths and settings as the page has them."""
    found = set()
    for line in unit.splitlines():
        if line.startswith(("#", "[", "WantedBy=")) or "=" not in line:
            continue
        key, value = line.split("=", 1)
        value = re.sub(r"^\S*/bento-agent --config \S+", "bento-agent", value)
        for word in [value] if key in ("ExecStart", "Description") else value.split():
            place = "/etc/ssh" if word.startswith("/etc/ssh/") else word
            found.add((key, {"true": "yes", "false": "no"}.get(place, place)))
    return found


def wanted_by(unit: str) -> str:
    """The target that the page installs it for."""
    (found,) = re.findall(r"^WantedBy=(.*)$", unit, re.MULTILINE)
    return str(found)


def test_the_page_has_the_units_of_a_boot() -> None:
    assert set(PAGE) == {"bento-secrets-for-users.service", "bento-secrets.service", "bento-recover.service"}


@pytest.mark.parametrize("name", PAGE)
def test_a_unit_of_the_page_is_the_modules_but_for_what_is_nixos_own(name: str) -> None:
    page, module = said(PAGE[name]), said(GOLDEN[name])
    assert page - module == set()
    assert {(key, value) for key, value in module - page if key not in MORE} - ELSEWHERE == set()
    nspawn = (PROJECT / "tests/integration/test_nixos_units.py").read_text()
    assert (
        f'"{name}": "{wanted_by(PAGE[name])}.wants"' in nspawn
    )  # where the test under a real systemd puts the module's


def test_a_line_too_many_or_too_few_is_seen() -> None:
    """The control."""
    unit = PAGE["bento-secrets.service"]
    assert said(unit.replace("LimitCORE=0\n", "")) != said(unit) != said(unit.replace("local-fs", "remote-fs"))


COMMANDS = {name: re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE) for name, text in GOLDEN.items()}


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.endswith(".service")])
def test_a_unit_calls_a_command_that_there_is_and_leaves_no_core(name: str) -> None:
    (line,) = COMMANDS[name]
    words = shlex.split(line)[1:]
    assert words[:1] == ["--config"]
    command = agent.get_command(click.Context(agent), words[2])
    assert command is not None
    command.make_context(words[2], words[3:])
    assert ("LimitCORE", "0") in said(GOLDEN[name])
    for page in re.findall(r"man:(bento-agent[a-z-]*)\(1\)", GOLDEN[name]):
        assert page == "bento-agent" or agent.get_command(click.Context(agent), page.removeprefix("bento-agent-"))


def test_a_unit_counts_as_failed_where_the_agent_has_failed_and_nowhere_else() -> None:
    busy, back = str(AgentBusy.exit_code), str(EXIT["rolled-back"])
    degraded = str(EXIT["degraded"])
    assert degraded == str(DEGRADED)
    wanted = {
        "bento-agent.service": {degraded, busy},
        "bento-recover.service": {back, busy},
        "bento-secrets.service": {str(DEGRADED)},
        "bento-secrets-switch.service": {str(DEGRADED)},
    }
    for name, text in GOLDEN.items():
        assert {value for key, value in said(text) if key == "SuccessExitStatus"} == wanted.get(name, set()), name


def test_what_the_trigger_starts_and_what_the_timer_starts_is_the_agents_unit() -> None:
    assert UNIT in GOLDEN
    assert UNIT.replace(".service", ".timer") in GOLDEN
    assert ("Accept", "yes") in said(GOLDEN["bento-trigger.socket"])
    assert "bento-trigger@.service" in GOLDEN


def test_what_may_be_switching_is_not_stopped_by_the_switch() -> None:
    """switch-to-configuration reads these; what opens secrets is over by then, or is started by it."""
    waiting: defaultdict[str, set[str]] = defaultdict(set)
    for name, text in GOLDEN.items():
        waiting[name] = {key for key, value in said(text) if key.startswith("X-") and value == "no"}
    for name in ("bento-agent.service", "bento-recover.service", "bento-trigger@.service"):
        assert waiting[name] == {"X-RestartIfChanged", "X-StopIfChanged", "X-StopOnRemoval"}
    assert all("X-RestartIfChanged" in found for name, found in waiting.items() if name.endswith(".service"))
