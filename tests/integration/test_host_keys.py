"""A host's key changes without a moment in which it can't log in or open its secrets; and none is taken unseen."""

import os
import pty
import re
import select
import signal
import time
from pathlib import Path

import pytest

from rig import make_ssh_key
from rig.world import PROGRAMS, Machine, World, said

PAGE = Path(__file__).parents[2] / "docs/host-keys.md"


def identities(world: World, machine: Machine, *keys: str) -> None:
    """The host's agent.toml names these identities."""
    world.write_agent(machine)
    lines = machine.config.read_text().splitlines()
    named = ", ".join(f'"{machine.folder}/{key}"' for key in keys)
    machine.config.write_text(
        "\n".join(f"identities = [{named}]" if line.startswith("identities") else line for line in lines) + "\n"
    )


def fingerprint(world: World, key: Path) -> str:
    said = world.admin.text(["ssh-keygen", "-lf", f"{key}.pub"])
    return said.split()[1]


def test_a_host_changes_its_key_and_never_fails_to_log_in_or_to_open(world: World) -> None:
    admin = world.folder / "admin"
    make_ssh_key(admin)
    local = world.fleet / "bento.local.toml"
    recipient = (world.folder / "admin.pub").read_text().strip()
    local.write_text(f'{local.read_text()}\n[secrets]\nadmins = ["{recipient}"]\nidentities = ["{admin}"]\n')
    web = world.add("web")
    old, new = web.folder / "key", web.folder / "new"
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"one")
    world.bento("deploy")
    web.run()
    assert web.secret("token") == b"one"

    # 1. both sides know the new key, as the second
    line = make_ssh_key(new).line
    world.bento("host", "add-key", web.name, "--key-file", f"{new}.pub")
    world.sshd.add_host(web.name, [(web.folder / "key.pub").read_text().strip(), line], folders=False)
    world.bento("deploy")
    web.run()

    # 2. the host logs in and signs with it, and opens with the old one
    identities(world, web, "new", "key")
    world.sshd.add_host(web.name, [line], folders=False)  # the control: only the new one could have logged in
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"two")
    world.bento("deploy")
    web.run()
    assert web.secret("token") == b"two"
    assert world.status(web)["state"] == "up to date"
    world.sshd.add_host(web.name, [(web.folder / "key.pub").read_text().strip(), line], folders=False)

    # 3. secrets are sealed to the new one; a host that hasn't polled yet is still let in
    said = world.bento("host", "rekey", web.name, "--key-file", f"{new}.pub", "--keep")
    assert "sealed token" in said
    world.bento("deploy")
    web.run()
    old.rename(web.folder / "gone")  # the control: only the new one can have opened
    identities(world, web, "new")
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"three")
    world.bento("deploy")
    web.run()
    assert web.secret("token") == b"three"

    # 4. the old one goes
    world.bento("host", "remove-key", web.name, fingerprint(world, old))
    world.sshd.add_host(web.name, [line], folders=False)
    assert world.bento("host", "show", web.name).count("key: ") == 1
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"four")
    world.bento("deploy")
    web.run()
    assert web.secret("token") == b"four"
    assert world.status(web)["state"] == "up to date"
    world.bento("secret", "check")


def test_a_scanned_key_is_taken_if_its_fingerprint_is_the_one_that_was_named(world: World) -> None:
    server = world.sshd.folder / "host_key"
    scan = f"127.0.0.1:{world.sshd.port}"
    before = (world.fleet / "bento.toml").read_bytes()
    wrong = fingerprint(world, world.folder / "signing")
    done = world.try_bento("host", "add", "web", "--scan", scan, "--fingerprint", wrong)
    assert done.returncode == 2
    assert fingerprint(world, server) in done.stderr.decode()
    assert "another machine, or somebody is in between" in done.stderr.decode()
    assert (world.fleet / "bento.toml").read_bytes() == before

    world.bento("host", "add", "web", "--scan", scan, "--fingerprint", fingerprint(world, server))
    assert world.sshd.host_key_line in world.bento("host", "show", "web")


