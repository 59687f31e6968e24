"""nix/agent.nix, evaluated by the real module system."""

import re
import subprocess
from pathlib import Path

import pytest

from bento.models.agent_settings import parse_agent_settings
from bento.models.declaration import parse_declaration
from rig.nixos import evaluated, is_whole, machine
from rig.nixos_host import (
    BOOT,
    MODULES,
    ROOT,
    TRUST,
    ask,
    declaration_text,
    failed,
    golden,
    host,
    lines,
    settings_text,
    units,
)
from rig.world import PROGRAMS

SECRETS = """
bento.secrets = {
  "db/password" = { owner = "app"; group = "app"; mode = "440"; link = "/etc/app/password";
    restartUnits = [ "app.service" ]; reloadUnits = [ "web.service" ]; };
  token = { };
  root-hash.neededForUsers = true;
  "app.env" = { owner = "app"; template = ''
    A={{ secret "token" }}
  ''; };
};
"""


# Defaults


def test_by_default_the_agent_polls_every_five_minutes_and_nothing_listens(tmp_path: Path) -> None:
    found = units(host(), tmp_path)
    assert sorted(found) == ["bento-agent.service", "bento-agent.timer", "bento-recover.service"]
    timer = found["bento-agent.timer"]
    for line in ("OnUnitInactiveSec=5min", "RandomizedDelaySec=2min", "FixedRandomDelay=true"):
        assert line in timer.splitlines()
    service = lines(found["bento-agent.service"])
    for line in ("LimitCORE=0", "X-RestartIfChanged=false", "UMask=0077", "Environment=NIX_REMOTE=daemon"):
        assert line in service


def test_without_enable_the_module_does_nothing(tmp_path: Path) -> None:
    off = f"{{ {BOOT} {ROOT} }}"
    assert ask(off, "m.failed", tmp_path) == []
    assert units(off, tmp_path) == {}
    assert "bento" not in str(ask(off, "m.config.system.systemBuilderCommands", tmp_path))


def test_the_defaults_make_settings_that_the_agent_reads(tmp_path: Path) -> None:
    text = settings_text(host(), tmp_path)
    settings = parse_agent_settings(text)
    assert (settings.host, [str(one) for one in settings.identities]) == ("web", ["/etc/ssh/ssh_host_ed25519_key"])
    assert str(settings.trust).startswith("/nix/store/")
    assert settings.confirm_timeout == 120


def test_the_declaration_lies_in_the_system(tmp_path: Path) -> None:
    commands = ask(host(), "m.config.system.systemBuilderCommands", tmp_path)
    assert re.search(r"^cp /nix/store/\S+-bento-secrets.json \$out/bento/secrets.json$", commands, re.MULTILINE)


