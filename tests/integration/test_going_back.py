"""`bento rollback` and the rotation of signing keys, as hosts live through them: sshd, Nix and ssh-keygen are real."""

import json
import subprocess
from pathlib import Path

import pytest

from bento.demo.systems import System
from rig import make_ssh_key
from rig.world import Machine, World, said


@pytest.fixture
def web(world: World) -> Machine:
    """A host that runs its second release."""
    machine = world.add("web")
    world.bento("secret", "add", machine.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    machine.run()
    machine.write(System("second"))
    world.bento("secret", "add", machine.name, "-", "--name", "token", "--replace", stdin=b"second")
    world.bento("deploy")
    machine.run()
    return machine


def serial(world: World, machine: Machine) -> int:
    value: int = json.loads(world.manifest(machine).read_bytes().split(b"\n")[0])["serial"]
    return value


def message(machine: Machine) -> str:
    return machine.root.path(f"{machine.root.running()}/etc/message").read_text().strip()


def test_a_host_goes_back_with_its_secrets_stays_there_over_deploys_and_comes_forth_again(
    world: World, web: Machine
) -> None:
    newest = serial(world, web)
    assert message(web) == "second"

    world.bento("rollback", web.name)
    assert serial(world, web) > newest  # so the host, which never goes below its floor, takes it
    web.run()
    assert (message(web), web.secret("token")) == ("hello", b"first")
    assert world.status(web)["state"] == "up to date"

    held = serial(world, web)
    web.write(System("third"))
    done = world.try_bento("deploy")
    assert done.returncode == 0, said(done)
    assert f"{web.name} is held at release" in done.stderr.decode()
    assert serial(world, web) == held
    assert "nothing new" in web.run()

    world.bento("rollback", web.name, "--release")
    world.bento("deploy")
    web.run()
    assert (message(web), web.secret("token")) == ("third", b"second")


def test_json_says_the_same_as_the_words(world: World, web: Machine) -> None:
    listed = json.loads(world.bento("rollback", web.name, "--list", "--json"))
    assert [one["held"] for one in listed] == [False, False]
    planned = json.loads(world.bento("rollback", web.name, "--dry-run", "--json"))
    assert planned["published"] is None
    assert planned["held_at"] == listed[1]["serial"]
    assert planned["secrets"] == {"back": ["token"], "returning": [], "leaving": []}
    done = json.loads(world.bento("rollback", web.name, "--json"))
    assert (done["published"], done["missed"]) == (serial(world, web), {})
    freed = json.loads(world.bento("rollback", web.name, "--release", "--json"))
    assert freed == {"host": web.name, "held_at": None, "was_held_at": done["held_at"]}


def test_a_push_with_an_action_of_its_own_is_refused_while_the_host_is_held(world: World, web: Machine) -> None:
    world.bento("rollback", web.name)
    before = world.manifest(web).read_bytes()
    done = world.try_bento("push", web.name, "--action", "boot", "--address", "root@192.0.2.1")
    assert done.returncode == 2, said(done)
    assert f"hint: or let it go on: bento rollback {web.name} --release" in said(done)
    assert world.manifest(web).read_bytes() == before


def use_keys(world: World, *names: str) -> None:
    shown = ", ".join(f'"{world.folder}/{name}"' for name in names)
    (world.fleet / "bento.local.toml").write_text(f"[signing]\nkeys = [{shown}]\n")


def trust(world: World, *names: str) -> None:
    lines = [" ".join((world.folder / f"{name}.pub").read_text().split()[:2]) for name in names]
    path = world.fleet / "utils/trust.toml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("signers")]
    position = next(number for number, line in enumerate(kept) if line.startswith("fleet"))
    kept.insert(position + 1, f"signers = {json.dumps(lines)}")
    path.write_text("\n".join(kept) + "\n")


def armours(manifest: Path) -> int:
    return manifest.read_bytes().count(b"-----BEGIN SSH SIGNATURE-----")


def test_a_signing_key_rotates_and_no_host_is_left_behind(world: World, web: Machine) -> None:
    make_ssh_key(world.folder / "new")
    late = world.add("late")
    world.bento("deploy")
    late.run()

    # Both keys: nothing is released anew, hosts notice nothing, and either signature is enough by hand.
    trust(world, "signing", "new")
    use_keys(world, "signing", "new")
    before = serial(world, web)
    done = json.loads(world.bento("deploy", "--json"))
    assert done["published"][web.name]["changed"] == ["signatures"]
    assert serial(world, web) == before
    assert armours(world.manifest(web)) == 2
    for machine in (web, late):
        assert "nothing new" in machine.run()

    # web gets the new trust file and says so at its next poll; late doesn't.
    world.write_agent(web)
    web.run()
    use_keys(world, "new")
    for machine in (web, late):
        machine.write(System("signed by the new key"))
    done_text = world.try_bento("deploy")
    assert done_text.returncode == 3, said(done_text)
    assert f"{late.name} trusts none of the keys that sign now" in done_text.stderr.decode()
    web.run()
    assert message(web) == "signed by the new key"
    assert "nothing new" in late.run()  # it is where it was, not locked out

    # With the old key once more it gets there too.
    use_keys(world, "signing", "new")
    world.bento("deploy")
    late.run()
    world.write_agent(late)
    late.run()
    use_keys(world, "new")
    late.write(System("and late too"))
    world.bento("deploy")
    late.run()
    assert message(late) == "and late too"


def test_the_way_out_publishes_what_a_host_may_refuse_and_such_a_host_refuses_it(world: World, web: Machine) -> None:
    make_ssh_key(world.folder / "new")
    trust(world, "new")
    use_keys(world, "new")
    web.write(System("third"))
    before = world.manifest(web).read_bytes()
    done = world.try_bento("deploy")
    assert done.returncode == 1, said(done)
    assert world.manifest(web).read_bytes() == before
    world.bento("deploy", "--drop-signers")
    assert "not signed by one of this host's signers" in web.run(code=6)
    assert message(web) == "second"


def test_a_re_signed_manifest_is_verified_by_hand_with_either_key(world: World, web: Machine) -> None:
    make_ssh_key(world.folder / "new")
    trust(world, "signing", "new")
    use_keys(world, "signing", "new")
    world.bento("deploy")
    line, _, rest = world.manifest(web).read_bytes().partition(b"\n")
    blocks = [b"-----BEGIN" + block for block in rest.split(b"-----BEGIN")[1:]]
    for name, block in zip(("signing", "new"), blocks, strict=True):
        (world.folder / "armour").write_bytes(block)
        allowed = world.folder / "allowed"
        allowed.write_text(f'* namespaces="bento-release" {(world.folder / f"{name}.pub").read_text()}')
        argv = ["ssh-keygen", "-Y", "verify", "-n", "bento-release", "-I", "admin", "-f", str(allowed)]
        subprocess.run([*argv, "-s", str(world.folder / "armour")], input=line + b"\n", check=True, capture_output=True)
