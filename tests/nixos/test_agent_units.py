"""nix/agent.nix, evaluated by the real module system: who makes users, and the units of it."""

import re
import subprocess
from pathlib import Path

import pytest

from bento.models.declaration import parse_declaration
from rig.nixos import is_whole
from rig.nixos_host import ask, declaration_text, failed, golden, host, units
from rig.world import PROGRAMS

MANAGERS = {
    "script": "",
    "sysusers": "systemd.sysusers.enable = true;",
    "userborn": "services.userborn.enable = true;",
}


@pytest.mark.parametrize("manager", MANAGERS)
def test_secrets_come_before_and_after_users_whoever_makes_them(manager: str, tmp_path: Path) -> None:
    configuration = host(more=MANAGERS[manager])
    assert failed(configuration, tmp_path) == ""
    found = units(configuration, tmp_path)
    scripts = ask(
        configuration,
        "let found = m.config.system.activationScripts; one = name: let it = found.${name} or { }; in "
        "if builtins.isString it then { text = it; deps = [ ]; } "
        "else { text = it.text or null; deps = it.deps or [ ]; }; in "
        '{ users = one "users"; before = one "bentoSecretsForUsers"; after = one "bentoSecrets"; }',
        tmp_path,
    )
    if manager == "script":
        assert "install-secrets --for-users --system" in scripts["before"]["text"]
        assert "bentoSecretsForUsers" in scripts["users"]["deps"]
        assert "users" in scripts["after"]["deps"]
        assert "bento-secrets.service" not in found
        return
    # NixOS warns of scripts that aren't its own, and boots without any where it can.
    assert (scripts["before"]["text"], scripts["after"]["text"]) == (None, None)
    assert "systemd-sysusers.service" in said(found["bento-secrets-for-users.service"], "Before")
    assert "systemd-sysusers.service" in said(found["bento-secrets.service"], "After")
    users, switch = found["bento-secrets-for-users-switch.service"], found["bento-secrets-switch.service"]
    assert said(users, "Before") == ["systemd-sysusers.service", "sysinit-reactivation.target"]
    assert said(switch, "After") == ["bento-secrets-for-users-switch.service", "systemd-sysusers.service"]
    assert said(switch, "Before") == ["sysinit-reactivation.target"]
    for name in ("bento-secrets-for-users-switch", "bento-secrets-switch"):
        assert "RemainAfterExit" not in found[f"{name}.service"]
        wanted = f'{{ inherit (m.config.systemd.units."{name}.service") requiredBy wantedBy; }}'
        assert ask(configuration, wanted, tmp_path) == {"requiredBy": ["sysinit-reactivation.target"], "wantedBy": []}


def said(unit: str, key: str) -> list[str]:
    """What a unit says for a key, over all its lines."""
    return " ".join(re.findall(f"^{key}=(.*)$", unit, re.MULTILINE)).split()


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_changed_password_reaches_who_makes_users_where_a_switch_alone_would_not_tell_him(
    manager: str, tmp_path: Path
) -> None:
    more = 'bento.secrets = { hash = { neededForUsers = true; restartUnits = [ "a.service" ]; }; token = { }; };'
    text = declaration_text(host(more=more + MANAGERS[manager]), tmp_path)
    found = {str(one.name): set(one.restart) for one in parse_declaration(text.encode(), "rendered").secrets}
    assert found == {"hash": {"a.service"} | ({"userborn.service"} if manager == "userborn" else set()), "token": set()}


def verified(found: dict[str, str], folder: Path) -> tuple[int, list[str]]:
    """What systemd says of units: its exit code, and the lines that are about Bento's."""
    folder.mkdir()
    for name, text in found.items():
        # the programs are in no store here
        here = re.sub(r"/nix/store/\S+/bin/bento-agent", str(PROGRAMS / "bento-agent"), text)
        (folder / name).write_text(re.sub(r"/nix/store/\S+/bin/(\S+)", r"/bin/\1", here))
    argv = ["systemd-analyze", "verify", "--man=no", *sorted(str(folder / name) for name in found)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if "bento" in line]


@pytest.mark.parametrize("manager", MANAGERS)
def test_systemd_finds_nothing_wrong_with_the_units(manager: str, tmp_path: Path) -> None:
    found = units(host('trigger = { enable = true; address = "127.0.0.1"; };', MANAGERS[manager]), tmp_path)
    assert verified(found, tmp_path / "units") == (0, [])
    for good, bad in (("LimitCORE=0", "LimitCORES=0"), ("/bin/bento-agent", "/bin/no-agent")):  # the control
        broken = {name: text.replace(good, bad) for name, text in found.items()}
        assert verified(broken, tmp_path / bad.split("=")[0].replace("/", "-"))[1] != []


@pytest.mark.skipif(is_whole(), reason="NixOS writes units in its own way")
def test_the_units_are_those_that_are_run_under_a_real_systemd(tmp_path: Path) -> None:
    """tests/integration/test_nixos_units.py boots with them."""
    trigger = 'trigger = { enable = true; address = "127.0.0.1"; };'
    for name, text in units(host(trigger, MANAGERS["sysusers"]), tmp_path).items():
        shown = re.sub(r"/nix/store/\S+/bin/bento-agent", "/usr/local/bin/bento-agent", text)
        shown = re.sub(r"/nix/store/\S+-bento-agent.toml", "/etc/bento/agent.toml", shown)
        golden(f"units/{name}", shown)
