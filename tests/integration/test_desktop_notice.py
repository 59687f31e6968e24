"""Notices reach the desktop of who is logged in, as that user; what waits at his socket can neither hang nor gain."""

import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bento.adapters import desktop
from bento.agent import take
from bento.agent.install import stored_manifest
from bento.core import trust_rules
from bento.names import Serial
from rig import HostUser
from rig.lone import LoneHost

LogIn = Callable[[str], tuple[pwd.struct_passwd, Path]]

_NOTIFY_SEND = """\
#!/bin/sh
exec >>OUT/said
id -u
id -g
grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status
env
for word; do echo "arg=$word"; done
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can pass."""
    made = Path(tempfile.mkdtemp(prefix="bento-test-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def session(host_user: HostUser, place: Path, monkeypatch: pytest.MonkeyPatch) -> LogIn:
    """Logs a user in: gives who he is, and the folder of his session. `said` is what notify-send was told."""
    programs = place / "programs"
    programs.mkdir(mode=0o755)
    (programs / "notify-send").write_text(_NOTIFY_SEND.replace("OUT", str(place)))
    (programs / "notify-send").chmod(0o755)
    (place / "said").touch()
    (place / "said").chmod(0o666)
    sessions = place / "user"
    sessions.mkdir()
    monkeypatch.setattr(desktop, "_SESSIONS", sessions)
    monkeypatch.setattr(desktop, "_LEAST_USER", 1)
    monkeypatch.setattr(desktop, "_TIMEOUT", 60)  # a busy machine takes its time to start a program
    monkeypatch.setattr(desktop, "_PATH", f"{programs}:/usr/bin:/bin")

    def log_in(word: str) -> tuple[pwd.struct_passwd, Path]:
        user = pwd.getpwnam(host_user(word))
        folder = sessions / str(user.pw_uid)
        folder.mkdir()
        with socket.socket(socket.AF_UNIX) as bus:
            bus.bind(str(folder / "bus"))
        os.chown(folder, user.pw_uid, user.pw_gid)
        return user, folder

    return log_in


def test_each_session_is_told_as_its_own_user_with_nothing_of_roots(
    session: LogIn, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOTS_OWN", "x")
    (one, folder), (two, _) = session("desk"), session("other")
    desktop.notify("A title", "--text; $(touch x)")
    said = (place / "said").read_text().splitlines()
    assert {line for line in said if line.isdecimal()} == {str(n) for u in (one, two) for n in (u.pw_uid, u.pw_gid)}
    assert f"DBUS_SESSION_BUS_ADDRESS=unix:path={folder}/bus" in said
    assert not any("ROOTS_OWN" in line for line in said)
    assert {line.split("\t")[1] for line in said if line.startswith("Cap")} == {"0" * 16}
    args = [line for line in said if line.startswith("arg=")]
    assert args == ["arg=--app-name=Bento", "arg=--", "arg=A title", "arg=--text; $(touch x)"] * 2


@pytest.mark.timeout(120)
def test_what_is_no_session_is_passed_over_and_one_that_hangs_is_left(
    session: LogIn, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = session("desk")
    sessions = folder.parent
    (sessions / "12345").mkdir()  # root's, by another's name
    (sessions / "777").symlink_to(folder)
    (sessions / "systemd").mkdir()
    (folder / "bus").unlink()
    desktop.notify("to", "nobody")
    assert (place / "said").read_text() == ""
    session("other")
    (place / "programs/notify-send").write_text(f"#!/bin/sh\necho began >>{place}/said\nsleep 1000\n")
    for seconds in (0.5, 4, 30):  # as much as its start takes on this machine
        monkeypatch.setattr(desktop, "_TIMEOUT", seconds)
        desktop.notify("to", "one who hangs")
        if (place / "said").read_text():
            break
    assert (place / "said").read_text() == "began\n"


@pytest.mark.parametrize(("switch", "words"), [("on", "This computer was updated"), ("off", None)])
def test_an_update_is_told_where_that_is_wanted(
    lone: LoneHost, session: LogIn, place: Path, monkeypatch: pytest.MonkeyPatch, switch: str, words: str | None
) -> None:
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    session("desk")
    lone.desktop = switch
    host = lone.fresh()
    floor = host.state.floor()
    assert floor is not None
    taken = take.take_release(host, stored_manifest(host, Serial(2)), trust_rules._resumed(floor))
    assert taken.outcome == "succeeded"
    said = (place / "said").read_text()
    assert (words in said) if words else said == ""


def test_an_update_that_waits_for_a_reboot_says_so(
    lone: LoneHost, session: LogIn, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    session("desk")
    lone.desktop = "on"
    host = lone.fresh()
    lone.fault("new", "test", "exit 100")
    floor = host.state.floor()
    assert floor is not None
    take.take_release(host, stored_manifest(host, Serial(2)), trust_rules._resumed(floor))
    assert "started anew" in (place / "said").read_text()
