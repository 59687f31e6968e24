"""Publishing by SFTP, without root, over real sshd: the whole cycle, mirrors, locks, what can go wrong."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bento.core.deploy_plan import MAX_AHEAD
from bento.demo.systems import System
from bento.names import HostName
from rig import HostUser, Sshd, make_ssh_key
from rig.desk import tree
from rig.world import Machine, World, said

pytestmark = pytest.mark.timeout(300)


@dataclass
class Publishing:
    """A fleet that is published by SFTP as the user `user`, who isn't root on the server."""

    world: World
    user: str
    url: str

    @property
    def settings(self) -> Path:
        return self.world.fleet / "bento.toml"

    @property
    def lock(self) -> Path:
        return self.world.sshd.publish / ".publisher/lock"

    def to(self, *urls: str, host_keys: tuple[str, ...] = ()) -> None:
        """Write where releases go."""
        text = self.settings.read_text()
        start, end = text.index("[publish]"), text.index("[secrets]")
        lines = f"[publish]\nto = {json.dumps(urls)}\nhost_keys = {json.dumps(host_keys)}\n\n"
        self.settings.write_text(text[:start] + lines + text[end:])

    def add(self, word: str) -> Machine:
        """A host, with the folders that root makes for it on the server."""
        machine = self.world.add(word)
        self.world.sshd.give_host(machine.name, self.user)
        return machine

    def deploy(self, *args: str, code: int = 0, env: dict[str, str] | None = None) -> str:
        """`bento deploy`; all it said."""
        done = self.world.try_bento("deploy", *args, env=env)
        assert done.returncode == code, f"exit {done.returncode}: {said(done)}"
        return said(done)

    def raw(self, machine: Machine) -> bytes:
        return self.world.manifest(machine).read_bytes()


@pytest.fixture
def publishing(world: World, host_user: HostUser) -> Publishing:
    user = host_user("pub")
    key = make_ssh_key(world.folder / "publisher", comment="publisher")
    made = Publishing(world, user, world.sshd.add_publisher(user, [key.line]))
    made.to(made.url)
    local = world.fleet / "bento.local.toml"
    local.write_text(local.read_text() + f'\n[publish]\nidentity = "{key.path}"\n')
    return made


@pytest.fixture
def second(world: World, host_user: HostUser, publishing: Publishing, tmp_path: Path) -> Iterator[Sshd]:
    """Another server with the same publisher: a mirror."""
    with Sshd(tmp_path / "sshd-2", tmp_path / "publish-2") as server:
        line = (world.folder / "publisher.pub").read_text().strip()
        url = server.add_publisher(publishing.user, [line])
        publishing.to(publishing.url, url, host_keys=(server.host_key_line,))
        yield server


@pytest.fixture
def small(publishing: Publishing, tmp_path: Path) -> Iterator[Sshd]:
    """Another server with the same publisher, whose disk is small: the only one that is published to."""
    disk = tmp_path / "small"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs", disk], check=True)
    try:
        with Sshd(tmp_path / "sshd-2", disk) as server:
            line = (publishing.world.folder / "publisher.pub").read_text().strip()
            publishing.to(server.add_publisher(publishing.user, [line]), host_keys=(server.host_key_line,))
            yield server
    finally:
        subprocess.run(["umount", disk], check=True)


def on_both(publishing: Publishing, second: Sshd, word: str) -> Machine:
    """A host that both servers serve, and that knows both."""
    machine = publishing.add(word)
    second.add_host(machine.name, [(machine.folder / "key.pub").read_text().strip()])
    second.give_host(machine.name, publishing.user)
    trust = machine.folder / "trust.toml"
    trust.write_text(
        trust.read_text()
        + f'\n[[servers]]\naddress = "{second.address}"\nport = {second.port}\nhost_keys = ["{second.host_key_line}"]\n'
    )
    return machine


