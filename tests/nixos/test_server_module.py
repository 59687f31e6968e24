"""nix/server.nix and nix/container.nix, evaluated by the real module system; sshd and systemd judge what comes out."""

import base64
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from bento.admin.inventory import load_fleet
from bento.admin.server import wish_of
from bento.core.server_wish import ServerWish, folders, key_files, match_blocks, quota_lines, startups
from rig import make_ssh_key
from rig.nixos import PROJECT, evaluated, is_whole, machine, tree
from rig.world import PROGRAMS

FLEET = PROJECT / "tests/nixos/fleet.toml"
GOLDEN = PROJECT / "tests/nixos/golden"
BASE = 'system.stateVersion = "25.11";' + (
    'boot.loader.grub.enable = false; nixpkgs.hostPlatform = "x86_64-linux";' if is_whole() else ""
)
ROOT = 'fileSystems."/" = { device = "/dev/sda1"; fsType = "ext4"; };'


def server(text: str = "", more: str = "") -> str:
    return (
        f"{{ ... }}: {{ {BASE} {ROOT} {more} services.bento-server = "
        f"{{ enable = true; fleetFile = {FLEET}; {text} }}; }}"
    )


def ask(configuration: str, wanted: str, tmp_path: Path) -> Any:
    return evaluated(machine(["server.nix"], configuration, wanted), tmp_path)


def wish(tmp_path: Path) -> ServerWish:
    """The same fleet, as `bento server apply` sees it."""
    (tmp_path / "bento.toml").write_text(FLEET.read_text())
    return wish_of(load_fleet(tmp_path))


def rules(configuration: str, tmp_path: Path) -> list[str]:
    found: list[str] = ask(configuration, "m.config.systemd.tmpfiles.rules", tmp_path)
    return [line for line in found if "/home/chroot" in line]


def test_folders_are_those_that_bento_server_apply_makes(tmp_path: Path) -> None:
    found = rules(server(), tmp_path)
    assert found == [f"d {one.path} {one.mode:04o} {one.owner} {one.group} -" for one in folders(wish(tmp_path))]
    assert "\n".join(found) + "\n" == (GOLDEN / "tmpfiles.conf").read_text()


