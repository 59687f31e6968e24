"""`bento server apply` on this Debian, in a private root with its own /etc; then deploy and pull, without root."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bento.core.server_wish import DROP_IN, KEYS, PUBLISHER, match_blocks
from bento.demo.systems import System, write_flake
from rig import MakeRoot, PrivateRoot, make_ssh_key
from rig.nixos import PROJECT, evaluated
from rig.ports import free_port
from rig.world import PROGRAMS, said

FOLDER = "/srv/chroot"
# What is there only while accounts are made, by tests beside these too.
_PASSING = shutil.ignore_patterns(
    "*.lock", "*+", *(f"{name}.*" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid"))
)


class Server:
    """A Debian of the test's own: its /etc is a copy, /srv is the test's folder."""

    def __init__(self, root: PrivateRoot, folder: Path) -> None:
        self.root, self.folder = root, folder
        shutil.copytree("/etc", folder / "etc", symlinks=True, ignore=_PASSING)
        (folder / "srv").mkdir()
        root.run(["mkdir", "/run/sshd"], check=True)  # as with the service
        for name in ("etc", "srv"):
            root.run(["mount", "--bind", folder / name, f"/{name}"], check=True)
        for name in ("ed25519", "rsa", "ecdsa"):
            (folder / f"etc/ssh/ssh_host_{name}_key").unlink(missing_ok=True)
        self.key = make_ssh_key(folder / "etc/ssh/ssh_host_ed25519_key", comment="server")
        self.port = free_port()
        (folder / "etc/ssh/sshd_config").write_text(
            f"Include /etc/ssh/sshd_config.d/*.conf\nPort {self.port}\nListenAddress 127.0.0.1\n"
            "UsePAM no\nPidFile none\nUseDNS no\nSubsystem sftp internal-sftp\n"
            "AllowUsers root\nAllowGroups root\n"  # what a hardened machine says of its own people
        )
        self.fleet = folder / "fleet"
        self._sshd: subprocess.Popen[bytes] | None = None

    def bento(self, *args: str, code: int = 0, user: str | None = None) -> str:
        done = self.try_bento(*args, user=user)
        assert done.returncode == code, said(done)
        return said(done)

    def try_bento(self, *args: str, user: str | None = None) -> subprocess.CompletedProcess[bytes]:
        argv: list[Any] = [PROGRAMS / "bento", *args]
        if user is not None:
            argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *argv]
        cwd = self.fleet if self.fleet.exists() else self.folder
        return self.root.run(argv, cwd=cwd, timeout=200)

    def start(self) -> None:
        """Its sshd, with the settings that are there now."""
        self._sshd = self.root.popen(["/usr/sbin/sshd", "-D", "-e"], stderr=(self.folder / "log").open("ab"))
        deadline = time.monotonic() + 120
        while b"Server listening" not in (self.folder / "log").read_bytes():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def shown(self, path: str) -> str:
        return self.root.text(["stat", "-c", "%U:%G %a", path])


@pytest.fixture
def server(make_root: MakeRoot, tmp_path: Path) -> Server:
    """With a fleet of the hosts web and db, which the server doesn't know yet."""
    folder = tmp_path / "server"
    folder.mkdir()
    # sshd and setpriv'ed programs must be able to pass
    for one in (tmp_path, *tmp_path.parents[:2]):
        one.chmod(one.stat().st_mode | 0o055)
    server = Server(make_root("server"), folder)
    for name in ("signing", "publisher", "web", "db"):
        make_ssh_key(folder / name, comment=name)
    server.bento(
        *("init", "fleet", "--fleet", "acme", "--publish-to", FOLDER, "--address", "127.0.0.1"),
        *("--port", str(server.port), "--server-key", server.key.line, "--signing-key", str(folder / "signing")),
    )
    for name in ("web", "db"):
        server.bento("host", "add", name, "--key-file", str(folder / f"{name}.pub"))
        write_flake(server.fleet / "hosts" / name, {name: System()})
    toml = server.fleet / "bento.toml"
    toml.write_text(f'{toml.read_text()}\n[server]\npublishers = ["{make_key(folder / "publisher.pub")}"]\n')
    return server