def test_a_publisher_who_is_nobody_s_root_deploys_and_hosts_follow(publishing: Publishing) -> None:
    world = publishing.world
    web = publishing.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"hunter2")
    text = publishing.deploy()
    assert "published 1, unchanged 0" in text
    assert "warning" not in text
    release = world.sshd.publish / web.name / "release"
    assert {path.owner() for path in release.rglob("*")} == {publishing.user}
    assert {path.stat().st_mode & 0o777 for path in release.rglob("*") if path.is_file()} == {0o644}
    assert not [path for path in release.rglob("*") if path.name.endswith(".tmp")]
    web.run()
    assert web.secret("token") == b"hunter2"
    assert world.status(web)["state"] == "up to date"
    before = publishing.raw(web)
    assert "unchanged 1" in publishing.deploy()
    assert publishing.raw(web) == before
    assert not publishing.lock.exists()


def test_hosts_of_one_flake_share_one_file_and_what_is_lost_or_cut_short_comes_again(publishing: Publishing) -> None:
    world = publishing.world
    web, db = publishing.add("web"), publishing.add("db")
    text, source = publishing.settings.read_text(), f'source = "hosts/{web.name}"'
    publishing.settings.write_text(text.replace(f"[hosts.{db.name}]", f"[hosts.{db.name}]\n{source}"))
    flake = web.source / "flake.nix"
    flake.write_text(flake.read_text().replace(web.name, "both"))
    for name in (web.name, db.name):
        world_text = publishing.settings.read_text()
        publishing.settings.write_text(world_text.replace(f"[hosts.{name}]", f'[hosts.{name}]\nattribute = "both"'))
    publishing.deploy()
    objects = [list((world.sshd.publish / one.name / "release/objects").iterdir()) for one in (web, db)]
    assert objects[0][0].samefile(objects[1][0])
    with objects[0][0].open("r+b") as file:
        file.truncate(100)
    assert "published 2" in publishing.deploy()
    web.run()
    db.run()


def test_a_host_that_stands_as_it_was_left_is_left_alone_until_something_of_it_changes_on_the_server(
    publishing: Publishing,
) -> None:
    world = publishing.world
    web = publishing.add("web")
    release = world.sshd.publish / web.name / "release"

    def settle() -> None:
        """What has changed within a tick of the clock is looked at again."""
        until = time.monotonic() + 60  # a tick is counted as two seconds; on a quick machine that is many deploys
        while time.monotonic() < until:
            if "needs no build" not in publishing.deploy("--verbose"):
                return
        pytest.fail("it is looked at closely each time")

    publishing.deploy()
    settle()
    (tree_object,) = (release / "objects").iterdir()
    os.truncate(tree_object, 100)
    assert "published 1" in publishing.deploy()
    settle()
    manifest = release / "manifest"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b'"created":', b'"Created":', 1))
    assert "could refuse the release" in publishing.deploy(code=1)
    manifest.write_bytes(whole)
    settle()
    (world.sshd.publish / web.name / "reports").rmdir()
    assert "has no reports folder" in publishing.deploy()


def test_a_host_whose_folders_are_missing_harms_only_itself_and_the_hint_mends_it(publishing: Publishing) -> None:
    world = publishing.world
    web, db = publishing.add("web"), world.add("db")
    text = publishing.deploy(code=3)
    assert f"{web.name}: published" in text
    assert f"can't make the folders of {db.name}" in text
    hint = next(line for line in text.splitlines() if "install -d" in line)
    command = hint.partition("as root: ")[2].replace("/run/publish", str(world.sshd.publish))
    subprocess.run(command, shell=True, check=True)  # noqa: S602 — as a person types it
    assert "published 1, unchanged 1" in publishing.deploy()
    db.run()
    assert world.status(db)["state"] == "up to date"


