"""A host's session with its server: what the server may do to it, and what it may not."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.samples import WEB, key_file, public

from bento.adapters import ssh_at_once
from bento.adapters.bounded import transport_over
from bento.adapters.sftp import NotThere, Session, connect
from bento.demo import server as fake
from bento.errors import WorkFailed
from bento.models.trust import Server


@pytest.fixture
def chroot(tmp_path: Path) -> Path:
    folder = tmp_path / "publish" / WEB
    (folder / "release/objects").mkdir(parents=True)
    (folder / "reports").mkdir()
    (folder / "release/manifest").write_bytes(b"manifest")
    return folder


@pytest.fixture
def server(tmp_path: Path, chroot: Path) -> Iterator[Server]:
    key_file(tmp_path / "host", 1)
    with fake.serving(chroot.parent, {WEB: [public(1)]}, key_file(tmp_path / "server", 9)) as running:
        yield Server(running.address, running.port, (public(9),), 5)


@pytest.fixture
def session(server: Server, tmp_path: Path) -> Iterator[Session]:
    with connect(server, WEB, tmp_path / "host") as made:
        yield made


def test_what_fails_in_the_sink_is_this_machine_s_trouble_not_the_server_s(session: Session) -> None:
    def full(_: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as error:
        session.stream("release/manifest", 100, full)
    assert error.value.errno == errno.ENOSPC
    assert session.read("release/manifest", 100) == b"manifest"  # the session goes on


def test_a_file_that_is_not_there_is_not_a_server_that_is_away(session: Session) -> None:
    with pytest.raises(NotThere):
        session.read("release/nothing", 100)


def test_a_host_that_isn_t_let_in_is_told_what_works_on_a_host(server: Server, tmp_path: Path) -> None:
    stranger = key_file(tmp_path / "stranger", 2)
    with pytest.raises(WorkFailed, match="doesn't let web in") as error, connect(server, WEB, stranger):
        pass
    assert f"ssh-keygen -y -f {stranger}" in " ".join(error.value.hints)
    assert "bento " not in " ".join(error.value.hints)


def test_a_paramiko_with_other_private_parts_logs_in_as_it_always_did(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_at_once, "_KNOWN", False)
    monkeypatch.setattr(ssh_at_once, "_Authentication", None)
    with connect(server, WEB, tmp_path / "host") as made:
        assert made.read("release/manifest", 100) == b"manifest"


def test_while_it_logs_in_the_kernel_holds_no_receipts_back(server: Server) -> None:
    """sshd waits for them with its next packet; on loopback a login took 80 ms with them held back, 35 without."""
    option = socket.IPPROTO_TCP, socket.TCP_QUICKACK
    with socket.create_connection((server.address, server.port)) as connection:
        _, packets = transport_over(connection)
        connection.setsockopt(*option, 0)
        packets.write_all(b"SSH-2.0-it\r\n")
        assert connection.getsockopt(*option) == 1
        packets.logged_in()
        connection.setsockopt(*option, 0)
        packets.write_all(b"\n")
        assert connection.getsockopt(*option) == 0
    unlike_tcp, other = socket.socketpair()
    with unlike_tcp, other:
        transport_over(unlike_tcp)[1].write_all(b"SSH-2.0-it\r\n")
        assert other.recv(100) == b"SSH-2.0-it\r\n"