def make_key(path: Path) -> str:
    return path.read_text().strip()


def test_it_shows_first_then_makes_accounts_folders_keys_and_settings_and_then_has_nothing_to_do(
    server: Server,
) -> None:
    before = (server.folder / "etc/passwd").read_text()
    dry = server.bento("server", "apply", "--dry-run")
    for line in ("groupadd --system bento-hosts", f"install -d -o {PUBLISHER} -g web -m 2770 {FOLDER}/web/reports"):
        assert f"would: {line}\n" in dry
    assert (server.folder / "etc/passwd").read_text() == before
    assert not (server.folder / "srv/chroot").exists()
    assert not (server.folder / f"etc/{DROP_IN.relative_to('/etc')}").exists()

    done = server.bento("server", "apply")
    steps = [line.removeprefix("would: ") for line in dry.splitlines() if line.startswith("would: ")]
    assert [line for line in done.splitlines() if line in steps] == steps
    # the machine that tests run on keeps no quotas: that is said, and nothing stops there
    assert all("keeps no quotas: a host can fill it" in said_ for said_ in (dry, done))
    assert server.shown(f"{FOLDER}/web") == "root:root 755"
    assert server.shown(f"{FOLDER}/web/release") == f"{PUBLISHER}:{PUBLISHER} 755"
    assert server.shown(f"{FOLDER}/web/reports") == f"{PUBLISHER}:web 2770"
    assert server.shown(f"{FOLDER}/.publisher") == f"{PUBLISHER}:{PUBLISHER} 700"
    assert server.shown(str(KEYS / "web")) == "root:root 644"
    assert server.bento("server", "apply").startswith("nothing to do\n")
    # and bento check, which asks sshd itself, has nothing against it
    assert against(server) == []


def against(server: Server) -> list[str]:
    """What `bento check`, run on the server as root, has against the server."""
    found = json.loads(server.try_bento("check", "--json").stdout)
    assert "chroots, accounts and sshd's settings" not in [one["what"] for one in found["unchecked"]]
    return [
        one["message"]
        for one in found["findings"]
        if one["area"] == "server" and one["severity"] in ("error", "warning")
    ]


def by_sftp(server: Server) -> None:
    """Publish as the account that was made for it: with a server of its own that is how, even on the machine itself."""
    toml = server.fleet / "bento.toml"
    to = f'to = "sftp://{PUBLISHER}@127.0.0.1:{server.port}/"\nidentity = "{server.folder}/publisher"'
    text = toml.read_text().replace(f'to = "{FOLDER}"', to)
    toml.write_text(text.replace("[server]\n", f'[server]\nfolder = "{FOLDER}"\n'))


BROKEN = {
    "the publisher's chroot": (
        (f"    ChrootDirectory {FOLDER}\n", ""),
        f"sshd has ChrootDirectory none for {PUBLISHER}, not {FOLDER}: he could reach more than releases",
    ),
    "the whole block of the publisher's": (
        (f"Match User {PUBLISHER}\n", "Match User nobody\n"),
        f"sshd has forcecommand none for {PUBLISHER}, not internal-sftp: he could do more than publish",
    ),
    "the hosts' chroot": (
        (f"ChrootDirectory {FOLDER}/%u", "ChrootDirectory /srv/%u"),
        "sshd has ChrootDirectory /srv/%u",
    ),
    "the hosts' block": (("Match Group bento-hosts\n", "Match Group nobody\n"), "sshd has no ForceCommand"),
}


@pytest.mark.parametrize(("change", "told"), BROKEN.values(), ids=BROKEN)
def test_check_compares_sshd_with_what_was_made_though_releases_go_there_by_sftp(
    server: Server, change: tuple[str, str], told: str
) -> None:
    server.bento("server", "apply")
    by_sftp(server)
    server.start()
    assert against(server) == []
    drop_in = server.folder / f"etc/{DROP_IN.relative_to('/etc')}"
    text = drop_in.read_text()
    assert change[0] in text
    drop_in.write_text(text.replace(*change))
    found = against(server)
    assert [one for one in found if told in one], found