def test_another_s_lock_is_respected_until_it_is_broken_and_one_s_own_left_over_is_not_in_the_way(
    publishing: Publishing,
) -> None:
    web = publishing.add("web")
    publishing.deploy()
    before = publishing.raw(web)
    publishing.world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"x")
    publishing.lock.write_text('{"owner":"eve\\u001b[31m@desk","time":1000,"token":"hers"}\n')
    os.chown(publishing.lock, publishing.lock.parent.stat().st_uid, -1)
    text = publishing.deploy(code=1)
    assert "is under way: eve" in text
    assert "\x1b" not in text
    assert "bento deploy --break-lock" in text
    assert publishing.raw(web) == before
    assert "hers" in publishing.lock.read_text()
    publishing.deploy("--break-lock")
    assert publishing.raw(web) != before
    assert not publishing.lock.exists()
    token = next(publishing.world.admin.folder.parent.rglob("bento/fleet-*/publisher"), None)
    mine = token.read_text().strip() if token is not None else ""
    assert mine
    publishing.lock.write_text(json.dumps({"owner": "me", "time": 1000, "token": mine}))
    os.chown(publishing.lock, publishing.lock.parent.stat().st_uid, -1)
    assert "unchanged 1" in publishing.deploy()
    assert not publishing.lock.exists()


def test_a_server_with_another_key_or_none_pinned_is_not_published_to(publishing: Publishing) -> None:
    web = publishing.add("web")
    publishing.world.sshd.restart(new_host_key=True)
    text = publishing.deploy(code=6)
    assert "shows another host key" in text
    assert publishing.world.try_bento("status").returncode == 6
    page = Path(__file__).parents[2] / "docs/reference.md"
    assert "| 6 | refused: the only server there is shows another host key" in page.read_text()
    assert "[publish] host_keys" in text
    assert not publishing.world.manifest(web).exists()
    publishing.to(publishing.url, host_keys=(publishing.world.sshd.host_key_line,))
    publishing.deploy()
    publishing.to(publishing.url.replace("127.0.0.1", "localhost"))
    text = publishing.deploy(code=2)
    assert "the host key of sftp://" in text
    publishing.to(publishing.url.replace("127.0.0.1", "localhost"), host_keys=(publishing.world.sshd.host_key_line,))
    publishing.deploy()


def test_a_stranger_s_key_is_refused_and_an_ssh_agent_s_is_taken(publishing: Publishing) -> None:
    world = publishing.world
    publishing.add("web")
    local = world.fleet / "bento.local.toml"
    good = local.read_text()
    local.write_text(good.replace("/publisher", "/signing"))
    assert "doesn't let" in publishing.deploy(code=1)
    local.write_text(good.replace('/publisher"', '/nowhere"'))
    assert "isn't there" in publishing.deploy(code=2)
    key = world.folder / "publisher"
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "locked", "-f", key], check=True)
    local.write_text(good)
    assert "ssh-add" in publishing.deploy(code=2)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "locked", "-N", "", "-f", key], check=True)
    socket = world.folder / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            env = {"SSH_AUTH_SOCK": str(socket)}
            looked = ["ssh-add", "-l"]
            while subprocess.run(looked, env={**os.environ, **env}, capture_output=True, check=False).returncode == 2:
                time.sleep(0.01)  # it doesn't listen yet
            subprocess.run(["ssh-add", "-q", key], env={**os.environ, **env}, check=True, timeout=200)
            key.unlink()
            for identity in (f'identity = "{key}.pub"', ""):
                local.write_text(good.replace(f'identity = "{key}"', identity))
                publishing.deploy(env=env)
        finally:
            agent.terminate()


def test_a_lock_that_says_nothing_may_be_a_deploy_s_that_is_beginning_and_the_hints_lead_on(
    publishing: Publishing,
) -> None:
    publishing.add("web")
    publishing.lock.touch()
    text = publishing.deploy(code=1)
    assert "its lock doesn't say whose it is" in text
    assert "bento deploy --break-lock" in text
    assert "published 1" in publishing.deploy("--break-lock")


def test_a_server_whose_disk_is_full_is_published_to_again_as_soon_as_it_has_room(
    publishing: Publishing, small: Sshd
) -> None:
    """A lock that was made but not written would be somebody else's for good."""
    web = publishing.world.add("web")
    small.add_host(web.name, [(web.folder / "key.pub").read_text().strip()])
    small.give_host(web.name, publishing.user)
    full = small.publish / "full"
    with suppress(OSError), full.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    assert "taking the lock" in publishing.deploy(code=1)
    assert not (small.publish / ".publisher/lock").exists()
    full.unlink()
    assert "published 1" in publishing.deploy()


