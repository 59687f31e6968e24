"""The ways to a server: through a proxy command, by IPv6, on another port. Whichever it is, its key is pinned."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bento.adapters.sftp import ServerAway, connect
from bento.errors import Refused
from bento.models.trust import Server, parse_trust
from bento.names import HostName
from bento_secrets.ssh_keys import SshPublicKey
from rig import HostUser, MakeRoot, Sshd, make_ssh_key
from rig.processes import ended
from rig.proxy import Proxy
from rig.remote import RemoteHost
from rig.world import Machine, World, said

AWAY = "bento.invalid"  # resolves nowhere: who arrives has gone through the proxy
SIZE = 3_000_000


@pytest.fixture
def proxy(sshd: Sshd, tmp_path: Path) -> Proxy:
    made = Proxy(tmp_path / "proxied", sshd.port)
    made.folder.mkdir()
    made.write()
    return made


def replaced(file: Path, *changes: tuple[str, str]) -> None:
    """The file with patterns, each of which must be there, replaced."""
    text = file.read_text()
    for pattern, new in changes:
        text, count = re.subn(pattern, lambda _, new=new: new, text, flags=re.MULTILINE)
        assert count, pattern
    file.write_text(text)


def publisher(world: World, host_user: HostUser) -> str:
    """The account that publishes by SFTP; this admin has its key."""
    user = host_user("pub")
    key = make_ssh_key(world.folder / "publisher", comment="publisher")
    world.sshd.add_publisher(user, [key.line])
    local = world.fleet / "bento.local.toml"
    local.write_text(local.read_text() + f'\n[publish]\nidentity = "{key.path}"\n')
    return user


def test_a_deploy_a_poll_and_a_report_go_through_the_proxy_commands(
    world: World, host_user: HostUser, proxy: Proxy
) -> None:
    user = publisher(world, host_user)
    trust = world.fleet / "utils/trust.toml"
    replaced(
        trust,
        ("^address = .*", f'address = "{AWAY}"'),
        ("^port = .*", "port = 2222"),
        ("^timeout", f"proxy_command = {proxy.words}\ntimeout"),
    )
    web = world.add("web")
    world.sshd.give_host(web.name, user)
    settings = world.fleet / "bento.toml"
    to = f'to = "sftp://{user}@{AWAY}:2222/run/publish"'
    replaced(settings, ("^to = .*", to))
    assert AWAY in said(done := world.try_bento("deploy"))
    assert done.returncode == 1, "hosts' proxy is no way for the admin"
    assert proxy.calls() == []

    replaced(settings, ("^to = .*", f"{to}\nproxy_command = {proxy.words}"))
    world.bento("deploy")
    deploys = len(proxy.calls())
    assert deploys
    web.run()
    assert world.report(web)["outcome"] == "succeeded"
    assert len(proxy.calls()) > deploys
    assert set(proxy.calls()) == {f"to {AWAY} [{AWAY}]:2222"}
    assert world.status(web)["state"] == "up to date"
    assert all(ended(pid) for pid in proxy.pids())
    # another server behind the same proxy is not the server
    world.sshd.restart(new_host_key=True)
    assert "shows another host key" in web.run(code=6)
    assert "shows another host key" in said(world.try_bento("deploy"))


@pytest.fixture
def server(sshd: Sshd, host_user: HostUser, proxy: Proxy, tmp_path: Path) -> Server:
    """A real sshd behind the proxy, with one large object for a host whose key is at `tmp_path`/key."""
    key = make_ssh_key(tmp_path / "key")
    chroot = sshd.add_host(host_user("linked"), [key.line])
    (chroot / "release/large").write_bytes(os.urandom(SIZE))
    words = (str(proxy.program), "%h", "%p")
    return Server(AWAY, 22, (SshPublicKey.parse(sshd.host_key_line),), 20, words)


def read(server: Server, host_user: HostUser, tmp_path: Path) -> bytes:
    with connect(server, HostName(host_user("linked")), tmp_path / "key") as session:
        return session.read("release/large", SIZE)


def test_a_proxy_that_dies_in_mid_transfer_is_named_with_its_last_words(
    server: Server, proxy: Proxy, host_user: HostUser, tmp_path: Path
) -> None:
    assert len(read(server, host_user, tmp_path)) == SIZE
    proxy.write(cut_after=SIZE // 2)
    with pytest.raises(ServerAway) as error:
        read(server, host_user, tmp_path)
    assert error.value.message.startswith("reading release/large: ")
    assert (
        f"the proxy command {proxy.program} ended with exit code 1: the tunnel \\x1b[31mfell in" in error.value.message
    )


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("sys.exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("time.sleep(1000)", "says nothing"),
    ],
)
def test_a_proxy_that_gives_no_connection_is_named_and_killed(
    server: Server, proxy: Proxy, host_user: HostUser, tmp_path: Path, before: str, words: str
) -> None:
    # what it has started goes with it, however deaf
    child = (
        "import subprocess, signal\n"
        "made = subprocess.Popen(['sleep', '1000'], preexec_fn=lambda: signal.signal(1, signal.SIG_IGN))\n"
        f"open({str(tmp_path / 'child.new')!r}, 'w').write(str(made.pid))\n"
        f"os.rename({str(tmp_path / 'child.new')!r}, {str(tmp_path / 'child')!r})\n"
    )
    proxy.write(before=child + before)
    for seconds in (1, 4, 16):  # for the first word, and twice as much for the login; as its start takes here
        with pytest.raises(ServerAway) as error:
            read(replace(server, timeout=seconds), host_user, tmp_path)
        if (tmp_path / "child").exists() and words in error.value.message:
            break
    assert f"the proxy command {proxy.program} {words}" in error.value.message
    assert "run it by hand" in error.value.hints[0]
    assert ended(int((tmp_path / "child").read_text()))
    assert all(ended(pid) for pid in proxy.pids())


def test_a_proxy_that_is_not_there_is_named(server: Server, proxy: Proxy, host_user: HostUser, tmp_path: Path) -> None:
    for program in ("no-such-proxy", str(tmp_path / "nothing"), str(tmp_path)):
        with pytest.raises(ServerAway, match=f"through the proxy command {program}: ") as error:
            read(replace(server, proxy_command=(program, "%h")), host_user, tmp_path)
        assert error.value.hints


def test_a_proxy_that_leads_to_another_server_is_refused_by_the_pinned_key(
    server: Server, host_user: HostUser, tmp_path: Path
) -> None:
    other = SshPublicKey.parse(make_ssh_key(tmp_path / "other").line)
    with pytest.raises(Refused, match="shows another host key"):
        read(replace(server, host_keys=(other,)), host_user, tmp_path)


# IPv6


@pytest.fixture
def sixth(as_root: None, tmp_path: Path) -> Iterator[Sshd]:
    """A server on ::1, which the machine must have."""
    with Sshd(tmp_path / "sshd", tmp_path / "publish", "::1") as server:
        yield server


def test_by_ipv6_a_fleet_is_made_deployed_polled_pushed_to_and_scanned(
    sixth: Sshd, make_root: MakeRoot, host_user: HostUser, tmp_path: Path
) -> None:
    world = World(tmp_path, make_root("admin"), sixth, make_root, host_user)
    sixth.address = "[::1]"
    world.init()
    sixth.address = "::1"
    assert 'address = "::1"' in (world.fleet / "utils/trust.toml").read_text()
    user = publisher(world, host_user)
    replaced(world.fleet / "bento.toml", ("^to = .*", f'to = "sftp://{user}@[::1]:{sixth.port}/run/publish"'))
    web = world.add("web")
    replaced(web.folder / "trust.toml", ("^address = .*", 'address = "[::1]"'))
    sixth.give_host(web.name, user)
    world.bento("deploy")
    web.run()
    assert world.status(web)["state"] == "up to date"
    bootstrap = world.bento("host", "bootstrap", web.name).splitlines()
    trust = "\n".join(bootstrap[1 : bootstrap.index("END-OF-TRUST")])
    assert parse_trust(trust).servers[0].where == f"[::1]:{sixth.port}"

    done = world.try_bento("host", "add", "other", "--scan", f"[::1]:{sixth.port}")
    assert f"[::1]:{sixth.port} shows the ssh-ed25519 key SHA256:" in said(done)
    with RemoteHost(web, "::1") as remote:
        table = f"[hosts.{web.name}]\n"
        agent = f'{table}address = "[::1]"\nagent = ["{remote.agent}"]\n'
        replaced(world.fleet / "bento.toml", (re.escape(table), agent))
        world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"pushed")
        done = world.try_bento("push", web.name, env={"NIX_SSHOPTS": remote.options})
        assert done.returncode == 0, said(done)
        assert web.secret("token") == b"pushed"
        assert "nothing new" in said(world.try_bento("trigger", web.name, env={"NIX_SSHOPTS": remote.options}))
    sixth.restart(new_host_key=True)
    assert f"the server [::1]:{sixth.port} shows another host key" in web.run(code=6)


# Ports


def servers(first: Sshd, second: Sshd, *keys: str) -> str:
    """Two [[servers]] of a trust file that differ in their ports, each with its key."""
    return "".join(
        f'\n[[servers]]\naddress = "127.0.0.1"\nport = {one.port}\nhost_keys = ["{key}"]\n'
        for one, key in zip((first, second), keys, strict=True)
    )


def trusting(machine: Machine, text: str) -> None:
    file = machine.folder / "trust.toml"
    file.write_text(file.read_text().partition("\n[[servers]]")[0] + text)


def test_two_servers_of_one_address_have_each_their_own_key(world: World, host_user: HostUser, tmp_path: Path) -> None:
    user = publisher(world, host_user)
    web = world.add("web")
    with Sshd(tmp_path / "sshd-2", tmp_path / "publish-2") as second:
        first = world.sshd
        second.add_publisher(user, [(world.folder / "publisher.pub").read_text().strip()])
        second.add_host(web.name, [(web.folder / "key.pub").read_text().strip()])
        for one in (first, second):
            one.give_host(web.name, user)
        one, other = first.host_key_line, second.host_key_line
        urls = [f"sftp://{user}@127.0.0.1:{server.port}/run/publish" for server in (first, second)]
        settings = world.fleet / "bento.toml"

        def publish(*keys: str) -> None:
            pins = [f"[127.0.0.1]:{server.port} {key}" for server, key in zip((first, second), keys, strict=True)]
            replaced(settings, ("^(to|host_keys) = .*\n", ""))
            replaced(settings, (r"^\[publish\]", f"[publish]\nto = {urls}\nhost_keys = {pins}".replace("'", '"')))

        fleet_trust = world.fleet / "utils/trust.toml"
        fleet_trust.write_text(fleet_trust.read_text().replace('"127.0.0.1"', '"192.0.2.1"'))
        publish(other, one)
        done = world.try_bento("deploy")
        assert f"error: the server 127.0.0.1:{first.port} shows another host key" in said(done)
        assert done.returncode != 0
        publish(one, other)
        world.bento("deploy")

        trusting(web, servers(first, second, other, one))
        shown = web.run(code=6)
        assert all(f"127.0.0.1:{server.port} shows another host key" in shown for server in (first, second))
        trusting(web, servers(first, second, one, other))
        web.run()
        # each alone will do, by its own key
        for gone in (first, second):
            gone.stop()
            assert "nothing new" in web.run()
            gone.start()
