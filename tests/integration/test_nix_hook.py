"""The activation hook of nix/agent.nix, rendered by Nix and run by bash as NixOS's activation script runs it.

Link and owners must be right at `test`, at `switch`, at boot, with an older entry, with an unknown system, and beside a
system that has no hook.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bento.demo.systems import SWITCH_HOOK, Behaviour, System
from rig.nixos import PROJECT, evaluated
from rig.users import user_exists
from rig.world import PROGRAMS, Machine, World

# The frame that NixOS puts around its snippets, and the place where it makes users.
_ACTIVATION = """\
systemConfig=$1
_status=0
trap '_status=1' ERR
umask 0022
{for_users}
if ! id {user} >/dev/null 2>&1 && [ -e "$systemConfig/extra" ] && grep -q bring-user "$systemConfig/extra"; then
    /usr/sbin/useradd -M -p "$(cat /run/bento/secrets-for-users/hash)" {user}
fi
{secrets}
exit $_status
"""
NEW_USER = "bring-user"


def parts(machine: Machine, tmp_path: Path) -> dict[str, str]:
    """The module's snippets, for this machine."""
    agent = f'{{ agent = "{PROGRAMS}/bento-agent"; settings = "{machine.config}"; }}'
    found: dict[str, str] = evaluated(f"import {PROJECT}/nix/lib/hook.nix {agent}", tmp_path / "nix-home")
    return found


@pytest.fixture
def user(world: World) -> Iterator[str]:
    """One that comes with a system."""
    name = f"{world.host_user('hook')}n"[-31:]
    yield name
    if user_exists(name):
        subprocess.run(["userdel", name], check=True)


@pytest.fixture
def web(world: World, user: str, tmp_path: Path) -> Machine:
    """A host with a release whose system has the hook, and another before it."""
    web = world.add("web", system=System("first", Behaviour.HOOK))
    snippets = parts(web, tmp_path)
    script = web.folder / "activate"
    script.write_text(
        _ACTIVATION.format(user=user, for_users=snippets["forUsers"], secrets=snippets["secrets"]), encoding="utf-8"
    )
    place = web.root.path(SWITCH_HOOK)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f'exec bash {script} "$1"\n')
    add(world, web, "token", b"first")
    add(world, web, "hash", b"$y$first")
    toml = world.fleet / "secrets/secrets.toml"
    toml.write_text(toml.read_text().replace('name = "hash"\n', 'name = "hash"\nusers = true\n'))
    world.bento("deploy")
    web.run()
    web.write(System("second", Behaviour.HOOK, extra=NEW_USER))
    add(world, web, "token", b"second", "--replace", "--owner", user, "--mode", "0440")
    add(world, web, "hash", b"$y$second", "--replace")
    world.bento("deploy")
    web.run()
    return web


def add(world: World, machine: Machine, name: str, content: bytes, *options: str) -> None:
    world.bento("secret", "add", machine.name, "-", "--name", name, *options, stdin=content)


def live(machine: Machine) -> tuple[bytes | None, str, bytes]:
    """The secret's content, its owner and mode, and the hash for users."""
    shown = machine.root.run(["stat", "-L", "-c", "%U %a", "/run/bento/secrets/token"]).stdout.decode().strip()
    return machine.secret("token"), shown, machine.root.run(["cat", "/run/bento/secrets-for-users/hash"]).stdout


def systems(machine: Machine) -> tuple[str, str]:
    """The first release's system and the second's."""
    tested = [system for action, system in machine.root.switches() if action == "test"]
    return tested[0], tested[-1]


def second(user: str) -> tuple[bytes, str, bytes]:
    return b"second", f"{user} 440", b"$y$second"


FIRST = (b"first", "root 400", b"$y$first")


def test_at_test_by_the_agent_a_user_of_the_new_system_owns_his_secret_and_has_his_password(
    web: Machine, user: str
) -> None:
    assert [action for action, _ in web.root.switches()] == ["test", "boot", "test", "boot"]
    assert live(web) == second(user)
    entry = subprocess.run(["getent", "shadow", user], capture_output=True, check=True).stdout
    assert entry.split(b":")[1] == b"$y$second"


def test_at_switch_by_a_person_the_secrets_follow_the_system(web: Machine, user: str) -> None:
    old, new = systems(web)
    web.root.run([f"{old}/bin/switch-to-configuration", "switch"], check=True)
    assert live(web) == FIRST
    web.root.run([f"{new}/bin/switch-to-configuration", "switch"], check=True)
    assert live(web) == second(user)


def boot(machine: Machine, system: str) -> subprocess.CompletedProcess[bytes]:
    """A boot's activation: nothing is in /run, and no system is the current one yet."""
    machine.root.reboot()
    machine.root.run(["rm", "/run/current-system"], check=True)
    return machine.root.run(["bash", machine.folder / "activate", system])


def test_at_boot_offline_each_entry_brings_its_own_and_an_unknown_system_the_committed_release(
    world: World, web: Machine, user: str
) -> None:
    world.sshd.stop()
    old, new = systems(web)
    unknown = f"/nix/store/{'z' * 32}-nixos-system-by-hand"
    for system, wanted in ((new, second(user)), (old, FIRST), (unknown, second(user))):
        done = boot(web, system)
        assert done.returncode == 0, done.stderr
        assert live(web) == wanted


def test_a_system_without_the_hook_gets_its_secrets_from_the_agent_and_one_with_it_takes_over(
    world: World, web: Machine, user: str
) -> None:
    web.write(System("no hook"))
    add(world, web, "token", b"third", "--replace", "--mode", "0400")
    world.bento("deploy")
    web.run()
    assert live(web) == (b"third", f"{user} 400", b"$y$second")
    web.write(System("a hook again", Behaviour.HOOK))
    add(world, web, "token", b"fourth", "--replace")
    world.bento("deploy")
    web.run()
    assert live(web) == (b"fourth", f"{user} 400", b"$y$second")


def test_a_missing_owner_leaves_the_secret_roots_and_the_activation_goes_on(web: Machine, user: str) -> None:
    new = systems(web)[1]
    web.root.reboot()
    subprocess.run(["userdel", user], check=True)
    extra = web.root.on_disk(f"{new}/extra")
    extra.chmod(0o644)
    extra.write_text("")  # nobody brings him now
    done = web.root.run(["bash", web.folder / "activate", new])
    assert done.returncode == 0
    assert f"this host lacks the user {user}" in done.stderr.decode()
    assert live(web) == (b"second", "root 400", b"$y$second")


def test_a_damaged_secret_fails_the_activation_but_not_the_users(web: Machine) -> None:
    new = systems(web)[1]
    manifest = max((web.state / "manifests").iterdir())
    digest = manifest.read_text().split('"name":"token"')[0].rsplit('"digest":"', 1)[1][:64]
    (web.state / "objects" / digest).write_bytes(b"damaged")
    done = boot(web, new)
    assert done.returncode == 1
    assert web.secret("token") is None
    assert live(web)[2] == b"$y$second"
