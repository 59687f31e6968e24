"""Tab offers what the fleet has: driven as the shells drive it, by click's protocol in the environment."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from unit.samples import public

from bento.cli.completing import HostParam, HostsParam, SecretParam, TargetParam
from bento.cli.main import bento

PROGRAM = Path(sys.executable).parent / "bento"
SHELLS = ("bash", "zsh", "fish")
NAMES = {"on": HostsParam, "host": HostParam, "target": TargetParam}  # parameters that mean something of the fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    root = tmp_path / "fleet"
    (root / "secrets").mkdir(parents=True)
    (root / "bento.toml").write_text(
        f'[hosts.web]\nkeys = ["{public(11).line}"]\ntags = ["dc1", "@front"]\n'
        f'[hosts.web2]\nkeys = []\n[hosts.db]\ntags = ["dc1"]\n[hosts."\\u001b[31mred"]\n'
    )
    (root / "secrets/secrets.toml").write_text(
        "".join(
            f'[[secret]]\ntarget = "{target}"\nname = "{name}"\n'
            for target, name in (("web", "token"), ("@dc1", "borg/pass"), ("@front", "tls"), ("web2", "to\\u0007"))
        )
    )
    return root


Offer = Callable[[str, str], list[str]]


@pytest.fixture
def offered(fleet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offer:
    """What a shell is told for a line with the cursor at its end."""

    def ask(shell: str, line: str) -> list[str]:
        words = line.split(" ")
        position = {"bash": "-1", "zsh": str(len(words) - 1), "fish": words[-1]}[shell]
        env = {"BENTO_DIR": str(fleet), "_BENTO_COMPLETE": f"{shell}_complete", "COMP_WORDS": line}
        for name, value in {**env, "COMP_CWORD": position}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            bento.main([], prog_name="bento", standalone_mode=False)
        said = capsys.readouterr()
        assert said.err == ""
        if shell == "zsh":
            return said.out.splitlines()[1::3]
        return [one.partition(",")[2].partition("\t")[0] for one in said.out.splitlines() if one]

    return ask


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("bento depl", ["deploy"]),
        ("bento host show ", ["db", "web", "web2"]),
        ("bento host show w", ["web", "web2"]),
        ("bento deploy --on ", ["@dc1", "@front", "db", "web", "web2"]),
        ("bento deploy --on @d", ["@dc1"]),
        ("bento status --on web,d", ["web,db"]),
        ("bento status --on web,@dc1,", [f"web,@dc1,{name}" for name in ("@front", "db", "web2")]),
        ("bento secret add @", ["@dc1", "@front"]),
        ("bento secret show web ", ["borg/pass", "tls", "token"]),
        ("bento secret show db ", ["borg/pass"]),
        ("bento secret show @front ", ["tls"]),
        ("bento secret edit web to", ["token"]),
        ("bento secret add web --na", ["--name"]),
        ("bento host show nob", []),
        ("bento build ", ["build", "dry-build", "test", "switch"]),
        ("bento build s", ["switch"]),
    ],
)
def test_tab_offers_what_the_fleet_has(shell: str, line: str, names: list[str], offered: Offer) -> None:
    assert offered(shell, line) == names


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("text", [None, "[hosts", "hosts = 3", "[hosts]\nweb = 3\n[defaults]\ntags = 5", "\xff"])
def test_tab_is_silent_where_the_fleet_is_broken_or_none(
    shell: str, text: str | None, fleet: Path, offered: Offer
) -> None:
    file = fleet / "bento.toml"
    if text is None:
        file.unlink()
    else:
        file.write_text(text, encoding="latin-1")
    assert set(offered(shell, "bento deploy --on ")) <= {"web"}
    (fleet / "secrets/secrets.toml").write_text("secret = 1")
    assert offered(shell, "bento secret show web ") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [("bento deploy --on web,d", "plain,web,db\n"), ("bento secret show db ", "plain,borg/pass\n")],
)
def test_the_program_itself_answers_the_shell(fleet: Path, line: str, said: str) -> None:
    env = {**os.environ, "BENTO_DIR": str(fleet), "_BENTO_COMPLETE": "bash_complete"}
    env |= {"COMP_WORDS": line, "COMP_CWORD": "-1"}
    done = subprocess.run([PROGRAM], env=env, cwd="/", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (said, "")


def parameters(command: click.Command, path: str = "bento") -> Iterator[tuple[str, click.Parameter]]:
    for one in command.params:
        yield path, one
    for name, below in getattr(command, "commands", {}).items():
        yield from parameters(below, f"{path} {name}")


def test_every_command_that_takes_a_host_a_target_or_a_secret_completes_it() -> None:
    found = 0
    for path, one in parameters(bento):
        wanted: type[click.ParamType] | None = NAMES.get(one.name or "")
        if one.name == "name" and path.startswith("bento secret "):
            wanted = SecretParam
        elif one.name == "name" and path.startswith("bento host ") and path != "bento host add":
            wanted = HostParam
        if wanted is not None:
            assert isinstance(one.type, wanted), f"{path}: {one.name} needs a type of bento/cli/completing.py"
            found += 1
    assert found > 15


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_the_program_and_reports_no_error(shell: str) -> None:
    done = subprocess.run([PROGRAM, "completion", shell], capture_output=True, text=True, check=True)
    assert f"_BENTO_COMPLETE={shell}_complete" in done.stdout
    assert "2>/dev/null" in done.stdout
    assert done.stderr == ""
    if shutil.which(shell):  # bash is everywhere; the others where somebody has them
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


@pytest.fixture
def bash(fleet: Path) -> Iterator[Callable[[str], str]]:
    """Types into a real bash with the script, and gives the line that stands there after Tab."""
    child, terminal = pty.fork()
    if child == 0:
        env = {"PATH": f"{PROGRAM.parent}:/usr/bin:/bin", "TERM": "dumb", "BENTO_DIR": str(fleet), "PS1": "> "}
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], env)  # noqa: S606 — bash is what is tested

    def read_until(pattern: str) -> str:
        said, deadline = "", time.monotonic() + 120
        while not re.search(pattern, said) and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                said += os.read(terminal, 65536).decode()
        assert re.search(pattern, said), repr(said)
        return said

    def tab(line: str) -> str:
        # Ctrl-A and the echo show what the line has become: bash gets it as an argument.
        os.write(terminal, f"{line}\t\x01printf '<%s>\\n' \n".encode())
        return " ".join(re.findall(r"^<(.*)>\r$", read_until(r"(?m)^<.*>\r\n(?s:.*)> $"), re.MULTILINE)[1:])

    try:
        os.write(terminal, b"source <(bento completion bash); echo ready\n")
        read_until("\nready")
        yield tab
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("bento deploy --on @d", "deploy --on @dc1"),
        ("bento deploy --on=@f", "deploy --on=@front"),
        ("bento deploy --on=we", "deploy --on=web"),
        ("bento deploy --on web,d", "deploy --on web,db"),
        ("bento deploy --on web,@f", "deploy --on web,@front"),
        ("bento secret show web b", "secret show web borg/pass"),
        ("bento secret add web --na", "secret add web --name"),
        ("bento secret show db ", "secret show db borg/pass"),
        ("bento secret show @front ", "secret show @front tls"),
    ],
)
def test_a_real_bash_completes_words_that_it_would_break(bash: Callable[[str], str], typed: str, line: str) -> None:
    assert bash(typed) == line
