"""Promise 2: over real sshd, a host reads its own release and nothing of another's, and writes only its reports."""

import subprocess
from pathlib import Path

import pytest

from bento.demo.systems import System
from bento_secrets.identities import load_ssh_identity
from rig import hits
from rig.world import Machine, World

MARKER = b"only-for-alpha-7f3a9c"


@pytest.fixture
def hosts(world: World) -> tuple[Machine, Machine]:
    """Alpha, whose configuration holds a marker, and beta."""
    alpha = world.add("alpha", system=System(extra=MARKER.decode()))
    beta = world.add("beta")
    world.bento("secret", "add", alpha.name, "-", "--name", "token", stdin=b"x")
    world.bento("deploy")
    return alpha, beta


def sftp(world: World, machine: Machine, *commands: str) -> subprocess.CompletedProcess[bytes]:
    """OpenSSH's own client, logged in as the host; `-b` makes a failed command fail the whole."""
    known = world.folder / "known_hosts"
    known.write_text(f"[{world.sshd.address}]:{world.sshd.port} {world.sshd.host_key_line}\n")
    options = ["-F", "none", "-i", str(machine.folder / "key"), "-P", str(world.sshd.port)]
    for option in (f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes"):
        options += ["-o", option]
    return subprocess.run(
        ["sftp", *options, "-b", "-", f"{machine.name}@{world.sshd.address}"],
        input="".join(f"{command}\n" for command in commands).encode(),
        capture_output=True,
        cwd=machine.folder,
        timeout=200,
        check=False,
    )


def test_a_host_reads_its_own_release_and_writes_a_report(world: World, hosts: tuple[Machine, Machine]) -> None:
    """The control: what is refused below is not refused for want of a connection."""
    alpha, _ = hosts
    done = sftp(world, alpha, "get release/manifest here", "put here reports/x", "ls release/objects")
    assert done.returncode == 0, done.stderr
    assert (alpha.folder / "here").read_bytes() == world.manifest(alpha).read_bytes()


FORBIDDEN = """\
ls ../{other}
ls /{other}
ls /run/publish/{other}
get ../{other}/release/manifest
get /run/publish/{other}/release/manifest
get /../{other}/release/manifest
ls ../../run/publish
get /etc/passwd
put key.pub release/manifest
put key.pub release/new
put key.pub release/objects/new
put key.pub new
mkdir new
rm release/manifest
rename release/manifest reports/manifest
chmod 777 release
rmdir reports
rename reports other
"""


def test_a_host_can_do_nothing_else(world: World, hosts: tuple[Machine, Machine]) -> None:
    alpha, beta = hosts
    before = tree(world.sshd.publish)
    allowed = []
    for command in FORBIDDEN.format(other=beta.name).splitlines():
        if sftp(world, alpha, command).returncode == 0:
            allowed.append(command)
        assert tree(world.sshd.publish) == before, command
    assert allowed == []


def tree(folder: Path) -> dict[Path, tuple[int, int, int]]:
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (status.st_ino, status.st_mode, status.st_mtime_ns) for path, status in found.items()}


def test_a_link_that_a_host_puts_among_its_reports_leads_nowhere(world: World, hosts: tuple[Machine, Machine]) -> None:
    alpha, beta = hosts
    target = f"/run/publish/{beta.name}/release/manifest"
    done = sftp(
        world, alpha, f"symlink {target} reports/00000000000000000001.report", "get reports/00000000000000000001.report"
    )
    assert done.returncode != 0
    # the admin's status, as root, doesn't follow it either
    assert "can't be verified" in " ".join(world.status(alpha)["notes"])


def test_a_host_gets_no_shell_and_no_forwarding(world: World, hosts: tuple[Machine, Machine]) -> None:
    alpha, _ = hosts
    known = world.folder / "known_hosts"
    assert sftp(world, alpha, "ls").returncode == 0  # the control: it can log in
    options = [
        "-F",
        "none",
        "-i",
        str(alpha.folder / "key"),
        "-p",
        str(world.sshd.port),
        "-o",
        f"UserKnownHostsFile={known}",
    ]
    shell = subprocess.run(
        ["ssh", *options, "-o", "BatchMode=yes", f"{alpha.name}@{world.sshd.address}", "echo", "in"],
        capture_output=True,
        input=b"",
        timeout=200,
        check=False,
    )
    assert b"in\n" not in shell.stdout
    forward = subprocess.run(
        [
            "ssh",
            *options,
            "-o",
            "BatchMode=yes",
            "-W",
            f"127.0.0.1:{world.sshd.port}",
            f"{alpha.name}@{world.sshd.address}",
        ],
        capture_output=True,
        input=b"",
        timeout=200,
        check=False,
    )
    assert b"prohibited" in forward.stderr
    assert b"SSH-2.0" not in forward.stdout


def test_what_is_in_one_hosts_configuration_is_not_in_anothers_release(
    world: World, hosts: tuple[Machine, Machine]
) -> None:
    alpha, beta = hosts
    releases: dict[str, Path] = {machine.name: world.manifest(machine).parent for machine in (alpha, beta)}
    assert hits(MARKER, releases[alpha.name])  # the control: the search finds it where it belongs
    assert not hits(MARKER, releases[beta.name])
    beta.run()
    assert not hits(MARKER, beta.root.on_disk("/nix"), beta.state)


def test_a_host_can_not_open_another_hosts_secret_even_with_the_file(
    world: World, hosts: tuple[Machine, Machine]
) -> None:
    alpha, beta = hosts
    sealed = world.fleet / "secrets" / alpha.name / "token.age"
    for machine, opens in ((alpha, True), (beta, False)):
        identity = machine.folder / "identity"
        identity.write_text(str(load_ssh_identity(machine.folder / "key").native))
        age = subprocess.run(["age", "-d", "-i", str(identity), str(sealed)], capture_output=True, check=False)
        assert (age.stdout == b"x") is opens
