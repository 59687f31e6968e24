"""A folder as the bash Bento's how-to lays it out moves over and its hosts pull, as docs/migrating.md says."""

import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from bento.demo.systems import System, write_configuration, write_flake
from rig import HostUser, MakeRoot, Sshd, make_ssh_key
from rig.desk import tree
from rig.world import PROGRAMS, Machine, World, said

PAGE = Path(__file__).parents[2] / "docs/migrating.md"

# As the old fleet.nix works: a list of accounts, and a function that makes each of them.
_FLEET_NIX = """\
{{ lib, pkgs, ... }}: let
  account = one: {{
    users.users."${{one.username}}" = {{
      home = "/home/chroot/" + one.username;
      isSystemUser = true;
      group = "sftp_users";
      shell = null;
      openssh.authorizedKeys.keys = [ one.key ];
    }};
  }};
  known = [
{users}
  ];
in {{
  imports = map account known;
  users.groups.sftp_users = {{ }};
  services.openssh.extraConfig = "Match Group sftp_users";
}}
"""


def block(name: str) -> str:
    found = re.search(rf"<!-- {name}: begin.*?```\w+\n(.*?)```\n<!-- {name}: end -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def world(make_root: MakeRoot, sshd: Sshd, host_user: HostUser, tmp_path: Path) -> World:
    """A server with four hosts' accounts, and an old folder in `bento`: no fleet yet."""
    made = World(tmp_path, make_root("admin"), sshd, make_root, host_user)
    old = tmp_path / "bento"
    users = []
    for word, folder, kind in (
        ("router", None, "channel"),
        ("laptop", "my-laptop", "flake"),
        ("one", "all-flakes-systems", "flake"),
        ("two", "all-flakes-systems", "flake"),
    ):
        name = host_user(word)
        place = tmp_path / f"host-{word}"
        place.mkdir()
        key = make_ssh_key(place / "key", comment=f"root@{name}")
        made.sshd.add_host(name, [key.line], folders=False)
        users.append(f'    {{ username = "{name}"; key = "{key.line}"; }}')
        made.machines[word] = Machine(word, name, make_root(word), place, old / "hosts" / (folder or name), kind)
    names = {word: machine.name for word, machine in made.machines.items()}
    write_configuration(old / "hosts" / names["router"], System("router"))
    write_flake(old / "hosts/my-laptop", {names["laptop"]: System("laptop")})
    write_flake(old / "hosts/all-flakes-systems", {names[word]: System(word) for word in ("one", "two")})
    (old / "utils").mkdir()
    (old / "utils/bento.nix").write_text("{ }\n")
    (old / "utils/common-stuff.nix").write_text("{ }\n")
    for folder in (old / "hosts").iterdir():
        (folder / "utils").symlink_to("../../utils/")
        (folder / "hardware-configuration.nix").write_text("{ }\n")
    (old / "hosts" / names["router"] / "REBOOT").write_text("")
    (old / "utils/fleet.nix").write_text(_FLEET_NIX.format(users="\n".join(users)))
    (old / "README.md").write_text("mine\n")
    (old / "config.sh").write_text(
        f"CHROOT_DIR={sshd.publish}\nREMOTE_IP={sshd.address}\n\n# Optional\nTIMEOUT=10\nREMOTE_PORT={sshd.port}\n"
    )
    return made


def migrate(world: World, script: str) -> str:
    """Run the page's commands, in the folder that holds the old one; what they print."""
    script = script.replace(
        "bento migrate bento fleet", f"bento migrate bento fleet --server-key '{world.sshd.host_key_line}'"
    )
    done = world.admin.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=world.folder,
        env={"PATH": f"{PROGRAMS}:{world.admin.env['PATH']}"},
        timeout=200,
    )
    assert done.returncode == 0, said(done)
    return said(done)


