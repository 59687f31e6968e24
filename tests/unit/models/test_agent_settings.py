"""agent.toml: defaults as docs/reference.md has them; every mistake named by file, line and key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick

from bento.errors import InputError
from bento.models.agent_settings import AgentPaths, HealthCommand, parse_agent_settings, read_agent_settings

FULL = """\
host = "router"
identities = ["/etc/key", "/etc/old-key"]
trust = "/x/trust.toml"
[paths]
state = "/x/state"
runtime = "/x/run"
profile = "/x/profile"
current_system = "/x/system"
boot = "/x/boot"
booted_system = "/x/booted"
[confirm]
timeout = 7
deadline = 90
failed_units = "fail"
commands = [{ run = ["curl", "localhost"] }, { run = ["true"], timeout = 5 }]
[systemd]
command = ["/x/recorder", "--log"]
run = ["/x/apart"]
shutdown = ["/x/shutdown"]
[prometheus]
file = "/x/bento.prom"
[notice]
desktop = "off"
"""


def test_a_full_file_is_read_whole() -> None:
    settings = parse_agent_settings(FULL)
    assert settings.host == "router"
    assert settings.identities == (Path("/etc/key"), Path("/etc/old-key"))
    assert settings.trust == Path("/x/trust.toml")
    assert settings.paths == AgentPaths(
        *map(Path, ("/x/state", "/x/run", "/x/profile", "/x/system", "/x/boot", "/x/booted"))
    )
    assert settings.confirm_timeout == 7
    assert settings.deadline == 90
    assert settings.failed_units == "fail"
    assert settings.health == (HealthCommand(("curl", "localhost"), 30), HealthCommand(("true",), 5))
    assert settings.systemctl == ("/x/recorder", "--log")
    assert settings.systemd_run == ("/x/apart",)
    assert settings.shutdown == ("/x/shutdown",)
    assert settings.metrics == Path("/x/bento.prom")
    assert not settings.desktop


def test_the_host_name_alone_is_enough() -> None:
    settings = parse_agent_settings('host = "router"')
    assert settings.identities == (Path("/etc/ssh/ssh_host_ed25519_key"),)
    assert settings.trust == Path("/etc/bento/trust.toml")
    assert settings.paths.state == Path("/var/lib/bento")
    assert settings.paths.runtime == Path("/run/bento")
    assert settings.paths.profile == Path("/nix/var/nix/profiles/system")
    assert settings.paths.current_system == Path("/run/current-system")
    assert settings.confirm_timeout == 120
    assert (settings.metrics, settings.desktop) == (None, True)
    assert settings.paths.boot == Path("/boot")
    assert (settings.deadline, settings.failed_units, settings.health) == (1800, "degrade", ())
    assert (settings.systemctl, settings.systemd_run) == (("systemctl",), None)


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ('"router"', '"Router"', 1, "'host'"),
        ('"router"', '"root"', 1, "'host'"),
        ('"router"', "[]", 1, "'host'"),
        ('["/etc/key", "/etc/old-key"]', "[]", 2, "'identities'"),
        ('"/etc/key"', '"etc/key"', 2, "'identities'"),
        ('"/etc/key"', "3", 2, "'identities'"),
        ('"/x/trust.toml"', '"trust.toml"', 3, "'trust'"),
        ('"/x/state"', '"state"', 5, "'paths.state'"),
        ('"/x/run"', "true", 6, "'paths.runtime'"),
        ('"fail"', '"explode"', 14, "'confirm.failed_units'"),
        ("deadline = 90", "deadline = 7", 13, "'confirm.deadline'"),
        ("timeout = 7", "timeout = 0", 12, "'confirm.timeout'"),
        ("timeout = 7", "timeout = 3601", 12, "'confirm.timeout'"),
        ("timeout = 7", "timeout = true", 12, "'confirm.timeout'"),
        ('["/x/recorder", "--log"]', "[]", 17, "'systemd.command'"),
        ('["/x/recorder", "--log"]', '"systemctl"', 17, "'systemd.command'"),
    ],
)
def test_a_wrong_value_is_named_by_line_and_key(old: str, new: str, line: int, key: str) -> None:
    assert old in FULL
    with pytest.raises(InputError) as error:
        parse_agent_settings(FULL.replace(old, new), "agent.toml")
    assert error.value.message.startswith(f"agent.toml:{line}: ")
    assert key in error.value.message


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("identities", "identites", 2),
        ("runtime", "runtme", 6),
        ("failed_units", "faild_units", 14),
        ("command =", "comand =", 17),
    ],
)
def test_a_mistyped_key_is_answered_with_the_right_one(right: str, wrong: str, line: int) -> None:
    with pytest.raises(InputError) as error:
        parse_agent_settings(FULL.replace(right, wrong), "agent.toml")
    assert error.value.message.startswith(f"agent.toml:{line}: unknown key")
    assert f"did you mean {right.removesuffix(' =')}?" in error.value.hints


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('["curl", "localhost"]', "[]", "'confirm.commands.run'"),
        ("timeout = 5", "timeout = 0", "'confirm.commands.timeout'"),
        ("timeout = 5", "timout = 5", "'confirm.commands.timout'"),
        ('run = ["true"]', 'rum = ["true"]', "'confirm.commands.rum'"),
    ],
)
def test_a_wrong_check_is_named_by_its_key(old: str, new: str, key: str) -> None:
    assert old in FULL
    with pytest.raises(InputError, match=key):
        parse_agent_settings(FULL.replace(old, new), "agent.toml")


def test_a_missing_host_is_named() -> None:
    with pytest.raises(InputError, match="'host' is missing"):
        parse_agent_settings("")


def test_a_file_that_is_not_there_is_answered_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file") as error:
        read_agent_settings(tmp_path / "agent.toml")
    assert any("--config" in hint for hint in error.value.hints)


@quick
@given(st.text(max_size=60) | st.text(alphabet='[]{}="#.\n\\ hostpaths1', max_size=60))
def test_any_text_gives_nothing_but_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_agent_settings(text)