def test_nothing_is_taken_where_nobody_can_be_asked(world: World) -> None:
    scan = f"127.0.0.1:{world.sshd.port}"
    before = (world.fleet / "bento.toml").read_bytes()
    done = world.try_bento("host", "add", "web", "--scan", scan, stdin=b"y\n")
    assert done.returncode == 2
    shown = fingerprint(world, world.sshd.folder / "host_key")
    assert f"hint: if it is the same: bento host add web --scan {scan} --fingerprint {shown}" in done.stderr.decode()
    assert (world.fleet / "bento.toml").read_bytes() == before


@pytest.mark.parametrize(("answer", "taken"), [("y\n", True), ("n\n", False), ("\n", False), ("\x04", False)])
def test_a_person_sees_the_fingerprint_before_the_key_is_taken(world: World, answer: str, *, taken: bool) -> None:
    before = (world.fleet / "bento.toml").read_bytes()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(world.fleet)
        argv = [str(PROGRAMS / "bento"), "host", "add", "web", "--scan", f"127.0.0.1:{world.sshd.port}"]
        os.execve(argv[0], argv, {**os.environ, "COLUMNS": "200"})  # noqa: S606 — a terminal is what is tested
    said, deadline = "", time.monotonic() + 120
    code = None
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    said += os.read(terminal, 65536).decode()
                except OSError:  # it has ended
                    break
            if "[y/N]" in said and answer:
                assert fingerprint(world, world.sshd.folder / "host_key") in said
                assert (world.fleet / "bento.toml").read_bytes() == before
                os.write(terminal, answer.encode())
                answer = ""
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
    finally:
        os.close(terminal)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert (code == 0) is taken, said
    assert ("[hosts.web]" in (world.fleet / "bento.toml").read_text()) is taken


def test_scanning_what_is_no_ssh_server_says_so(world: World) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        done = world.try_bento("host", "add", "web", "--scan", f"127.0.0.1:{silent.getsockname()[1]}")
    assert done.returncode == 1
    assert b"can't reach 127.0.0.1" in done.stderr


def test_a_host_gets_another_name_as_the_page_says_and_keeps_its_secrets_unopened(world: World) -> None:
    web = world.add("web", "channel", tags=("dc1",))
    world.bento("secret", "add", web.name, "-", "--name", "tls/key", stdin=b"its own")
    world.bento("secret", "add", "@dc1", "-", "--name", "shared", stdin=b"its tag's")
    world.bento("secret", "generate", web.name, "tunnel", "--kind", "wireguard")
    world.bento("deploy")
    web.run()
    new = world.host_user("www")
    found = re.search(r"<!-- rename: begin.*?```sh\n(.*?)```\n<!-- rename: end -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    typed = re.sub(r"\bwww\b", new, re.sub(r"\bweb\b", web.name, found[1]))
    done = world.admin.run(
        ["bash", "-euo", "pipefail", "-c", typed],
        cwd=world.fleet,
        env={"PATH": f"{PROGRAMS}:{world.admin.env['PATH']}"},
    )
    assert done.returncode == 0, said(done)
    assert b"all is in order" in done.stdout

    world.sshd.add_host(new, [(web.folder / "key.pub").read_text().strip()], folders=False)
    web.config.write_text(web.config.read_text().replace(f'host = "{web.name}"', f'host = "{new}"'))
    web.run()
    assert (web.secret("tls/key"), web.secret("shared")) == (b"its own", b"its tag's")
    assert (world.fleet / f"utils/public/{new}/tunnel.pub").is_file()
    world.bento("secret", "add", new, "-", "--name", "another", stdin=b"x")  # what machines keep is as they keep it
    shown = world.bento("status")
    assert "up to date" in shown
    assert web.name not in shown
