"""The passphrase of an admin's key is asked for at the terminal, once a command, and taken from nowhere else."""

import os
import pty
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from rig import sops
from rig.acme import PLAIN, Acme, tree
from rig.terminals import silent
from rig.world import PROGRAMS

pytestmark = pytest.mark.programs("age", "nix-instantiate")
PHRASE = "never typed in the open"


@pytest.fixture(scope="module")
def made(acme: Acme, tmp_path_factory: pytest.TempPathFactory) -> Acme:
    """A locked key that opens secrets of the fleet, two of agenix's and two of SOPS's."""
    acme = acme.copy(tmp_path_factory.mktemp("locked") / "acme")
    key = acme.key("alice")
    locked = ["ssh-keygen", "-q", "-p", "-P", "", "-N", PHRASE, "-f", str(key)]
    subprocess.run(locked, check=True, capture_output=True)
    rules = f'["{acme.public("alice")}" "{acme.public("system1")}"]'
    (acme.theirs / "secrets.nix").write_text("".join(("{", *(f'"{n}.age".publicKeys = {rules};' for n in "ab"), "}")))
    for name in "ab":
        acme.seal(f"{name}.age", "alice", "system1")
        readers = [acme.recipient("alice"), acme.recipient("system1")]
        sops.seal(acme.theirs / f"{name}.yaml", {f"sops-{name}": PLAIN}, readers)
    settings = acme.fleet / "bento.toml"
    settings.write_text(settings.read_text().replace("admins = []", f'admins = ["{acme.public("alice")}"]'))
    (acme.folder / "plain").write_text(PLAIN)
    for name in ("own", "other"):
        acme.bento("secret", "add", "@all", str(acme.folder / "plain"), "--name", name)
    settings.write_text(settings.read_text().replace("admins = [", f'admins = ["{acme.public("system1")}", '))
    return acme


@pytest.fixture
def locked(made: Acme, tmp_path: Path) -> Acme:
    return made.copy(tmp_path / "acme")


COMMANDS: dict[str, list[str]] = {
    "show": ["secret", "show", "@all", "own"],
    "edit": ["secret", "edit", "@all", "own"],
    "rekey": ["secret", "rekey"],
    "check": ["secret", "check"],
    "agenix": ["secret", "import", "agenix", "../theirs"],
    "sops": ["secret", "import", "sops", "../theirs"],
}


def argv(acme: Acme, command: str) -> list[str]:
    key = str(acme.folder / "keys/alice")
    return [str(PROGRAMS / "bento"), "--dir", str(acme.fleet), *COMMANDS[command], "--identity", key]


def at_terminal(line: Sequence[str], acme: Acme, phrase: str) -> tuple[int, str]:
    """The exit code, and what is shown, where `phrase` is typed whenever it is asked for."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(acme.fleet)
        os.execve(line[0], line, {**os.environ, **acme.env, "EDITOR": "true", "VISUAL": ""})  # noqa: S606
    shown, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other end has closed
            break
        if re.search(rb"passphrase of [^\n]*: $", shown):
            silent(terminal)
            os.write(terminal, f"{phrase}\n".encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_passphrase_is_asked_for_once_a_command_and_not_shown(locked: Acme, command: str) -> None:
    code, shown = at_terminal(argv(locked, command), locked, PHRASE)
    assert code == (1 if command == "check" else 0), shown  # it finds copies that aren't sealed to the second admin
    assert shown.count("passphrase of ") == 1
    assert PHRASE not in shown
    if command in ("agenix", "sops"):
        name = {"agenix": "b", "sops": "sops-b"}[command]
        assert locked.opened("system1", name) == PLAIN.encode()


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_terminal_nobody_is_asked_and_stdin_is_left_alone(locked: Acme, command: str) -> None:
    before = tree(locked.fleet)
    given = {"env": {**os.environ, **locked.env, "EDITOR": "true", "VISUAL": ""}, "cwd": locked.fleet}
    child = subprocess.Popen(
        argv(locked, command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **given,  # type: ignore[call-overload]
    )
    # stdin stays open: whoever read it would wait.
    assert child.wait(100) == 2
    out, err = child.communicate(f"{PHRASE}\n".encode())
    assert "needs its passphrase, and none was given" in err.decode()
    assert out == b""
    assert tree(locked.fleet) == before


@pytest.mark.parametrize("command", ["agenix", "sops"])
def test_a_wrong_passphrase_imports_nothing(locked: Acme, command: str) -> None:
    before = tree(locked.fleet)
    code, shown = at_terminal(argv(locked, command), locked, "a wrong one")
    assert code == 2
    assert "is wrong" in shown
    assert tree(locked.fleet) == before