def built(configuration: str, tmp_path: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """What the builds of the declaration, the settings and the trust file do, each run by bash with the real agent.

    Their outputs are tmp_path/NAME.
    """
    wanted = (
        "{ secrets = m.config.system.systemBuilderCommands; "
        + "".join(
            f'{name} = "cp ${{m.config.environment.etc."bento/{name}.toml".source}} x"; ' for name in ("agent", "trust")
        )
        + "}"
    )
    done = {}
    for name, commands in ask(configuration, wanted, tmp_path).items():
        script = (tmp_path / "store" / commands.split("cp /", 1)[1].split(" ", 1)[0]).read_text()
        script = re.sub(r"/nix/store/\S+/bin/bento-agent", str(PROGRAMS / "bento-agent"), script)
        script = script.replace("/nix/store/", f"{tmp_path}/store/nix/store/")
        env = {"PATH": "/usr/bin:/bin", "out": str(tmp_path / name)}
        done[name] = subprocess.run(["bash", "-e", "-c", script], env=env, capture_output=True, text=True, check=False)
    return done


@pytest.mark.skipif(is_whole(), reason="there a build is one of nixpkgs'")
def test_bento_itself_checks_declaration_settings_and_trust_file_while_the_system_is_built(tmp_path: Path) -> None:
    good = host(more=SECRETS)
    assert {name: (one.returncode, one.stderr) for name, one in built(good, tmp_path).items()} == dict.fromkeys(
        ("secrets", "agent", "trust"), (0, "")
    )
    assert (tmp_path / "secrets").read_text() == declaration_text(good, tmp_path)
    assert (tmp_path / "agent").read_text() == settings_text(good, tmp_path)
    assert (tmp_path / "trust").read_text() == TRUST.read_text()

    (tmp_path / "bad.toml").write_text(TRUST.read_text().replace("signers", "singers"))
    bad = host("settings.confirm.timout = 5;", 'bento.secrets.hash = { neededForUsers = true; owner = "app"; };')
    for name, said in (("secrets", "needed before there are users"), ("agent", "timout"), ("trust", "singers")):
        one = built(bad.replace(str(TRUST), str(tmp_path / "bad.toml")), tmp_path)[name]
        assert one.returncode == 2
        assert said in one.stderr


PROXY = 'networking.proxy.envVars = { https_proxy = "http://10.0.0.9:3128"; };'


@pytest.mark.skipif(is_whole(), reason="there these are NixOS's own to set")
@pytest.mark.parametrize("unit", ["bento-agent", "bento-recover"])
def test_the_agents_nix_has_the_machines_proxy_and_channels(unit: str, tmp_path: Path) -> None:
    more = f'{PROXY} environment.sessionVariables.NIX_PATH = "nixpkgs=/etc/nixpkgs";'
    said = units(host(more=more), tmp_path)[f"{unit}.service"].splitlines()
    assert [line for line in said if line.startswith("Environment=")] == [
        "Environment=HOME=/root",
        "Environment=NIX_PATH=nixpkgs=/etc/nixpkgs",
        "Environment=NIX_REMOTE=daemon",
        "Environment=https_proxy=http://10.0.0.9:3128",
    ]
    # An empty one would stand before what nix.conf says.
    assert (
        "NIX_PATH" not in units(host(more='environment.sessionVariables.NIX_PATH = "";'), tmp_path)[f"{unit}.service"]
    )


def test_every_program_that_the_agent_starts_by_name_is_on_its_path(tmp_path: Path) -> None:
    """NixOS adds coreutils, findutils, gnugrep, gnused and systemd; all else must be said."""
    more = 'path = [ { type = "derivation"; name = "corkscrew"; outPath = "/nix/store/x-corkscrew"; } ];'
    for unit in ("bento-agent", "bento-recover"):
        asked = f"map (one: baseNameOf (toString one)) m.config.systemd.services.{unit}.path"
        got = ask(host(more), asked, tmp_path)
        for package in ("nix", "systemd", "git", "openssh", "util-linux", "corkscrew"):
            assert any(package in one for one in got), (package, got)


# Secrets


def test_declared_secrets_are_rendered_as_bento_reads_them(tmp_path: Path) -> None:
    text = declaration_text(host(more=SECRETS), tmp_path)
    golden("secrets.json", text + "\n")
    found = parse_declaration(text.encode(), "rendered")
    assert [(one.name, one.owner, one.mode, one.users) for one in found.secrets] == [
        ("db/password", "app", "0440", False),
        ("root-hash", "root", "0400", True),
        ("token", "root", "0400", False),
    ]
    assert found.templates[0].text == 'A={{ secret "token" }}\n'


def test_path_is_where_the_secret_lies_whatever_link_is_wished_and_cannot_be_set(tmp_path: Path) -> None:
    paths = ask(host(more=SECRETS), "builtins.mapAttrs (_: one: one.path) m.config.bento.secrets", tmp_path)
    assert paths == {
        "app.env": "/run/bento/secrets/app.env",
        "db/password": "/run/bento/secrets/db/password",
        "root-hash": "/run/bento/secrets-for-users/root-hash",
        "token": "/run/bento/secrets/token",
    }
    broken = host(more='bento.secrets.a.path = "/x";')
    assert "read-only" in evaluated(machine(MODULES, broken, "m.config.bento.secrets.a.path"), tmp_path, fails=True)


@pytest.mark.parametrize("name", ["text", "content", "value", "file", "source", "plaintext"])
def test_plaintext_can_not_be_given(name: str, tmp_path: Path) -> None:
    broken = host(more=f'bento.secrets.a.{name} = "hunter2";')
    said = evaluated(machine(MODULES, broken, "m.config.bento.secrets.a.owner"), tmp_path, fails=True)
    assert f"`bento.secrets.a.{name}' does not exist" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bento.secrets.a.mode = 400;", "bento.secrets.a.mode"),
        ('bento.secrets.a.mode = "rw";', "bento.secrets.a.mode"),
        ("bento.secrets.a.owner = 0;", "bento.secrets.a.owner"),
        ('bento.secrets.a.link = "etc/x";', "bento.secrets.a.link"),
        ('bento.secrets.a.restartUnits = "a.service";', "bento.secrets.a.restartUnits"),
        ('bento.secrets.a.neededForUsers = "yes";', "bento.secrets.a.neededForUsers"),
        ("bento.secrets.a.template = 1;", "bento.secrets.a.template"),
    ],
)
def test_a_secret_of_the_wrong_type_is_named(line: str, said: str, tmp_path: Path) -> None:
    expression = machine(MODULES, host(more=line), "builtins.deepSeq m.config.bento.secrets 1")
    assert said in evaluated(expression, tmp_path, fails=True)


