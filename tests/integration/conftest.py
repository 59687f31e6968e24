"""Fixtures over real parts. They need root; without it their tests are skipped, and the summary says so."""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bento.demo.systems import write_channel
from rig import HostUser, MakeRoot, PrivateRoot, Sshd, system_user
from rig.world import World


@pytest.fixture(scope="session")
def as_root() -> None:
    """For a test that mounts, or that makes users."""
    if os.getuid() != 0:
        pytest.skip("needs root: it mounts and makes system users")


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
