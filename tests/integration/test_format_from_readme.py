"""secrets/README.md is enough to write another implementation: one that was written from it alone, beside this one."""

import ast
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from bento_secrets.importing.keys import canonical
from oracles import second
from rig.desk import Desk

pytestmark = pytest.mark.programs("age")


def seed(desk: Desk, host: str) -> bytes:
    key = load_ssh_private_key((desk.folder / "keys" / host).read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.private_bytes_raw()


def line(desk: Desk, host: str) -> str:
    return (desk.folder / "keys" / f"{host}.pub").read_text().strip()


def run(desk: Desk, *arguments: str, stdin: bytes = b"") -> str:
    done = desk.bento(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.fixture
def tagged(desk: Desk) -> Desk:
    """web and db have the tag dc1."""
    text = desk.settings.read_text()
    desk.settings.write_text(text.replace("[hosts.db]\n", '[hosts.db]\ntags = ["dc1"]\n'))
    assert desk.settings.read_text() != text
    return desk


def test_it_knows_nothing_of_bento() -> None:
    tree = ast.parse(Path(second.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in names if name is None or name.startswith("bento")]


def test_it_derives_the_same_recipients(desk: Desk) -> None:
    for host in ("web", "db", "server", "signing", "spare"):
        assert second.recipient(line(desk, host)) == canonical(line(desk, host))


def test_it_opens_what_bento_sealed(tagged: Desk) -> None:
    run(tagged, "secret", "add", "@dc1", "-", "--name", "app/env", stdin=b"\0shared\n")
    store = tagged.fleet / "secrets"
    pub = (tagged.folder / "keys/web.pub").read_bytes()  # what the desk's first secret holds
    assert second.open_all(store, "web", seed(tagged, "web")) == {"tls/site.key": pub, "app/env": b"\0shared\n"}
    assert second.open_all(store, "db", seed(tagged, "db")) == {"app/env": b"\0shared\n"}


@pytest.mark.parametrize("cut", [False, True])
def test_bento_takes_what_it_wrote_also_after_a_cut(tagged: Desk, cut: bool) -> None:  # noqa: FBT001
    store = tagged.fleet / "secrets"
    hosts = {host: line(tagged, host) for host in ("web", "db")}
    second.add(store, "@dc1", "app/env", b"from elsewhere", hosts, 1795381234, cut=cut)
    assert (store / ".staged/plan").exists() == cut
    assert json.loads(run(tagged, "secret", "check", "--json")) == []
    key = str(tagged.folder / "keys/db")
    assert run(tagged, "secret", "show", "@dc1", "app/env", "--identity", key) == "from elsewhere"
    assert second.open_all(store, "db", seed(tagged, "db")) == {"app/env": b"from elsewhere"}
    run(tagged, "secret", "add", "db", "-", "--name", "own", stdin=b"more")
    assert not (store / ".staged").exists()
    wanted = {"app/env": b"from elsewhere", "own": b"more"}
    assert second.open_all(store, "db", seed(tagged, "db")) == wanted


def test_bento_writes_the_lock_that_it_wrote_to_the_byte(tagged: Desk) -> None:
    store = tagged.fleet / "secrets"
    second.add(store, "@dc1", "app/env", b"x", {host: line(tagged, host) for host in ("web", "db")}, 1, cut=False)
    before = (store / "secrets.lock").read_bytes()
    run(tagged, "secret", "add", "db", "-", "--name", "last", stdin=b"x")
    assert (store / "secrets.lock").read_bytes() != before
    run(tagged, "secret", "remove", "db", "last")
    assert (store / "secrets.lock").read_bytes() == before
