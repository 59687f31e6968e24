"""A server that has the pinned key and means ill: it may withhold, it may not hang the host, fill its memory or lie."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko.sftp import CMD_READ, CMD_WRITE, SFTP_FAILURE, SFTP_OK
from unit.samples import WEB, key_file, public

from bento.adapters import protocol, sftp, sftp_files
from bento.adapters.bounded import Packets
from bento.adapters.server_keys import shown_keys
from bento.adapters.sftp import ServerAway, connect
from bento.demo import server as fake
from bento.errors import BentoError, EnvironmentFailed, Refused, WorkFailed
from bento.models.limits import LIMITS
from bento.models.trust import Server

pytestmark = pytest.mark.timeout(60)  # a hang is a failure; honest work takes a second


@pytest.fixture
def chroot(tmp_path: Path) -> Path:
    folder = tmp_path / "publish" / WEB
    (folder / "release").mkdir(parents=True)
    (folder / "reports").mkdir()
    (folder / "release/manifest").write_bytes(b"manifest")
    key_file(tmp_path / "host", 1)
    return folder


@pytest.fixture
def server(tmp_path: Path, chroot: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One that may be silent for a second, but for its login: that is honest, and the machine may be busy."""
    monkeypatch.setattr(sftp, "_LOGIN", 60)
    with fake.serving(chroot.parent, {WEB: [public(1)]}, key_file(tmp_path / "server", 9)) as running:
        yield Server(running.address, running.port, (public(9),), 1)