def test_check_tells_of_keys_that_may_publish_and_of_those_that_can_not(server: Server) -> None:
    server.bento("server", "apply")
    by_sftp(server)
    keys = server.folder / f"etc/{KEYS.relative_to('/etc')}/{PUBLISHER}"
    other = make_ssh_key(server.folder / "other", comment="other")
    keys.write_text(f"restrict {other.line}\n")
    missing, more = sorted(one for one in against(server) if str(KEYS) in one)[::-1]
    assert missing.startswith("the publisher's key SHA256:")
    assert missing.endswith(f"is not in {KEYS}/{PUBLISHER}: it can't publish")
    assert more == f"{KEYS}/{PUBLISHER} has 1 keys that bento.toml doesn't name: whoever has them can withhold releases"
    server.root.run(["userdel", PUBLISHER], check=True)
    assert f"there is no account {PUBLISHER}: nobody can publish without root" in against(server)


def test_of_several_servers_check_says_that_it_looked_at_this_one_only(server: Server) -> None:
    server.bento("server", "apply")
    by_sftp(server)
    toml = server.fleet / "bento.toml"
    mirror = f'["sftp://{PUBLISHER}@127.0.0.1:{server.port}/", "sftp://{PUBLISHER}@127.0.0.1:1/"]'
    toml.write_text(re.sub(r"^to = .*$", f"to = {mirror}", toml.read_text(), flags=re.MULTILINE))
    unchecked = json.loads(server.try_bento("check", "--json").stdout)["unchecked"]
    assert "chroots, accounts and sshd's settings of the other servers" in [one["what"] for one in unchecked]
    assert [one for one in against(server) if "sshd" in one] == []


def test_another_fleets_server_is_not_taken_for_this_ones(server: Server) -> None:
    server.bento("server", "apply")
    by_sftp(server)
    toml = server.fleet / "bento.toml"
    toml.write_text(re.sub(r"\[hosts\.(web|db)\]", r"[hosts.other-\1]", toml.read_text()))
    found = json.loads(server.try_bento("check", "--json").stdout)
    assert "chroots, accounts and sshd's settings" in [one["what"] for one in found["unchecked"]]


def test_what_changes_in_the_fleet_changes_on_the_server_and_a_removed_host_can_not_log_in(server: Server) -> None:
    server.bento("server", "apply")
    toml = server.fleet / "bento.toml"
    toml.write_text(re.sub(r"^\[hosts\.db\]\n(?:\w.*\n)+", "", toml.read_text(), flags=re.MULTILINE))
    assert server.bento("server", "apply", "--dry-run").splitlines()[0] == f"would: rm {KEYS / 'db'}"
    server.bento("server", "apply")
    assert not (server.folder / f"etc/{KEYS.relative_to('/etc')}/db").exists()
    server.root.run(["chmod", "777", f"{FOLDER}/web/release"], check=True)
    assert "install -d" in server.bento("server", "apply")
    assert server.shown(f"{FOLDER}/web/release") == f"{PUBLISHER}:{PUBLISHER} 755"


def test_an_account_that_is_somebodys_is_not_given_to_a_host(server: Server) -> None:
    server.root.run(["useradd", "--create-home", "--home-dir", "/srv/home", "web"], check=True)
    said_ = server.bento("server", "apply", code=2)
    assert "this machine has an account web already, and it is not one for a host" in said_
    assert not (server.folder / "srv/chroot").exists()


def test_a_folder_below_one_that_others_may_write_to_is_refused_before_anything_is_made(server: Server) -> None:
    (server.folder / "srv/open").mkdir()
    (server.folder / "srv/open").chmod(0o777)
    toml = server.fleet / "bento.toml"
    toml.write_text(toml.read_text().replace("[server]\n", '[server]\nfolder = "/srv/open/chroot"\n'))
    before = (server.folder / "etc/passwd").read_text()
    for args in (("--dry-run",), ()):
        said_ = server.bento("server", "apply", *args, code=2)
        assert "/srv/open can be written to by others (mode 0777): sshd refuses every chroot below it" in said_
        assert 'hint: name one below folders of root alone: [server] folder = "/home/chroot"' in said_
    assert (server.folder / "etc/passwd").read_text() == before