def test_clocks_that_differ_stop_a_deploy_before_anything_is_written(publishing: Publishing) -> None:
    from bento.adapters.sftp import logged_in
    from bento.adapters.sftp_keys import publisher
    from bento.adapters.sftp_lock import Locking, Owner
    from bento.adapters.sftp_target import SftpTarget
    from bento.errors import WorkFailed
    from bento.models.targets import SftpPlace, parse_target
    from bento.models.trust import Server
    from bento_secrets.ssh_keys import SshPublicKey

    place = parse_target(publishing.url)
    assert isinstance(place, SftpPlace)
    server = Server(place.address, place.port, (SshPublicKey.parse(publishing.world.sshd.host_key_line),), 20)
    log_in = publisher(place.user, "it", publishing.world.folder / "publisher")
    now = int(publishing.settings.stat().st_mtime)
    for off, why in ((-2 * MAX_AHEAD, "ahead of"), (2 * MAX_AHEAD, "behind"), (0, None)):
        locking = Locking(lambda: Owner("me", "mine"), lambda off=off: now + off)  # type: ignore[misc]
        target = SftpTarget(place, lambda first: logged_in(server, log_in, 60, first=first), locking)
        if why is None:
            with target.locked():
                assert publishing.lock.exists()
        else:
            for ahead in ({}, {HostName("web"): None}):
                with pytest.raises(WorkFailed, match=why), target.locked(ahead):
                    pytest.fail("it was let in")
        assert not publishing.lock.exists()


def test_a_mirror_that_is_away_is_named_harms_no_other_and_is_healed(publishing: Publishing, second: Sshd) -> None:
    world = publishing.world
    web = on_both(publishing, second, "web")
    publishing.deploy()
    theirs = second.publish / web.name / "release/manifest"
    assert theirs.read_bytes() == publishing.raw(web)
    web.run()
    second.stop()
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"new")
    text = publishing.deploy(code=3)
    assert f":{second.port}/run/publish lacks what was published" in text
    assert theirs.read_bytes() != publishing.raw(web)
    web.run()
    assert web.secret("token") == b"new"
    second.start()
    status = world.try_bento("status", "--json")
    assert "doesn't have its newest release" in status.stdout.decode()
    assert "brought up to date: sftp://" in publishing.deploy()
    assert theirs.read_bytes() == publishing.raw(web)
    world.sshd.stop()
    assert "nothing new" in web.run()  # the other mirror, which says the same
    done = world.try_bento("status", "--json")
    assert done.returncode == 0
    assert "shown is what the other mirrors know" in done.stderr.decode()


def test_reports_that_lie_on_different_mirrors_are_read_as_one(publishing: Publishing, second: Sshd) -> None:
    world = publishing.world
    web = on_both(publishing, second, "web")
    publishing.deploy()
    second.stop()
    web.run()
    second.start()
    assert world.status(web)["state"] == "up to date"
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"new")
    publishing.deploy()
    world.sshd.stop()
    web.run()
    world.sshd.start()
    for server in (world.sshd, second):
        assert len(list((server.publish / web.name / "reports").glob("*.report"))) == 1
    assert world.status(web)["state"] == "up to date"
    assert world.status(web)["secrets"] == {"installed": 1, "expected": 1}


def test_plan_and_diff_read_through_sftp_and_write_nothing(publishing: Publishing) -> None:
    world = publishing.world
    web = publishing.add("web")
    before = tree(world.sshd.publish)
    assert "build, publish (first release)" in world.bento("deploy", "--dry-run")
    assert tree(world.sshd.publish) == before
    publishing.deploy()
    web.run()
    assert world.bento("diff") == f"{web.name}: nothing changes\n"
    web.write(System("changed"))
    before = tree(world.sshd.publish)
    assert "build, publish (configuration)" in world.bento("deploy", "--dry-run")
    assert "isn't built yet" in world.bento("diff", "--next")
    assert tree(world.sshd.publish) == before
