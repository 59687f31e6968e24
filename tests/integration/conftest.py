"""Fixtures over real parts. Most need root, by `as_root` (tests/conftest.py)."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bento.agent import take
from bento.agent.link import reachable_within
from bento.demo.systems import System, write_channel, write_flake
from bento.names import HostName
from rig import HostUser, MakeRoot, PrivateRoot, Sshd, system_user
from rig.acme import Acme
from rig.desk import Desk
from rig.keys import make_ssh_key
from rig.lone import LoneHost
from rig.world import World, said

if TYPE_CHECKING:
    from rig.link import Link


@pytest.fixture(scope="session")
def host_user(as_root: None) -> Iterator[HostUser]:
    """Gives the host name that stands for a word, for example "a": a system user, unique to this session."""
    prefix = f"bt{secrets.token_hex(3)}"
    made: dict[str, str] = {}
    with ExitStack() as users:

        def name_of(word: str) -> str:
            if word not in made:
                made[word] = users.enter_context(system_user(f"{prefix}{word}"))
            return made[word]

        yield name_of


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands in for nixpkgs; every private root's `<nixpkgs>`."""
    folder = tmp_path_factory.mktemp("channel")
    write_channel(folder)
    return folder


@pytest.fixture
def make_root(as_root: None, tmp_path: Path, channel: Path) -> Iterator[MakeRoot]:
    """Makes machines with a private /nix and /run, by name."""
    with ExitStack() as roots:
        yield lambda name: roots.enter_context(PrivateRoot(tmp_path / f"machine-{name}", channel))


@pytest.fixture
def root(make_root: MakeRoot) -> PrivateRoot:
    """One such machine."""
    return make_root("one")


@pytest.fixture
def sshd(as_root: None, tmp_path: Path) -> Iterator[Sshd]:
    """A server without hosts yet."""
    with Sshd(tmp_path / "sshd", tmp_path / "publish") as server:
        yield server


@pytest.fixture
def world(make_root: MakeRoot, sshd: Sshd, host_user: HostUser, tmp_path: Path) -> World:
    """A fleet without hosts yet."""
    made = World(tmp_path, make_root("admin"), sshd, make_root, host_user)
    made.init()
    return made


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk to copy for each test."""
    folder = tmp_path_factory.mktemp("desk")
    desk = Desk(folder)
    for name in ("home", "state", "publish", "keys"):
        (folder / name).mkdir()
    for name in ("web", "db", "server", "signing", "spare"):
        make_ssh_key(folder / "keys" / name, comment=f"root@{name}")
    server = (folder / "keys/server.pub").read_text()
    steps = [
        ("init", "fleet", "--fleet", "acme", "--address", "192.0.2.1", "--server-key", server),
        ("--dir", "fleet", "host", "add", "web", "--key-file", "keys/web.pub", "--tag", "dc1"),
        ("--dir", "fleet", "host", "add", "db", "--key-file", "keys/db.pub"),
        ("--dir", "fleet", "secret", "add", "web", "keys/web.pub", "--name", "tls/site.key"),
    ]
    for step in steps:
        done = desk.bento(*step, cwd=folder)
        assert done.returncode == 0, said(done)
    for host in ("web", "db"):
        write_flake(desk.fleet / "hosts" / host, {host: System()})
    return folder


@pytest.fixture
def desk(furnished: Path, tmp_path: Path) -> Desk:
    folder = tmp_path / "desk"
    shutil.copytree(furnished, folder, symlinks=True)
    made = Desk(folder)
    text = made.settings.read_text().replace('to = "/home/chroot"', f'to = "{made.publish}"')
    made.settings.write_text(text)
    local = made.fleet / "bento.local.toml"
    local.write_text('[signing]\nkeys = ["../keys/signing"]\n')
    trust = made.fleet / "utils/trust.toml"
    signer = " ".join((folder / "keys/signing.pub").read_text().split()[:2])
    trust.write_text(
        "\n".join(
            f'signers = ["{signer}"]' if line.startswith("signers") else line for line in trust.read_text().splitlines()
        )
    )
    return made


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    made = Acme(tmp_path_factory.mktemp("acme"))
    made.make()
    made.host("system1", "all")
    made.host("system2", "all", kind="rsa")
    return made


@pytest.fixture
def lone(sshd: Sshd, host_user: HostUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoneHost]:
    """Its server is there, and has all the time that a busy machine needs to answer. Checks may fail for a second."""
    monkeypatch.setattr(take, "reachable_within", lambda host, seconds: reachable_within(host, max(seconds, 60)))
    folder = tmp_path / "lone"
    folder.mkdir()
    made = LoneHost(folder, host_user("lone"), sshd)
    with made.mounted(monkeypatch):
        yield made


@pytest.fixture
def link(sshd: Sshd, host_user: HostUser, tmp_path: Path) -> "Link":
    """A publisher, and sixty hosts that it may write for."""
    from unit.admin.test_publish import Place

    from rig.link import HOSTS, Link

    work = tmp_path / "work"
    work.mkdir()
    user = host_user("pub")
    key = make_ssh_key(tmp_path / "publisher")
    sshd.add_publisher(user, [key.line])
    names = [HostName(f"h{number}") for number in range(HOSTS)]
    for name in ("web", *names):
        (sshd.publish / name).mkdir()
        sshd.give_host(name, user, group="root")
    return Link(sshd, user, key.path, Place(work), names)
