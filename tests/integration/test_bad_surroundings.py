"""What a machine lacks, or does wrong, is said in words that say what to do next, with nothing written anywhere."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig import PrivateRoot, make_ssh_key
from rig.desk import Desk, refused, tree
from rig.world import PROGRAMS, World

MIB = 2**20
ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIOHz+U0YtjINc54dZiJNclfmEFifF7RXCFlNlTbuZBji"


# The runtime folder.


@dataclass
class Device:
    """A host with settings, a trust file that names a closed port, and a private /run."""

    root: PrivateRoot
    folder: Path

    def agent(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        return self.root.run([PROGRAMS / "bento-agent", "--config", self.folder / "agent.toml", *args])

    def mount(self, *args: str) -> None:
        self.root.run(["mkdir", "-p", "/run/bento", "/run/plain"], check=True)
        self.root.run(["mount", *args, "/run/bento"], check=True)


@pytest.fixture
def device(root: PrivateRoot, tmp_path: Path) -> Device:
    folder = tmp_path / "device"
    folder.mkdir()
    line = " ".join(make_ssh_key(folder / "key").line.split()[:2])
    (folder / "trust.toml").write_text(
        f'format = 1\nfleet = "acme"\nsigners = ["{line}"]\n'
        f'[[servers]]\naddress = "127.0.0.1"\nport = 1\nhost_keys = ["{line}"]\ntimeout = 3\n'
    )
    (folder / "agent.toml").write_text(
        f'host = "web"\nidentities = ["{folder}/key"]\ntrust = "{folder}/trust.toml"\n'
        f'[paths]\nstate = "{folder}/state"\n'
    )
    return Device(root, folder)


UNSAFE = {
    "a plain folder": (("--bind", "/run/plain"), "shares its filesystem"),
    "a tmpfs that lets set-user-id programs run": (
        ("-t", "tmpfs", "-o", "size=8m,mode=0751,nodev,noexec", "tmpfs"),
        "without nosuid",
    ),
    "a tmpfs with devices": (("-t", "tmpfs", "-o", "size=8m,mode=0751,nosuid,noexec", "tmpfs"), "without nodev"),
    "a tmpfs with programs": (("-t", "tmpfs", "-o", "size=8m,mode=0751,nosuid,nodev", "tmpfs"), "without noexec"),
    "a tmpfs without an end": (("-t", "tmpfs", "-o", "mode=0751,nosuid,nodev,noexec", "tmpfs"), "without a size"),
    "a tmpfs that all may write to": (
        ("-t", "tmpfs", "-o", "size=8m,mode=1777,nosuid,nodev,noexec", "tmpfs"),
        "others may write",
    ),
}


@pytest.mark.parametrize(("mount", "why"), UNSAFE.values(), ids=UNSAFE)
def test_a_run_stops_before_the_server_where_the_runtime_folder_could_leak(
    device: Device, mount: tuple[str, ...], why: str
) -> None:
    device.mount(*mount)
    refused(device.agent("run"), "/run/bento", why, "umount /run/bento")
    assert list(device.root.path("/run/bento").iterdir()) == []
    assert not any((device.folder / "state" / name).exists() for name in ("floor.json", "journal.json"))


def test_files_in_the_runtime_folder_are_not_covered_by_a_mount(device: Device) -> None:
    device.root.run(["sh", "-c", "mkdir /run/bento && echo kept >/run/bento/file"], check=True)
    refused(device.agent("run"), "/run/bento", "ls -lA /run/bento")
    assert device.root.path("/run/bento/file").read_text() == "kept\n"


def test_a_runtime_folder_that_is_a_symlink_is_refused(device: Device) -> None:
    device.root.run(["sh", "-c", "mkdir /run/plain && ln -s plain /run/bento"], check=True)
    refused(device.agent("run"), "/run/bento", "symlink")
    assert list(device.root.path("/run/plain").iterdir()) == []


@pytest.mark.parametrize(("mount", "why"), UNSAFE.values(), ids=UNSAFE)
def test_secrets_are_not_installed_where_the_runtime_folder_could_leak(
    world: World, mount: tuple[str, ...], why: str
) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"a secret of one boot")
    world.bento("deploy")
    web.run()
    device = Device(web.root, web.folder)
    web.root.run(["umount", "/run/bento"], check=True)
    device.mount(*mount)
    for command in (("install-secrets",), ("run",)):
        refused(device.agent(*command), "/run/bento", why)
        assert list(web.root.path("/run/bento").iterdir()) == []
    web.root.run(["umount", "/run/bento"], check=True)
    assert web.agent("install-secrets").returncode == 0
    assert web.secret("token") == b"a secret of one boot"


# What the machine lacks: exit 1.


@pytest.fixture
def bare_path(tmp_path: Path) -> Callable[..., str]:
    """A PATH with these programs alone."""

    def path(*programs: str) -> str:
        folder = tmp_path / "bin"
        folder.mkdir()
        for program in programs:
            found = shutil.which(program)
            assert found is not None
            (folder / program).symlink_to(found)
        return str(folder)

    return path


@pytest.mark.parametrize("command", [("build",), ("build", "dry-build"), ("deploy",)], ids=" ".join)
def test_without_nix_nothing_is_written_and_it_says_what_to_install(
    desk: Desk, bare_path: Callable[..., str], command: tuple[str, ...]
) -> None:
    path = bare_path("ssh-keygen")
    before = tree(desk.folder)
    refused(desk.bento(*command, path=path), "nix", "install", code=1)
    assert tree(desk.folder) == before


@pytest.mark.parametrize("command", [("deploy",), ("init", "../new")], ids=" ".join)
def test_without_ssh_keygen_nothing_is_written_and_it_says_what_to_install(
    desk: Desk, bare_path: Callable[..., str], command: tuple[str, ...]
) -> None:
    path = bare_path("nix", "nix-build", "nix-instantiate", "nix-store")
    before = tree(desk.folder)
    refused(desk.bento(*command, path=path), "ssh-keygen", "openssh-client", code=1)
    assert tree(desk.folder) == before


def test_without_a_publish_folder_nothing_is_written_and_it_says_how_to_make_it(desk: Desk) -> None:
    desk.publish.rmdir()
    desk.refuses("deploy", named=(str(desk.publish), f"mkdir -p {desk.publish}"), code=1)


def test_without_a_server_the_agent_says_which_and_takes_nothing(device: Device) -> None:
    refused(device.agent("run"), "127.0.0.1:1", code=1)
    assert not (device.folder / "state/floor.json").exists()
    assert list(device.root.path("/run/bento").iterdir()) == []