# Options


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('host = "Web Server";', "services.bento.host"),
        ("identities = [ ];", "services.bento.identities"),
        ('identities = [ "key" ];', "services.bento.identities"),
        ("interval = 5;", "services.bento.interval"),
        ('path = "corkscrew";', "services.bento.path"),
        ("splay = true;", "services.bento.splay"),
        ('suspend = "no";', "services.bento.suspend"),
        ("confirm.timeout = 0;", "services.bento.confirm.timeout"),
        ("confirm.deadline = 1;", "services.bento.confirm.deadline"),
        ('confirm.failedUnits = "reboot";', "services.bento.confirm.failedUnits"),
        ("confirm.commands = [ { run = [ ]; } ];", "services.bento.confirm.commands"),
        ("notices = 1;", "services.bento.notices"),
        ('metricsFile = "/x/y.txt";', "services.bento.metricsFile"),
        ("trigger.port = 70000;", "services.bento.trigger.port"),
        ('trigger.openFirewall = "yes";', "services.bento.trigger.openFirewall"),
        ("trustFile = 1;", "services.bento.trustFile"),
    ],
)
def test_an_option_of_the_wrong_type_is_named(line: str, said: str, tmp_path: Path) -> None:
    option = said.removeprefix("services.bento.")
    configuration = host(line)
    if option == "trustFile":
        configuration = configuration.replace(f"trustFile = {TRUST};", "")
    expression = machine(MODULES, configuration, f"builtins.deepSeq m.config.services.bento.{option} 1")
    assert said in evaluated(expression, tmp_path, fails=True)


def test_what_is_set_reaches_the_agents_settings(tmp_path: Path) -> None:
    text = settings_text(
        host(
            """
            host = "other"; identities = [ "/etc/a" "/etc/b" ];
            confirm = { timeout = 300; deadline = 900; failedUnits = "fail"; };
            confirm.commands = [ { run = [ "/bin/x" "a b" ]; timeout = 5; } ];
            notices = false; metricsFile = "/var/lib/x/bento.prom";
            settings.paths.state = "/var/lib/bento";
            """
        ),
        tmp_path,
    )
    assert parse_agent_settings(text).deadline == 900
    golden("agent.toml", re.sub(r"/nix/store/[0-9a-z]{32}", "/nix/store/HASH", text))


def test_a_suspended_host_has_no_timer(tmp_path: Path) -> None:
    assert sorted(units(host("suspend = true;"), tmp_path)) == ["bento-agent.service", "bento-recover.service"]


def test_interval_and_splay_reach_the_timer(tmp_path: Path) -> None:
    timer = lines(units(host('interval = "1h"; splay = "10min";'), tmp_path)["bento-agent.timer"])
    assert "OnUnitInactiveSec=1h" in timer
    assert "RandomizedDelaySec=10min" in timer


def test_the_boot_recovers_once_before_any_run_and_holds_up_nobody_else(tmp_path: Path) -> None:
    unit = lines(units(host(), tmp_path)["bento-recover.service"])
    for line in ("Type=oneshot", "RemainAfterExit=true", "X-RestartIfChanged=false", "Environment=NIX_REMOTE=daemon"):
        assert line in unit
    assert [line for line in unit if line.startswith("Before=")] == ["Before=bento-agent.service"]
    assert [line for line in unit if line.startswith("SuccessExitStatus=")] == [
        f"SuccessExitStatus={code}" for code in (5, 75)
    ]
    wanted = 'map (name: m.config.systemd.services.${name}.wantedBy) [ "bento-recover" "bento-agent" ]'
    assert ask(host(), wanted, tmp_path) == [["timers.target"], []]


