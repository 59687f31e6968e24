"""Publishing by SFTP, without root, over real sshd: the whole cycle, mirrors, locks, cuts."""

import json
from dataclasses import dataclass

import pytest

from rig import HostUser, make_ssh_key
from rig.world import Machine, World, said

pytestmark = pytest.mark.timeout(300)


@dataclass
class Publishing:
    """A fleet that is published by SFTP as the user `user`, who isn't root anywhere."""

    world: World
    user: str
    url: str

    def to(self, *urls: str, host_keys: tuple[str, ...] = ()) -> None:
        """Write where releases go."""
        lines = [f"to = {json.dumps(list(urls) if len(urls) > 1 else urls[0])}"]
        if host_keys:
            lines.append(f"host_keys = {json.dumps(host_keys)}")
        path = self.world.fleet / "bento.toml"
        text = path.read_text()
        start, end = text.index("[publish]"), text.index("[secrets]")
        path.write_text(text[:start] + "[publish]\n" + "\n".join(lines) + "\n\n" + text[end:])
        local = self.world.fleet / "bento.local.toml"
        if "identity" not in local.read_text():
            local.write_text(local.read_text() + f'\n[publish]\nidentity = "{self.world.folder}/publisher"\n')

    def add(self, word: str) -> Machine:
        """A host, with the folders that root makes for it on the server."""
        machine = self.world.add(word)
        self.world.sshd.give_host(machine.name, self.user)
        return machine

    def deploy(self, *args: str, code: int = 0) -> str:
        """`bento deploy`; all it said."""
        done = self.world.try_bento("deploy", *args)
        assert done.returncode == code, f"exit {done.returncode}: {said(done)}"
        return said(done)


@pytest.fixture
def publishing(world: World, host_user: HostUser) -> Publishing:
    user = host_user("pub")
    key = make_ssh_key(world.folder / "publisher", comment="publisher")
    url = world.sshd.add_publisher(user, [key.line])
    made = Publishing(world, user, url)
    made.to(url)
    return made


def test_a_publisher_who_is_nobody_s_root_deploys_and_hosts_follow(publishing: Publishing) -> None:
    world = publishing.world
    web = publishing.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"hunter2")
    said = publishing.deploy()
    assert "published 1, unchanged 0" in said
    assert "warning" not in said
    release = world.sshd.publish / web.name / "release"
    owner = {path.owner() for path in release.rglob("*")}
    assert owner == {publishing.user}
    assert {path.stat().st_mode & 0o777 for path in release.rglob("*") if path.is_file()} == {0o644}
    web.run()
    assert web.secret("token") == b"hunter2"
    assert world.status(web)["state"] == "up to date"
    assert "unchanged 1" in publishing.deploy()
    assert list((world.sshd.publish / ".publisher").iterdir()) == []
