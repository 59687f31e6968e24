"""The embedded SFTP server, asked by a real client."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bento.demo.server import Server, serving
from bento.errors import InputError
from bento_secrets.ssh_keys import SshPublicKey


def make_key(path: Path) -> SshPublicKey:
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    return SshPublicKey.parse(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


@contextmanager
def login(server: Server, name: str, key: Path) -> Iterator[paramiko.SFTPClient]:
    with paramiko.Transport((server.address, server.port)) as transport:
        transport.connect(username=name, pkey=paramiko.PKey.from_path(key))
        client = paramiko.SFTPClient.from_transport(transport)
        assert client is not None
        yield client


@pytest.fixture
def publish(tmp_path: Path) -> Path:
    for host in ("alpha", "beta"):
        for folder in ("release", "reports"):
            (tmp_path / "publish" / host / folder).mkdir(parents=True)
        (tmp_path / "publish" / host / "release/manifest").write_text(f"manifest of {host}\n")
    (tmp_path / "publish/outside").write_text("not for hosts\n")
    return tmp_path / "publish"


@pytest.fixture
def server(tmp_path: Path, publish: Path) -> Iterator[Server]:
    make_key(tmp_path / "server")
    accounts = {host: [make_key(tmp_path / host)] for host in ("alpha", "beta")}
    with serving(publish, accounts, tmp_path / "server") as running:
        yield running


@pytest.fixture
def alpha(server: Server, tmp_path: Path) -> Iterator[paramiko.SFTPClient]:
    with login(server, "alpha", tmp_path / "alpha") as client:
        yield client


def read(client: paramiko.SFTPClient, path: str) -> bytes:
    with client.open(path) as file:
        return file.read()


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "::ffff:127.0.0.1", "128.0.0.1", "localhost", ""])  # noqa: S104 — it must refuse them
def test_listens_on_nothing_but_loopback(tmp_path: Path, publish: Path, address: str) -> None:
    make_key(tmp_path / "server")
    with pytest.raises(InputError), serving(publish, {}, tmp_path / "server", address=address):
        pass


def test_listens_on_loopback_and_stops_with_its_block(tmp_path: Path, publish: Path) -> None:
    make_key(tmp_path / "server")
    key = make_key(tmp_path / "alpha")
    with serving(publish, {"alpha": [key]}, tmp_path / "server", address="127.0.0.2") as running:
        with login(running, "alpha", tmp_path / "alpha") as client:
            assert client.listdir("/") == ["release", "reports"] or client.listdir("/") == ["reports", "release"]
            still_open = client.get_channel()
        with login(running, "alpha", tmp_path / "alpha") as client:
            still_open = client.get_channel()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", running.port), timeout=5)
    assert still_open is not None
    assert still_open.closed


def test_shows_the_key_it_was_given(server: Server, tmp_path: Path) -> None:
    with paramiko.Transport((server.address, server.port)) as transport:
        transport.start_client(timeout=10)
        assert transport.get_remote_server_key() == paramiko.PKey.from_path(tmp_path / "server")


@pytest.mark.parametrize(("name", "key"), [("alpha", "beta"), ("beta", "alpha"), ("gamma", "alpha"), ("..", "alpha")])
def test_lets_nobody_in_without_a_key_of_that_login(server: Server, tmp_path: Path, name: str, key: str) -> None:
    with pytest.raises(paramiko.AuthenticationException), login(server, name, tmp_path / key):
        pass


def test_takes_no_password(server: Server) -> None:
    with (
        paramiko.Transport((server.address, server.port)) as transport,
        pytest.raises(paramiko.BadAuthenticationType),
    ):
        transport.connect(username="alpha", password="")


def test_gives_sftp_and_nothing_else(server: Server, tmp_path: Path) -> None:
    with paramiko.Transport((server.address, server.port)) as transport:
        transport.connect(username="alpha", pkey=paramiko.PKey.from_path(tmp_path / "alpha"))
        with pytest.raises(paramiko.SSHException):
            transport.open_session().exec_command("id")
        with pytest.raises(paramiko.SSHException):
            transport.open_session().invoke_shell()
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", server.port), ("127.0.0.1", 1))
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("another")


def test_a_login_reads_its_own_folder(alpha: paramiko.SFTPClient) -> None:
    assert read(alpha, "release/manifest") == read(alpha, "/release/manifest") == b"manifest of alpha\n"
    assert alpha.stat("release/manifest").st_size == 18
    assert sorted(alpha.listdir("/")) == ["release", "reports"]
    with pytest.raises(FileNotFoundError):
        alpha.open("release/nothing")


@pytest.mark.parametrize(
    "path",
    ["../outside", "/../../outside", "release/../../beta/release/manifest", "//outside", "../beta/release/manifest"],
)
def test_dots_lead_nowhere(alpha: paramiko.SFTPClient, path: str) -> None:
    for ask in (alpha.open, alpha.stat, alpha.lstat, alpha.listdir):
        with pytest.raises(OSError, match=r"(?i)no such file|failure|denied"):
            ask(path)
    assert sorted(alpha.listdir("/..")) == ["release", "reports"]


@pytest.mark.parametrize("target", ["../../outside", "../../beta", "/", "../release/manifest"])
def test_symlinks_lead_nowhere(alpha: paramiko.SFTPClient, publish: Path, target: str) -> None:
    before = {path: path.read_bytes() for path in publish.rglob("*") if path.is_file()}
    (publish / "alpha/reports/link").symlink_to(target)
    for path in ("reports/link", "reports/link/outside", "reports/link/release/manifest"):
        for ask in (alpha.open, alpha.stat, alpha.listdir, lambda path: alpha.open(path, "w")):
            with pytest.raises(OSError, match=r"(?i)no such file|failure|denied"):
                ask(path)
    with pytest.raises(OSError, match=r"(?i)failure|denied"):
        alpha.chmod("reports/link", 0o777)
    assert {path: path.read_bytes() for path in publish.rglob("*") if path.is_file() and path in before} == before


def test_makes_no_symlinks(alpha: paramiko.SFTPClient, publish: Path) -> None:
    with pytest.raises(OSError, match=r"(?i)unsupported"):
        alpha.symlink("/etc/passwd", "reports/link")
    assert not list((publish / "alpha/reports").iterdir())


@pytest.mark.parametrize(
    "path", ["new", "release/new", "release/manifest", "reports/../new", "reports", "reportsx/new"]
)
def test_writes_nothing_outside_reports(alpha: paramiko.SFTPClient, publish: Path, path: str) -> None:
    before = sorted(publish.rglob("*"))
    for mode in ("w", "a", "x", "r+"):
        with pytest.raises(OSError, match=r"(?i)denied"):
            alpha.open(path, mode)
    with pytest.raises(OSError, match=r"(?i)denied"):
        alpha.remove(path)
    with pytest.raises(OSError, match=r"(?i)denied"):
        alpha.chmod(path, 0o777)
    with alpha.open("reports/mine", "w") as file:
        file.write(b"mine")
    for move in (alpha.rename, alpha.posix_rename):
        with pytest.raises(OSError, match=r"(?i)denied"):
            move("reports/mine", path)
        with pytest.raises(OSError, match=r"(?i)denied"):
            move(path, "reports/other")
    alpha.remove("reports/mine")
    assert sorted(publish.rglob("*")) == before
    assert (publish / "alpha/release/manifest").read_text() == "manifest of alpha\n"


def test_a_report_comes_whole_as_the_agent_puts_it(alpha: paramiko.SFTPClient, publish: Path) -> None:
    content = os.urandom(1_000_000)
    for text in (b"old", content):
        with alpha.open("reports/.1.tmp", "wb") as file:
            file.set_pipelined(pipelined=True)
            file.write(text)
        alpha.chmod("reports/.1.tmp", 0o7644)
        alpha.posix_rename("reports/.1.tmp", "reports/1.report")
    report = publish / "alpha/reports/1.report"
    assert report.read_bytes() == content
    assert report.stat().st_mode & 0o7777 == 0o644
    assert read(alpha, "reports/1.report") == content
    assert alpha.listdir("reports") == ["1.report"]


def test_a_plain_rename_replaces_nothing(alpha: paramiko.SFTPClient) -> None:
    for name in ("a", "b"):
        with alpha.open(f"reports/{name}", "w") as file:
            file.write(name)
    with pytest.raises(OSError, match=r"(?i)failure"):
        alpha.rename("reports/a", "reports/b")
    assert read(alpha, "reports/b") == b"b"
    alpha.rename("reports/a", "reports/c")
    assert sorted(alpha.listdir("reports")) == ["b", "c"]


def test_a_fifo_or_a_strange_name_hangs_nobody(alpha: paramiko.SFTPClient, publish: Path) -> None:
    os.mkfifo(publish / "alpha/reports/fifo")
    for path in ("reports/fifo", "reports/a\0b", "reports/" + "x" * 300):
        with pytest.raises(OSError, match=r"(?i)failure|denied"):
            alpha.open(path)
    assert read(alpha, "release/manifest") == b"manifest of alpha\n"