@pytest.mark.parametrize(("address", "listen"), [("10.0.0.7", "10.0.0.7:7374"), ("fd00::7", "[fd00::7]:7374")])
def test_the_trigger_listens_on_the_one_address_that_was_named(address: str, listen: str, tmp_path: Path) -> None:
    found = units(host(f'trigger = {{ enable = true; address = "{address}"; }};'), tmp_path)
    assert [line for line in found["bento-trigger.socket"].splitlines() if "Listen" in line] == [
        f"ListenStream={listen}"
    ]
    assert "MaxConnections=1" in found["bento-trigger.socket"].splitlines()
    service = found["bento-trigger@.service"].splitlines()
    for line in ("StandardInput=null", "StandardOutput=socket", "StandardError=journal", "X-RestartIfChanged=false"):
        assert line in service
    (start,) = [line for line in service if line.startswith("ExecStart=")]
    assert start.endswith(" answer")


def test_the_triggers_port_is_open_to_others_only_if_that_was_said(tmp_path: Path) -> None:
    ports = "m.config.networking.firewall.allowedTCPPorts"
    on = 'trigger = { enable = true; address = "10.0.0.7"; port = 7375; MORE };'
    assert ask(host(on.replace("MORE", "")), ports, tmp_path) == []
    assert ask(host(on.replace("MORE", "openFirewall = true;")), ports, tmp_path) == [7375]
    assert ask(host("trigger.openFirewall = true;"), ports, tmp_path) == []


# Assertions


def test_a_good_configuration_fails_no_assertion(tmp_path: Path) -> None:
    assert failed(host(more=SECRETS), tmp_path) == ""


def test_a_trigger_without_an_address_is_refused(tmp_path: Path) -> None:
    assert "services.bento.trigger needs an address" in failed(host("trigger.enable = true;"), tmp_path)


def test_an_identity_in_the_nix_store_is_refused(tmp_path: Path) -> None:
    assert "is in the Nix store" in failed(host(f'identities = [ "/nix/store/{"a" * 32}-key" ];'), tmp_path)


def test_secrets_that_nothing_would_install_are_refused(tmp_path: Path) -> None:
    off = f"{{ {BOOT} {ROOT} bento.secrets.a = {{ }}; }}"
    assert "set services.bento.enable = true" in failed(off, tmp_path)


@pytest.mark.parametrize(("place", "path"), [("/srv/keys", "/srv/keys/id"), ("/srv", "/srv/keys/id")])
def test_an_identity_on_a_file_system_that_comes_too_late_is_refused(place: str, path: str, tmp_path: Path) -> None:
    late = f'{ROOT} fileSystems."{place}" = {{ device = "/dev/sdb1"; fsType = "ext4"; MORE }};'
    said = failed(host(f'identities = [ "{path}" ];', late.replace("MORE", "")), tmp_path)
    assert path in said
    assert f'Set fileSystems."{place}".neededForBoot = true' in said
    assert failed(host(f'identities = [ "{path}" ];', late.replace("MORE", "neededForBoot = true;")), tmp_path) == ""


def test_a_state_on_a_file_system_that_comes_too_late_is_refused(tmp_path: Path) -> None:
    for place, said in (("/var/lib/bento", True), ("/var/lib", False), ("/var/lib/ben", False)):
        late = f'{ROOT} fileSystems."{place}" = {{ device = "/dev/sdb1"; fsType = "ext4"; }};'
        assert ("/var/lib/bento is needed before" in failed(host(more=late), tmp_path)) is said


def test_every_option_has_a_description(tmp_path: Path) -> None:
    walk = (
        "let walk = path: set: if set ? _type then (if (set.description or null) == null then [ path ] else [ ]) "
        'else builtins.concatMap (name: walk "${path}.${name}" set.${name}) (builtins.attrNames set); in '
        'walk "services.bento" m.options.services.bento ++ walk "bento" m.options.bento ++ walk "bento.secrets" '
        '(builtins.removeAttrs (m.options.bento.secrets.type.getSubOptions [ ]) [ "_module" "_freeformOptions" ])'
    )
    assert ask(host(), walk, tmp_path) == []