def public(number: int) -> str:
    """An ssh-ed25519 key, of no use but to be listed."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(SigningKey(bytes([number]) * 32).verify_key)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


KEYS = [public(number) for number in range(100, 102)]
MANY = "".join(f'[hosts.h{number}]\nkeys = ["{public(number)} root@h{number}"]\n' for number in range(70))
FLEETS = {
    "root publishes": f'[publish]\nto = "/srv/fleet"\n[hosts.web]\nkeys = ["{KEYS[0]} a", "{KEYS[1]}"]\n',
    "mirrors": f'[publish]\nto = ["sftp://a@b.example/x", "/srv/here"]\n{MANY}',
    "elsewhere": f'[publish]\nto = "sftp://a@b.example/x"\n[hosts.web]\nkeys = ["{KEYS[0]}"]\n',
    "all said": f'[publish]\nto = "/srv/here"\n[server]\nfolder = "/data/chroot"\nquota = 5\n'
    f'publishers = ["{KEYS[0]} one", "{KEYS[1]} two words"]\n'
    f'[hosts.web_1]\nkeys = ["{public(1)} x"]\n[hosts.a-b]\nkeys = ["{public(2)} y"]\n',
    "nobody": '[publish]\nto = "/srv/here"\n',
}


@pytest.mark.skipif(is_whole(), reason="there NixOS's own accounts and files are among them")
@pytest.mark.parametrize("name", FLEETS)
def test_the_module_and_bento_server_apply_make_the_same_of_a_fleet_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "bento.toml").write_text(FLEETS[name])
    wanted = wish_of(load_fleet(tmp_path))
    asked = (
        "let c = m.config; in { folders = c.systemd.tmpfiles.rules; "
        "startups = c.services.openssh.settings.MaxStartups; "
        "sshd = c.services.openssh.extraConfig; keys = builtins.mapAttrs (_: one: one.openssh.authorizedKeys.keys) "
        "c.users.users; groups = builtins.attrNames c.users.groups; quotas = builtins.readFile (lib.removePrefix "
        '"file:" c.systemd.services.bento-quotas.serviceConfig.StandardInput); }'
    )
    configuration = server("quota.enable = true;").replace(str(FLEET), str(tmp_path / "bento.toml"))
    found = ask(configuration, f"let lib = import {tree()}/lib; in {asked}", tmp_path)
    assert found["folders"] == [f"d {one.path} {one.mode:04o} {one.owner} {one.group} -" for one in folders(wanted)]
    assert found["startups"] == startups(len(wanted.hosts))
    assert found["sshd"] == match_blocks(wanted.folder, "/etc/ssh/authorized_keys.d/%u")
    assert found["quotas"] == quota_lines(wanted)
    files = key_files(wanted)
    without_comments = {login: [" ".join(key.split()[:3]) for key in keys] for login, keys in found["keys"].items()}
    assert without_comments == {login: text.splitlines() for login, text in files.items()}
    assert set(found["groups"]) == {"bento-hosts", *files}


def test_systemd_makes_the_folders_as_the_rules_say(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root: folders get owners")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbento-publisher:x:901:901::/:/x\nweb:x:902:902::/:/x\ndb:x:903:903::/:/x\n")  # fmt: skip # noqa: E501
    (root / "etc/group").write_text("root:x:0:\nbento-publisher:x:901:\nweb:x:902:\ndb:x:903:\n")
    conf = tmp_path / "bento.conf"
    conf.write_text("\n".join(rules(server(), tmp_path)) + "\n")
    done = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={root}", str(conf)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    reports = (root / "home/chroot/web/reports").stat()
    assert (reports.st_uid, reports.st_gid, reports.st_mode & 0o7777) == (901, 902, 0o2770)
    assert (root / "home/chroot/web").stat().st_uid == 0


def test_each_host_is_an_account_with_its_keys_and_no_password_and_the_publisher_is_another(tmp_path: Path) -> None:
    users = ask(
        server(),
        "builtins.mapAttrs (_: one: { inherit (one) isSystemUser hashedPassword group extraGroups; keys = "
        "one.openssh.authorizedKeys.keys; }) { inherit (m.config.users.users) web db; publisher = "
        "{ extraGroups = [ ]; } // m.config.users.users.bento-publisher; }",
        tmp_path,
    )
    assert users["web"]["extraGroups"] == ["bento-hosts"]
    assert users["publisher"]["extraGroups"] == []
    for name, file in key_files(wish(tmp_path)).items():
        user = users["publisher" if name == "bento-publisher" else name]
        keys = [" ".join(key.split()[:3]) for key in user["keys"]]  # without the comment
        assert "".join(f"{key}\n" for key in keys) == file
        assert user["isSystemUser"] is True
        assert user["hashedPassword"] == "*"


@pytest.mark.parametrize(
    ("manager", "option"),
    [("systemd.sysusers", "initialHashedPassword"), ("services.userborn", "hashedPassword")],
)
def test_accounts_can_be_made_by_systemd(manager: str, option: str, tmp_path: Path) -> None:
    configuration = server(more=f"{manager}.enable = true;")
    assert ask(configuration, "m.failed", tmp_path) == []
    for name in ("web", "bento-publisher"):
        assert ask(configuration, f"m.config.users.users.{name}.{option}", tmp_path) == "*"


def test_bento_reads_the_fleet_file_while_the_system_is_built(tmp_path: Path) -> None:
    if is_whole():
        names = ask(server(), "map (one: one.name) m.config.system.checks", tmp_path)
        assert "bento-fleet-checked" in names
        return
    (script,) = ask(server(), "map (one: one.script) m.config.system.checks", tmp_path)
    command = script.splitlines()[0].split()
    assert command[1:3] == ["validate", "--fleet"]
    argv = [PROGRAMS / "bento-agent", "validate", "--fleet", FLEET]
    assert subprocess.run(argv, check=False).returncode == 0
    for good, bad in (("[hosts.web]", "[hosts.sshd]"), ("[hosts.web]", "[hosts.bento-hosts]"), ("AAAAC3N", "AAAAC3M")):
        (tmp_path / "bad.toml").write_text(FLEET.read_text().replace(good, bad))
        done = subprocess.run([*argv[:3], tmp_path / "bad.toml"], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr


def sshd(configuration: str, tmp_path: Path, user: str) -> dict[str, str]:
    """What a real sshd has in force for a user, with the module's settings."""
    settings = ask(configuration, "m.config.services.openssh.settings.MaxStartups", tmp_path)
    extra = ask(configuration, "m.config.services.openssh.extraConfig", tmp_path)
    key = tmp_path / "host_key"
    if not key.exists():
        make_ssh_key(key)
    if is_whole():  # NixOS's own text is in it; the keys that it names aren't on this machine
        extra = re.sub(r"^\s*HostKey .*$", "", extra, flags=re.MULTILINE)
    else:
        extra = f"Subsystem sftp internal-sftp\n{extra}"
    config = tmp_path / "sshd_config"
    config.write_text(f"HostKey {key}\nMaxStartups {settings}\n{extra}")
    Path("/run/sshd").mkdir(exist_ok=True)
    done = subprocess.run(["/usr/sbin/sshd", "-t", "-f", str(config)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    argv = ["/usr/sbin/sshd", "-T", "-f", str(config), "-C", f"user={user},host=h,addr=192.0.2.1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_sshd_takes_the_settings_and_confines_the_publisher(tmp_path: Path) -> None:
    said = sshd(server(), tmp_path, "bento-publisher")
    assert said["chrootdirectory"] == "/home/chroot"
    assert said["forcecommand"] == "internal-sftp"
    assert said["disableforwarding"] == "yes"
    assert said["authenticationmethods"] == "publickey"
    assert said["maxstartups"] == startups(2)
    assert sshd(server(), tmp_path, "somebody")["forcecommand"] == "none"


def test_the_folder_can_be_another_one_but_not_one_that_sshd_would_misread(tmp_path: Path) -> None:
    assert sshd(server('folder = "/srv/x";'), tmp_path, "bento-publisher")["chrootdirectory"] == "/srv/x"
    for bad in ("/srv/%u", "/srv/a b", "srv", '/srv/\\"x', "/srv/\\$x"):
        expression = machine(["server.nix"], server(f'folder = "{bad}";'), "m.config.services.bento-server.folder")
        assert "services.bento-server.folder" in evaluated(expression, tmp_path, fails=True)


def test_without_publishers_root_publishes_and_there_is_no_account(tmp_path: Path) -> None:
    configuration = server("publishers = [ ];")
    assert "d /home/chroot/web/release 0755 root root -" in rules(configuration, tmp_path)
    assert ask(configuration, "m.config.users.users ? bento-publisher", tmp_path) is False


def failed(configuration: str, tmp_path: Path) -> str:
    return "\n".join(one for one in ask(configuration, "m.failed", tmp_path) if "bento" in one)


def test_the_cache_needs_an_address_and_a_machine_that_gets_secrets(tmp_path: Path) -> None:
    assert failed(server(), tmp_path) == ""
    said = failed(server("cache.enable = true;"), tmp_path)
    assert "cache needs an address" in said
    assert "set services.bento.enable = true" in said
    trust = PROJECT / "tests/nixos/trust.toml"
    host = f'services.bento = {{ enable = true; host = "web"; trustFile = {trust}; }};'
    good = server('cache = { enable = true; address = "10.0.0.1"; };', host)
    assert failed(good, tmp_path) == ""
    served = ask(
        good, "{ inherit (m.config.services.nix-serve) bindAddress openFirewall port secretKeyFile; }", tmp_path
    )
    assert served == {
        "bindAddress": "10.0.0.1",
        "openFirewall": False,
        "port": 5000,
        "secretKeyFile": "/run/bento/secrets/binary-cache-key",
    }
    other = good.replace("10.0.0.1", "fd00::1")
    assert ask(other, "m.config.services.nix-serve.bindAddress", tmp_path) == "[fd00::1]"
    assert ask(good, "m.config.bento.secrets.binary-cache-key.restartUnits", tmp_path) == ["nix-serve.service"]


def test_quotas_are_set_on_the_file_system_that_holds_the_folders(tmp_path: Path) -> None:
    home = 'fileSystems."/home" = { device = "/dev/sdb1"; fsType = "ext4"; options = [ "usrquota" ]; };'
    configuration = server("quota = { enable = true; size = 10; files = 5; };", home)
    text = ask(configuration, 'm.config.systemd.units."bento-quotas.service".text', tmp_path)
    assert "/bin/setquota --user --batch /home\n" in text
    assert "RequiresMountsFor=/home/chroot" in text
    assert ask(server(), 'm.config.systemd.units ? "bento-quotas.service"', tmp_path) is False


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("publishers = 1;", "publishers"),
        ("quota.size = 0;", "quota.size"),
        ("quota.files = 0;", "quota.files"),
        ("cache.port = 0.5;", "cache.port"),
        ("cache.secret = 1;", "cache.secret"),
        ("cache.address = 1;", "cache.address"),
        ("cache.openFirewall = 1;", "cache.openFirewall"),
    ],
)
def test_an_option_of_the_server_of_the_wrong_type_is_named(line: str, option: str, tmp_path: Path) -> None:
    expression = machine(["server.nix"], server(line), f"builtins.deepSeq m.config.services.bento-server.{option} 1")
    assert f"services.bento-server.{option}" in evaluated(expression, tmp_path, fails=True)


def container(text: str = "") -> str:
    return f"{{ {BASE} {ROOT} services.bento-container = {{ enable = true; fleetFile = {FLEET}; {text} }}; }}"


def test_the_container_has_user_ids_of_its_own_and_the_machines_sshd_stays_as_it_is(tmp_path: Path) -> None:
    def of(wanted: str, text: str = "") -> Any:
        return evaluated(machine(["container.nix"], container(text), wanted), tmp_path)

    assert of("m.failed") == []
    assert of("m.config.containers.bento.privateUsers") == "pick"
    assert of("m.config.services.openssh.enable") is False
    assert of("m.config.networking.firewall.allowedTCPPorts") == []
    assert of("m.config.networking.firewall.allowedTCPPorts", "openFirewall = true; port = 2223;") == [2223]
    if is_whole():
        assert of("m.config.containers.bento.config.services.bento-server.enable") is True
        assert of("m.config.containers.bento.config.users.users ? web") is True


def test_what_the_container_holds_is_a_good_server(tmp_path: Path) -> None:
    """The configuration inside it, evaluated as a machine of its own."""
    if is_whole():  # NixOS has evaluated it
        wanted = "m.config.containers.bento.config"
        expression = machine(["container.nix"], container(), f"let inner = {wanted}; in WANTED")
    else:
        inner = machine(["server.nix"], "m.config.containers.bento.config", "m.config")
        inner = inner.replace("(m.config.containers.bento.config)", "containers.bento.config")
        expression = machine(
            ["container.nix"], container(), f"let inherit (m.config) containers; inner = {inner}; in WANTED"
        )
    asked = (
        "[ inner.services.openssh.ports inner.services.bento-server.folder (inner.users.users ? web) "
        "inner.system.stateVersion ]"  # the machine's: its NixOS may be older than this module
    )
    assert evaluated(expression.replace("WANTED", asked), tmp_path) == [[2222], "/home/chroot", True, "25.11"]


@pytest.mark.parametrize(("module", "path"), [("server.nix", "bento-server"), ("container.nix", "bento-container")])
def test_every_option_of_the_server_has_a_description(module: str, path: str, tmp_path: Path) -> None:
    walk = (
        "let walk = path: set: if set ? _type then (if (set.description or null) == null then [ path ] else [ ]) "
        'else builtins.concatMap (name: walk "${path}.${name}" set.${name}) (builtins.attrNames set); in '
        f'walk "{path}" m.options.services.{path}'
    )
    assert evaluated(machine([module], f"{{ {BASE} {ROOT} }}", walk), tmp_path) == []