def test_settings_that_sshd_refuses_are_taken_back(server: Server) -> None:
    folder = server.folder / "etc/ssh/sshd_config.d"
    folder.mkdir(exist_ok=True)
    (folder / "50-broken.conf").write_text("NoSuchSetting yes\n")
    assert "sshd refuses the settings, and has the old ones again" in server.bento("server", "apply", code=1)
    assert not (folder / DROP_IN.name).exists()


def test_an_sshd_that_does_not_read_the_folder_is_told_to_a_person(server: Server) -> None:
    config = server.folder / "etc/ssh/sshd_config"
    config.write_text(config.read_text().replace("Include", "#Include"))
    assert "put this line at its top: Include /etc/ssh/sshd_config.d/*.conf" in server.bento("server", "apply", code=1)


def test_a_publisher_made_link_leads_root_nowhere(server: Server) -> None:
    server.bento("server", "apply")
    server.root.run(["rmdir", f"{FOLDER}/web/release/objects"], check=True)
    (server.folder / "srv/secret").mkdir(mode=0o700)
    server.root.run(["ln", "-s", "/srv/secret", f"{FOLDER}/web/release/objects"], check=True)
    server.bento("server", "apply", code=1)
    assert server.shown("/srv/secret") == "root:root 700"


def test_a_whole_deploy_and_pull_without_root_on_the_server(
    server: Server, make_root: MakeRoot, tmp_path: Path
) -> None:
    server.bento("server", "apply")
    server.start()
    by_sftp(server)
    admin = make_root("admin")

    def deploy(*args: str, code: int = 0) -> str:
        # the admin's machine, as nobody in particular
        argv = [PROGRAMS / "bento", "--dir", server.fleet, *args]
        done = admin.run(argv, timeout=200)
        assert done.returncode == code, said(done)
        return said(done)

    deploy("secret", "add", "web", str(server.folder / "web.pub"), "--name", "token")
    deploy("deploy", "--on", "web")
    assert server.shown(f"{FOLDER}/web/release/manifest") == f"{PUBLISHER}:{PUBLISHER} 644"

    host = make_root("web")
    folder = tmp_path / "host"
    folder.mkdir()
    shutil.copy(server.folder / "web", folder / "key")
    shutil.copy(server.fleet / "utils/trust.toml", folder / "trust.toml")
    (folder / "agent.toml").write_text(
        f'host = "web"\nidentities = ["{folder}/key"]\ntrust = "{folder}/trust.toml"\n'
        f'[paths]\nstate = "{folder}/state"\n[confirm]\ntimeout = 60\n[systemd]\ncommand = ["true"]\n'
    )
    done = host.run([PROGRAMS / "bento-agent", "--config", folder / "agent.toml", "run"], timeout=200)
    assert done.returncode == 0, said(done)
    assert host.run(["cat", "/run/bento/secrets/token"]).stdout == (server.folder / "web.pub").read_bytes()
    assert "up to date" in deploy("status", "--on", "web")

    # A host sees its own folder and no shell; the publisher no shell either.
    ssh = ["-i", str(folder / "key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ssh += ["-o", "BatchMode=yes", "-p", str(server.port)]
    done = host.run(["timeout", "10", "ssh", *ssh, "web@127.0.0.1", "id"])
    assert done.returncode != 0
    assert b"uid=" not in done.stdout
    assert host.run(["ssh", *ssh, "db@127.0.0.1", "true"]).returncode == 255


def test_nixos_gets_the_very_same_settings(tmp_path: Path) -> None:
    text = evaluated(
        f'import {PROJECT}/nix/lib/sshd.nix {{ folder = "/srv/x"; keys = "/etc/ssh/authorized_keys.d/%u"; }}', tmp_path
    )
    assert text == match_blocks(Path("/srv/x"), "/etc/ssh/authorized_keys.d/%u")