@pytest.fixture
def patient(server: Server) -> Server:
    """The same, where nothing that it does is to be waited for in vain."""
    return replace(server, timeout=30)


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What a rogue waits for; set when the test ends, so that its threads end too."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("stage", ["check_auth_publickey", "check_channel_request", "check_channel_subsystem_request"])
def test_a_login_that_is_never_answered_ends(
    server: Server, tmp_path: Path, never: threading.Event, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(sftp, "_LOGIN", 2)
    monkeypatch.setattr(fake._Login, stage, lambda *_: never.wait(50) and 0)
    with pytest.raises(ServerAway), connect(server, WEB, tmp_path / "host"):
        pass


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server for one connection; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def test_a_greeting_that_comes_a_byte_at_a_time_doesn_t_hold_the_host(tmp_path: Path, never: threading.Event) -> None:
    key_file(tmp_path / "host", 1)

    def drip(connection: socket.socket) -> None:
        while not never.wait(0.2):
            try:
                connection.sendall(b"S")
            except OSError:
                return

    with listening(drip) as port:
        server = Server("127.0.0.1", port, (public(9),), 1)
        with pytest.raises(ServerAway), connect(server, WEB, tmp_path / "host"):
            pass


GREETING = b"SSH-2.0-rogue\r\n"
IGNORED = (12).to_bytes(4, "big") + b"\x04\x02" + bytes(10)  # SSH_MSG_IGNORE, with padding
FLOODS = {
    # paramiko would take 4 GiB for one packet, before any key was shown
    "a packet without end": (GREETING + (0xFFFFFF4).to_bytes(4, "big"), bytes(65536)),
    "a greeting without end": (b"SSH-2.0-", b"x" * 65536),
    "packets without end": (GREETING, IGNORED * 4096),
}


def log_in(port: int, key: Path) -> None:
    with connect(Server("127.0.0.1", port, (public(9),), 10), WEB, key):
        pass


def scan(port: int, _key: Path) -> None:
    shown_keys("127.0.0.1", port, 10, ("ssh-ed25519",))


@pytest.mark.parametrize("look", [log_in, scan])
@pytest.mark.parametrize(("first", "more"), FLOODS.values(), ids=FLOODS)
def test_who_floods_before_a_login_is_hung_up_on(
    tmp_path: Path, first: bytes, more: bytes, look: Callable[[int, Path], None]
) -> None:
    key = key_file(tmp_path / "host", 1)
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        try:
            connection.sendall(first)
            while sent < 512 * 1024 * 1024:
                sent += connection.send(more)
        except OSError:
            return

    with listening(flood) as port, pytest.raises(EnvironmentFailed):
        look(port, key)
    assert sent < LIMITS.login + 16 * 1024 * 1024  # what the kernel holds besides


@pytest.mark.parametrize(("first", "why"), [("a packet without end", "too large"), ("packets without end", "too much")])
def test_a_packet_is_refused_by_the_size_it_says(first: str, why: str) -> None:
    """Before it is read: paramiko would make room for all of it."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
        start, more = FLOODS[first]
        theirs.sendall(start.removeprefix(GREETING) + more[:4096])
        packets = Packets(ours)
        packets._left = 15  # less than the second takes
        with pytest.raises(paramiko.SSHException, match=why):
            packets.read_message()


def test_after_a_login_too_a_packet_has_its_bound(
    patient: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a session may send without end isn't bounded by what a login may."""
    size = 2 * LIMITS.login
    (tmp_path / "publish" / WEB / "release/object").write_bytes(bytes(size))
    with connect(patient, WEB, tmp_path / "host") as made:
        assert len(made.read("release/object", size)) == size
        monkeypatch.setattr("bento.adapters.bounded.LIMITS", replace(LIMITS, ssh_packet=1000))
        with pytest.raises(ServerAway):
            made.read("release/object", size)


def test_weak_ciphers_and_digests_are_not_taken(tmp_path: Path) -> None:
    key_file(tmp_path / "host", 1)
    server_key = paramiko.PKey.from_path(key_file(tmp_path / "server", 9))
    weak = {"digests": ("hmac-md5", "hmac-sha1"), "ciphers": ("3des-cbc", "aes128-cbc")}
    for what, names in weak.items():
        ended = threading.Event()

        def serve(
            connection: socket.socket,
            what: str = what,
            names: tuple[str, ...] = names,
            ended: threading.Event = ended,
        ) -> None:
            with paramiko.Transport(connection) as transport:
                offered = [name for name in names if name in getattr(transport.get_security_options(), what)]
                assert offered, "nothing weak is left to offer: drop this test"
                setattr(transport.get_security_options(), what, tuple(offered))
                transport.add_server_key(server_key)
                transport.start_server(threading.Event(), paramiko.ServerInterface())
                ended.wait(50)

        with listening(serve) as port:
            server = Server("127.0.0.1", port, (public(9),), 30)
            with pytest.raises(BentoError) as error, connect(server, WEB, tmp_path / "host"):
                pass
            ended.set()
        # with a weak algorithm agreed on, it would come as far as being refused its login
        assert not isinstance(error.value, WorkFailed), what
        assert "no acceptable" in error.value.message or isinstance(error.value, Refused), error.value.message


class Withholding(paramiko.SFTPServer):
    """Answers every read but a file's first; counts how many came before that."""

    reads = 0

    def _process(self, t: int, request_number: int, msg: paramiko.Message) -> None:
        if t == CMD_READ:
            type(self).reads += 1
            if type(self).reads == 1:
                return
        super()._process(t, request_number, msg)


def test_a_server_that_withholds_the_first_piece_can_t_make_the_host_hold_the_rest(
    server: Server, chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paramiko, "SFTPServer", Withholding)
    monkeypatch.setattr(Withholding, "reads", 0)
    size = 16 * 1024 * 1024
    (chroot / "release/object").write_bytes(bytes(size))
    with pytest.raises(ServerAway, match="doesn't answer"), connect(server, WEB, tmp_path / "host") as made:
        made.read("release/object", size)
    assert 1 < Withholding.reads <= LIMITS.reads
    assert LIMITS.reads * sftp_files.PIECE <= 2 * 1024 * 1024


def test_a_file_that_comes_a_byte_at_a_time_is_cut_off(
    server: Server, chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_byte(self: fake._File, offset: int, length: int) -> bytes:
        time.sleep(0.05)
        return b"x"

    monkeypatch.setattr(fake._File, "read", one_byte)
    monkeypatch.setattr(sftp, "LIMITS", replace(LIMITS, slowest=10_000))
    (chroot / "release/object").write_bytes(bytes(10_000))
    with pytest.raises(ServerAway, match="takes too long"), connect(server, WEB, tmp_path / "host") as made:
        made.read("release/object", 10_000)


def test_a_session_ends_with_its_time_however_busy_the_server_keeps_it(
    server: Server, chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake._File, "read", lambda *_: time.sleep(0.05) or b"x")
    (chroot / "release/object").write_bytes(bytes(10_000_000))
    with (
        pytest.raises(ServerAway, match="takes too long"),
        connect(replace(server, timeout=600), WEB, tmp_path / "host", within=1) as made,
    ):
        made.read("release/object", 10_000_000)


@pytest.mark.parametrize("claimed", [5, None])
def test_more_than_was_allowed_is_never_taken(
    patient: Server, chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: int | None
) -> None:
    def stat(self: fake._File) -> paramiko.SFTPAttributes:
        said = paramiko.SFTPAttributes()
        said.st_size = claimed
        return said

    monkeypatch.setattr(fake._File, "stat", stat)
    monkeypatch.setattr(fake._File, "read", lambda *_: b"x" * 1000)
    got: list[bytes] = []
    with pytest.raises((Refused, ServerAway)), connect(patient, WEB, tmp_path / "host") as made:
        made.stream("release/manifest", 100, got.append)
    assert len(b"".join(got)) <= 100


def test_a_file_larger_than_allowed_is_refused_before_it_is_read(
    patient: Server, chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake._File, "read", lambda *_: pytest.fail("it was read"))
    (chroot / "release/manifest").write_bytes(bytes(101))
    with connect(patient, WEB, tmp_path / "host") as made, pytest.raises(Refused, match="larger than 100 bytes"):
        made.read("release/manifest", 100)


@pytest.mark.parametrize("kind", ["unasked", "huge", "cut short"])
def test_what_was_not_asked_for_ends_the_session(
    patient: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    class Chatty(paramiko.SFTPServer):
        def _process(self, _t: int, request_number: int, _msg: paramiko.Message) -> None:
            if kind == "unasked":
                self._send_status(request_number + 1000, SFTP_OK)  # type: ignore[attr-defined]
            elif kind == "cut short":
                self._response(request_number, protocol.STATUS)  # type: ignore[attr-defined]
            else:
                self._response(request_number, protocol.DATA, b"x" * 300_000)  # type: ignore[attr-defined]

    monkeypatch.setattr(paramiko, "SFTPServer", Chatty)
    with (
        pytest.raises(ServerAway, match=r"wasn't asked for|too large|cut short"),
        connect(patient, WEB, tmp_path / "host") as made,
    ):
        made.read("release/manifest", 100)


def test_a_report_is_seen_whole_or_not_at_all_and_a_full_disk_is_said(
    patient: Server, chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = chroot / "reports/heartbeat"
    seen: list[bytes] = []
    real = fake._File.write

    def watched(self: fake._File, offset: int, data: bytes) -> int:
        seen.append(target.read_bytes())
        return SFTP_FAILURE if len(data) < sftp_files.PIECE else real(self, offset, data)  # type: ignore[return-value]

    with connect(patient, WEB, tmp_path / "host") as made:
        made.put("reports/heartbeat", b"old")
        monkeypatch.setattr(fake._File, "write", watched)
        with pytest.raises(WorkFailed, match="writing reports/heartbeat"):
            made.put("reports/heartbeat", bytes(sftp_files.PIECE + 1))
        assert target.read_bytes() == b"old"
        made.put("reports/heartbeat", bytes(sftp_files.PIECE))
    assert target.read_bytes() == bytes(sftp_files.PIECE)
    assert set(seen) == {b"old"}


def test_a_server_that_takes_no_bytes_doesn_t_hold_the_host(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, never: threading.Event
) -> None:
    class Deaf(paramiko.SFTPServer):
        def _process(self, t: int, request_number: int, msg: paramiko.Message) -> None:
            if t == CMD_WRITE:
                never.wait(50)
            super()._process(t, request_number, msg)

    monkeypatch.setattr(paramiko, "SFTPServer", Deaf)
    with pytest.raises(ServerAway), connect(server, WEB, tmp_path / "host") as made:
        made.put("reports/1.report", bytes(4 * 1024 * 1024))
