"""From a fresh machine to a host, by the one command that the admin's machine prints."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from bento.demo.systems import System, write_flake
from rig import PrivateRoot, make_ssh_key
from rig.world import PROGRAMS, World, said


class Fresh:
    """A machine without Bento's settings. Its state and host key lie in `folder`."""

    def __init__(self, root: PrivateRoot, folder: Path) -> None:
        self.root, self.folder = root, folder
        folder.mkdir()

    def start(self, command: str, wait: int = 180) -> subprocess.Popen[bytes]:
        """The printed command, as a person pastes it; only where things lie is another place here."""
        places = f"--state {self.folder}/state --identity {self.folder}/key --wait {wait}"
        assert command.startswith("bento-agent bootstrap ")
        text = command.replace("bento-agent bootstrap ", f"{PROGRAMS}/bento-agent bootstrap {places} ", 1)
        return self.root.popen(["sh", "-c", text])


@pytest.fixture
def fresh(world: World) -> Fresh:
    return Fresh(world.make_root("fresh"), world.folder / "fresh")


def printed(world: World, name: str) -> str:
    """What `bento host bootstrap` prints on stdout: the command and nothing else."""
    done = world.try_bento("host", "bootstrap", name)
    assert done.returncode == 0, said(done)
    return done.stdout.decode()


def key_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def said_on(process: subprocess.Popen[bytes], text: str) -> str:
    """What it says on stderr, to the first line with `text`."""
    assert process.stderr is not None
    told = ""
    while text not in told:
        line = process.stderr.readline().decode()
        assert line, f"it ended without a word of {text!r}: {told}"
        told += line
    return told


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    out, err = process.communicate(timeout=200)
    return process.returncode, (out + err).decode()


def test_a_fresh_machine_becomes_a_host_by_the_command_that_is_printed(world: World, fresh: Fresh) -> None:
    name = world.host_user("fresh")
    command = printed(world, name)
    assert world.sshd.host_key_line in command
    assert " ".join((world.folder / "signing.pub").read_text().split()[:2]) in command
    assert "PRIVATE KEY" not in command

    process = fresh.start(command)
    line = key_of(process)
    assert re.fullmatch(r"ssh-ed25519 AAAA\S+", line)
    assert (fresh.folder / "key").stat().st_mode & 0o777 == 0o600
    waiting = said_on(process, "waiting: ")
    # the admin does his part meanwhile
    world.bento("host", "add", name, "--key", line)
    write_flake(world.fleet / "hosts" / name, {name: System("its first")})
    world.bento("secret", "add", name, "-", "--name", "token", stdin=b"x")
    assert process.poll() is None
    world.sshd.add_host(name, [line], folders=False)
    world.bento("deploy")

    code, text = ended(process)
    assert code == 0, waiting + text
    assert "installed" in text
    assert "it won't poll by itself" in text
    assert fresh.root.run(["cat", "/run/bento/secrets/token"]).stdout == b"x"
    assert fresh.root.run(["cat", f"{fresh.root.running()}/etc/message"]).stdout == b"its first\n"
    rows = json.loads(world.bento("status", "--json", "--on", name))
    assert rows[0]["state"] == "up to date"
    # the settings it made do until its own come
    argv = [PROGRAMS / "bento-agent", "--config", fresh.folder / "state/bootstrap/agent.toml", "run"]
    assert "nothing new" in said(fresh.root.run(argv, timeout=200))


def test_a_server_with_another_key_than_the_command_names_is_refused_at_once(world: World, fresh: Fresh) -> None:
    name = world.host_user("fresh")
    command = printed(world, name)
    world.sshd.restart(new_host_key=True)
    code, text = ended(fresh.start(command))
    assert code == 6
    assert "shows another host key than the one that is pinned" in text


def test_it_gives_up_after_its_time_and_says_what_was_missing(world: World, fresh: Fresh) -> None:
    name = world.host_user("fresh")
    code, text = ended(fresh.start(printed(world, name), wait=1))
    assert code == 1
    assert "after 1 seconds still" in text
    assert fresh.root.running() is None


def test_a_release_that_another_signed_is_not_a_fresh_machines_first(world: World, fresh: Fresh) -> None:
    name = world.host_user("fresh")
    process = fresh.start(printed(world, name))
    line = key_of(process)
    other = make_ssh_key(world.folder / "other")
    world.bento("host", "add", name, "--key", line)
    write_flake(world.fleet / "hosts" / name, {name: System()})
    for path in (world.fleet / "bento.local.toml", world.fleet / "utils/trust.toml"):
        text = path.read_text().replace(f"{world.folder}/signing", f"{world.folder}/other")
        mine = (world.folder / "signing.pub").read_text().split()[1]
        path.write_text(text.replace(mine, other.line.split()[1]))
    world.sshd.add_host(name, [line], folders=False)
    world.bento("deploy")
    code, text = ended(process)
    assert code == 6, text
    assert "not signed by one of this host's signers" in text
    assert fresh.root.running() is None
