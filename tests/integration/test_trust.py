"""Promise 3: whoever owns the server can withhold; he can't make a host run or install what the admin didn't sign."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bento.demo.systems import System
from rig import make_ssh_key
from rig.world import Machine, World


@pytest.fixture
def web(world: World) -> Machine:
    """A host that runs its first release; the second is published and waits to be attacked."""
    machine = world.add("web")
    world.bento("secret", "add", machine.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    machine.run()
    shutil.copytree(world.manifest(machine).parent, world.folder / "first-release")
    machine.write(System("second"))
    world.bento("secret", "add", machine.name, "-", "--name", "token", "--replace", stdin=b"second")
    world.bento("deploy")
    return machine


def parts(manifest: Path) -> tuple[bytes, bytes]:
    line, _, armours = manifest.read_bytes().partition(b"\n")
    return line + b"\n", armours


def edited(line: bytes, **changes: object) -> bytes:
    value = {**json.loads(line), **changes}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def signature(key: Path, line: bytes, namespace: str = "bento-release") -> bytes:
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key)]
    return subprocess.run(argv, input=line, capture_output=True, check=True).stdout


def edit_manifest(world: World, web: Machine) -> None:
    line, armours = parts(world.manifest(web))
    world.manifest(web).write_bytes(edited(line, secrets=[]) + armours)


def raise_serial(world: World, web: Machine) -> None:
    line, armours = parts(world.manifest(web))
    world.manifest(web).write_bytes(edited(line, serial=json.loads(line)["serial"] + 1) + armours)


def edit_signature(world: World, web: Machine) -> None:
    line, armours = parts(world.manifest(web))
    at = len(armours) // 2
    other = b"A" if armours[at : at + 1] != b"A" else b"B"
    world.manifest(web).write_bytes(line + armours[:at] + other + armours[at + 1 :])


def drop_signature(world: World, web: Machine) -> None:
    world.manifest(web).write_bytes(parts(world.manifest(web))[0])


def swap_object(world: World, web: Machine) -> None:
    line, _ = parts(world.manifest(web))
    secret = json.loads(line)["secrets"][0]
    path = world.manifest(web).parent / "objects" / secret["digest"]
    path.write_bytes(b"x" * secret["size"])


def swap_configuration(world: World, web: Machine) -> None:
    """Another valid tar of the very same size: only its content differs."""
    line, _ = parts(world.manifest(web))
    path = world.manifest(web).parent / "objects" / json.loads(line)["config"]["digest"]
    data = path.read_bytes()
    assert b"second" in data
    path.unlink()
    path.write_bytes(data.replace(b"second", b"evil!!"))


def put_back_an_older_release(world: World, web: Machine) -> None:
    release = world.manifest(web).parent
    # the host has seen the second release's floor only if it took it: let it, then go back
    web.run()
    shutil.rmtree(release)
    shutil.copytree(world.folder / "first-release", release)


def offer_another_hosts_manifest(world: World, web: Machine) -> None:
    other = world.add("other")
    world.bento("deploy")
    shutil.copytree(world.manifest(other).parent, world.manifest(web).parent, dirs_exist_ok=True)


def sign_by_an_unknown_key(world: World, web: Machine) -> None:
    key = make_ssh_key(world.folder / "mallory")
    line = edited(parts(world.manifest(web))[0], secrets=[])
    world.manifest(web).write_bytes(line + signature(key.path, line))


def sign_for_another_purpose(world: World, web: Machine) -> None:
    line = edited(parts(world.manifest(web))[0], secrets=[])
    world.manifest(web).write_bytes(line + signature(world.folder / "signing", line, namespace="git"))


def sign_for_another_fleet(world: World, web: Machine) -> None:
    line = edited(parts(world.manifest(web))[0], fleet="other")
    world.manifest(web).write_bytes(line + signature(world.folder / "signing", line))


def reuse_a_serial(world: World, web: Machine) -> None:
    web.run()
    line = edited(parts(world.manifest(web))[0], secrets=[])
    world.manifest(web).write_bytes(line + signature(world.folder / "signing", line))


def make_it_huge(world: World, web: Machine) -> None:
    with world.manifest(web).open("r+b") as file:
        file.truncate(1 << 40)


Attacks = dict[str, tuple[Callable[[World, Machine], None], str]]
# Refused by the manifest alone: the host remembers nothing of it but that it has told.
ATTACKS_ON_THE_MANIFEST: Attacks = {
    "manifest edited": (edit_manifest, "not signed by one of this host's signers"),
    "serial raised": (raise_serial, "not signed by one of this host's signers"),
    "signature edited": (edit_signature, "not signed by one of this host's signers"),
    "signature dropped": (drop_signature, "no signature"),
    "another host's manifest": (offer_another_hosts_manifest, "is for the host"),
    "unknown signer": (sign_by_an_unknown_key, "not signed by one of this host's signers"),
    "right signer, other namespace": (sign_for_another_purpose, "not signed by one of this host's signers"),
    "right signer, other fleet": (sign_for_another_fleet, "is for the fleet"),
    "a terabyte of manifest": (make_it_huge, "is larger than"),
}
ATTACKS_AFTER_A_GOOD_MANIFEST: Attacks = {
    "sealed secret swapped": (swap_object, "not the one that was signed"),
    "configuration swapped": (swap_configuration, "not the one that was signed"),
    "older release put back": (put_back_an_older_release, "is older than"),
    "right signer, serial used twice": (reuse_a_serial, "two different releases"),
}


def refused(world: World, web: Machine, act: Callable[[World, Machine], None], words: str) -> None:
    """The host refuses what `act` makes of the server, says why, reports it, and stays as it was."""
    act(world, web)
    reports = world.report(web)["counter"]
    before = (web.root.running(), web.root.profile(), web.root.boot_default(), web.secret("token"))
    switches = web.root.switches()

    assert words in web.run(code=6)

    assert (web.root.running(), web.root.profile(), web.root.boot_default(), web.secret("token")) == before
    assert web.root.switches() == switches
    report = world.report(web)
    assert report["counter"] > reports
    assert report["outcome"] == "refused"
    assert words in report["reason"]
    assert world.status(web)["state"] == "refused"


def put(world: World, web: Machine, release: Path) -> None:
    shutil.rmtree(world.manifest(web).parent)
    shutil.copytree(release, world.manifest(web).parent)


def test_the_host_refuses_reports_and_stays_as_it_was(world: World, web: Machine) -> None:
    shutil.copytree(world.manifest(web).parent, world.folder / "second-release")
    for attack, (act, words) in ATTACKS_ON_THE_MANIFEST.items():
        print(attack)  # noqa: T201 — pytest shows it if this one fails
        put(world, web, world.folder / "second-release")
        refused(world, web, act, words)
        put(world, web, world.folder / "first-release")  # the server is honest again: it is over
        assert "nothing new" in web.run()
        assert world.status(web)["state"] == "up to date"


@pytest.mark.parametrize("attack", ATTACKS_AFTER_A_GOOD_MANIFEST)
def test_the_host_refuses_what_comes_with_or_after_a_good_manifest(world: World, web: Machine, attack: str) -> None:
    refused(world, web, *ATTACKS_AFTER_A_GOOD_MANIFEST[attack])


def test_without_an_attack_the_same_release_is_taken(world: World, web: Machine) -> None:
    """The control for all of the above."""
    web.run()
    assert web.secret("token") == b"second"
    assert world.status(web)["state"] == "up to date"


def test_a_refusal_is_reported_once_and_is_over_when_the_server_is_honest_again(world: World, web: Machine) -> None:
    good = world.manifest(web).read_bytes()
    edit_manifest(world, web)
    for _ in range(3):
        web.run(code=6)
    reports = list((world.sshd.publish / web.name / "reports").glob("*.report"))
    assert len(reports) == 2  # the first release's, and one refusal
    world.manifest(web).write_bytes(good)
    web.run()
    assert world.status(web)["state"] == "up to date"


def test_a_deploy_over_a_manifest_that_was_tampered_with_says_so_and_mends_it(world: World, web: Machine) -> None:
    edit_manifest(world, web)
    done = world.try_bento("deploy")
    assert done.returncode == 0
    assert b"is not signed by one of the signers" in done.stderr
    web.run()
    assert world.status(web)["state"] == "up to date"


def test_a_server_with_another_host_key_gets_nothing_and_gives_nothing(world: World, web: Machine) -> None:
    before = (web.root.running(), web.secret("token"))
    reports = sorted((world.sshd.publish / web.name / "reports").iterdir())
    right = (world.sshd.folder / "host_key").read_bytes()
    world.sshd.restart(new_host_key=True)
    for _ in range(2):
        assert "another host key" in web.run(code=6)
    assert (web.root.running(), web.secret("token")) == before
    assert sorted((world.sshd.publish / web.name / "reports").iterdir()) == reports
    # and once there is a link to the right one, the admin hears of it, once
    (world.sshd.folder / "host_key").write_bytes(right)
    world.sshd.restart()
    web.run()
    logged = json.loads(world.bento("logs", web.name, "--json"))
    assert [one["outcome"] for one in logged] == ["succeeded", "refused", "succeeded"]
    assert "another host key" in logged[1]["reason"]
    assert world.status(web)["state"] == "up to date"


def test_a_release_under_way_is_resumed_from_its_floor_by_any_good_signature_over_the_same_line(
    world: World, web: Machine
) -> None:
    """The power went after the floor was on the disk, and nothing else of the release was."""
    manifest = world.manifest(web)
    line, armours = parts(manifest)
    serial = json.loads(line)["serial"]
    floor = {"line": hashlib.sha256(line).hexdigest(), "progress": "accepted", "serial": serial, "tries": 0}
    (web.state / "floor.json").write_text(json.dumps(floor))
    second = make_ssh_key(world.folder / "second-signing", comment="second")
    trust = web.folder / "trust.toml"
    trust.write_text(trust.read_text().replace('signers = ["', f'signers = ["{second.line}", "'))
    stranger = signature(make_ssh_key(world.folder / "stranger").path, line)

    # whatever isn't signed isn't parsed either: what it would have said is not known
    manifest.write_bytes(b"{\n" + armours)
    assert "not signed by one of this host's signers" in web.run(code=6)
    # nor does a good line help that only a stranger signed, or that more signatures follow than anybody needs
    manifest.write_bytes(line + stranger)
    assert "not signed by one of this host's signers" in web.run(code=6)
    manifest.write_bytes(line + stranger * 8 + armours)
    assert "more than 8 signatures" in web.run(code=6)
    assert web.secret("token") == b"first"
    # one good armour does, wherever it stands, and of another signer than before
    manifest.write_bytes(line + stranger + signature(second.path, line))
    web.run()
    assert (web.secret("token"), web.facts()["committed"]) == (b"second", serial)
    # signed anew, the same line is nothing new
    manifest.write_bytes(line + armours)
    switches = web.root.switches()
    assert "nothing new" in web.run()
    assert web.root.switches() == switches
    assert world.status(web)["state"] == "up to date"


def test_a_host_that_builds_another_system_than_the_admin_refuses_where_it_is_told_to(world: World) -> None:
    host = world.add("host")
    text = (world.fleet / "bento.toml").read_text()
    (world.fleet / "bento.toml").write_text(text.replace('on_difference = "report"', 'on_difference = "refuse"'))
    world.bento("deploy")
    line, _ = parts(world.manifest(host))
    # the admin's own key signs another expected path: as if his Nix had built something else
    other = edited(line, system="/nix/store/" + "0" * 32 + "-nixos-system-other")
    world.manifest(host).write_bytes(other + signature(world.folder / "signing", other))
    assert "the admin built" in host.run(code=6)
    assert host.root.running() is None


def test_what_only_a_revoked_key_signed_is_refused_and_said_by_host_admin_and_deploy(world: World) -> None:
    second = make_ssh_key(world.folder / "second-signing", comment="second")
    first = (world.folder / "signing.pub").read_text().strip()
    trust, local = world.fleet / "utils/trust.toml", world.fleet / "bento.local.toml"
    both = trust.read_text().replace('signers = ["', f'signers = ["{second.line}", "')
    revoking = both.replace("revoked = []", f'revoked = ["{first}"]')
    assert revoking != both
    keys = local.read_text()
    trust.write_text(both)
    web = world.add("web")
    (web.folder / "trust.toml").write_text(revoking)  # the host knows it first
    world.bento("deploy")
    reason = "signed by a revoked key, and by none of this host's signers"
    assert reason in web.run(code=6)
    assert web.root.running() is None
    row = world.status(web)
    assert (row["state"], reason in row["report"]["reason"]) == ("refused", True)

    # signed by a good key, too: the revoked one is no reason to refuse it
    local.write_text(f'[signing]\nkeys = ["{world.folder}/signing", "{second.path}"]\n')
    world.bento("deploy")
    web.run()
    assert world.status(web)["state"] == "up to date"

    # the admin's side knows it now: it signs with that key no more, alone or beside another
    trust.write_text(revoking)
    before = world.manifest(web).read_bytes()
    for named in (local.read_text(), keys):
        local.write_text(named)
        done = world.try_bento("deploy")
        assert done.returncode == 2
        assert f"the signing key {world.folder}/signing is revoked" in done.stderr.decode()
    assert world.manifest(web).read_bytes() == before
    local.write_text(f'[signing]\nkeys = ["{second.path}"]\n')
    world.bento("deploy")
    web.run()

    # nobody left is refused where the file is read, on both sides
    none_left = revoking.replace("revoked = [", f'revoked = ["{second.line}", ')
    trust.write_text(none_left)
    (web.folder / "trust.toml").write_text(none_left)
    assert b"names nobody whose signature a host could accept" in world.try_bento("deploy").stderr
    assert "names nobody whose signature a host could accept" in web.run(code=2)


def test_without_that_word_it_installs_what_it_builds_and_tells_the_admin_of_both(world: World) -> None:
    host = world.add("host")
    world.bento("deploy")
    line, _ = parts(world.manifest(host))
    theirs = "/nix/store/" + "0" * 32 + "-nixos-system-other"
    other = edited(line, system=theirs)
    world.manifest(host).write_bytes(other + signature(world.folder / "signing", other))
    host.run()
    report = world.report(host)
    assert report["reason"] == "installed; this host builds another system than the admin did"
    assert report["running"] == host.root.running() == host.root.boot_default() != theirs
    assert f"this host builds {host.root.running()}, the admin built {theirs}" in report["log_tail"]


def test_the_line_to_check_a_release_by_hand_verifies_each_of_two_armours(world: World) -> None:
    second = make_ssh_key(world.folder / "second-signing", comment="second")
    trust = world.fleet / "utils/trust.toml"
    trust.write_text(trust.read_text().replace('signers = ["', f'signers = ["{second.line}", "'))
    local = world.fleet / "bento.local.toml"
    local.write_text(f'[signing]\nkeys = ["{world.folder}/signing", "{second.path}"]\n')
    web = world.add("web")
    world.bento("deploy")
    manifest = world.manifest(web)
    signers = world.folder / "allowed_signers"
    public = [(world.folder / "signing.pub").read_text(), second.line]
    lines = [f'* namespaces="bento-release" {" ".join(line.split()[:2])}\n' for line in public]
    for number, line in enumerate(lines, start=1):
        signers.write_text(line)
        command = (
            f"head -n1 {manifest} | ssh-keygen -Y verify -n bento-release -I admin -f {signers} "
            f"-s <(tail -n +2 {manifest} | awk -v n={number} '/BEGIN SSH/{{i++}} i==n')"
        )
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        # the control: the other armour is not by this signer
        signers.write_text(lines[2 - number])
        assert subprocess.run(["bash", "-c", command], capture_output=True, check=False).returncode != 0
    # one trusted armour suffices for a host
    one_signer = trust.read_text().replace(f'"{second.line}", ', "")
    (web.folder / "trust.toml").write_text(one_signer)
    web.run()
