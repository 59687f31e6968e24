"""Keys, members and a RAM mount for the tests of the secrets module."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bento_secrets.identities import Identity, load_ssh_identity
from bento_secrets.members import Member
from bento_secrets.names import HostName, TagName
from bento_secrets.runtime import Runtime
from bento_secrets.store import SecretStore


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real key files; `weak` is RSA of 1024 bits, `locked` has a passphrase, `pem` is RSA as PKCS#1."""
    folder = tmp_path_factory.mktemp("keys")
    for name, arguments in {
        "ed25519": ("-t", "ed25519"),
        "ed25519b": ("-t", "ed25519"),
        "rsa": ("-t", "rsa", "-b", "2048"),
        "weak": ("-t", "rsa", "-b", "1024"),
        "ecdsa": ("-t", "ecdsa"),
        "pem": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
        "locked": ("-t", "ed25519", "-N", "a passphrase"),
    }.items():
        phrase = () if "-N" in arguments else ("-N", "")
        command = ("ssh-keygen", "-q", *arguments, *phrase, "-C", f"{name}@test", "-f", str(folder / name))
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def identity(key_folder: Path) -> Identity:
    return load_ssh_identity(key_folder / "ed25519")


@pytest.fixture(scope="session")
def other_identity(key_folder: Path) -> Identity:
    return load_ssh_identity(key_folder / "ed25519b")


@pytest.fixture
def member(identity: Identity) -> Callable[..., Member]:
    def make(name: str, *tags: str) -> Member:
        return Member(HostName.parse(name), identity.recipient, frozenset(TagName.parse(tag) for tag in tags))

    return make


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    made = SecretStore(tmp_path / "secrets")
    made.create()
    return made


@pytest.fixture
def runtime(as_root: None, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime folder on a tmpfs of 1 MiB, unmounted afterwards."""
    made = Runtime(tmp_path / "run")
    made.ensure(1024 * 1024)
    yield made
    subprocess.run(["umount", str(made.root)], check=True)


@pytest.fixture
def fleet(tmp_path: Path, key_folder: Path) -> Path:
    """web and post with the tag dc, and one admin."""
    root = tmp_path / "fleet"
    root.mkdir()
    keys = [(key_folder / f"{name}.pub").read_text().strip() for name in ("ed25519", "ed25519b", "rsa")]
    (root / "bento.toml").write_text(
        f"""[publish]\nto = "/srv"\n[signing]\nkeys = ["k"]\n[secrets]\nadmins = ["{keys[2]}"]\n"""
        f"""[hosts.web]\nkeys = ["{keys[0]}"]\ntags = ["dc"]\n[hosts.post]\nkeys = ["{keys[1]}"]\ntags = ["dc"]\n"""
    )
    (root / "utils").mkdir()
    SecretStore(root / "secrets").create()
    return root