def test_an_old_fleet_moves_over_is_deployed_and_pulled(world: World) -> None:
    old = world.folder / "bento"
    before = tree(old)
    shown = migrate(world, block("migrate"))
    assert tree(old) == before
    assert "not taken over" not in shown
    assert "published 4" in shown
    for word, machine in world.machines.items():
        agent = tomllib.loads((world.fleet / f"agents/{machine.name}.toml").read_text())
        assert agent == {"host": machine.name, "identities": ["/root/.ssh/id_ed25519"]}
        world.write_agent(machine)  # the same, but with this test's paths
        done = machine.root.run(
            ["bash", "-euc", block("host").replace("bento-agent", f"bento-agent --config {machine.config}")],
            env={"PATH": f"{PROGRAMS}:{machine.root.env['PATH']}"},
            timeout=200,
        )
        assert done.returncode == 0, said(done)
        seen = world.status(machine)
        assert seen["state"] == "up to date"
        assert machine.root.path(f"{machine.root.running()}/etc/message").read_text() == f"{word}\n"
        if machine.kind == "flake":
            assert machine.root.running() == seen["published"]["system"]


def test_what_moves_over_is_all_of_it_and_secrets_work_at_once(world: World) -> None:
    migrate(world, block("migrate"))
    fleet = world.fleet
    router, laptop = world.machines["router"], world.machines["laptop"]
    trust = tomllib.loads((fleet / "utils/trust.toml").read_text())
    (server,) = trust["servers"]
    assert (server["address"], server["port"], server["timeout"]) == (world.sshd.address, world.sshd.port, 10)
    assert server["host_keys"] == [world.sshd.host_key_line]
    assert (fleet / "README.md").read_text() == "mine\n"
    assert (fleet / f"hosts/{router.name}/utils/common-stuff.nix").is_file()
    assert (fleet / f"hosts/{router.name}/utils").is_symlink()
    assert not (fleet / f"hosts/{router.name}/REBOOT").exists()
    assert 'reboot = "when-needed"' in (fleet / "bento.toml").read_text()
    world.bento("secret", "add", laptop.name, "-", "--name", "token", stdin=b"hunter2")
    world.bento("deploy", "--on", laptop.name)
    world.write_agent(laptop)
    laptop.run()
    assert laptop.secret("token") == b"hunter2"


def test_the_old_agent_s_folders_stay_as_they_are(world: World) -> None:
    chroot = world.sshd.publish / world.machines["router"].name
    (chroot / "config").mkdir(parents=True)
    (chroot / "config/update.sh").write_text("old\n")
    (chroot / "logs").mkdir()
    (chroot / "last_change_date").write_text("")
    before = tree(chroot)
    migrate(world, block("migrate"))
    after = tree(chroot)
    assert {name: after[name] for name in before} == before
    assert "release/manifest" in after


def test_a_failure_in_the_middle_leaves_nothing_behind(world: World) -> None:
    odd = world.folder / "bento/hosts/odd"
    odd.mkdir()
    (odd / "configuration.nix").write_text("{ }")
    os.mkfifo(odd / "pipe")  # can't be copied
    before = tree(world.folder)
    done = world.try_bento(
        "migrate", "bento", "fleet", "--yes", "--server-key", world.sshd.host_key_line, cwd=world.folder
    )
    assert done.returncode == 2, said(done)
    assert f"error: {odd}/pipe can't be copied" in said(done)
    after = tree(world.folder)
    assert {name for name in after if not name.startswith("machine-")} == {
        name for name in before if not name.startswith("machine-")
    }


def test_the_plan_is_the_same_for_programs_and_writes_nothing(world: World) -> None:
    before = tree(world.folder / "bento")
    plan = json.loads(world.bento("migrate", "bento", "--dry-run", "--json", cwd=world.folder))
    assert plan["new"] == str(world.folder / "bento-new")
    assert {host["name"] for host in plan["hosts"]} == {machine.name for machine in world.machines.values()}
    assert plan["left"] == []
    assert tree(world.folder / "bento") == before
    assert not (world.folder / "bento-new").exists()
