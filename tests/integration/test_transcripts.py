"""Sessions as a person types and sees them, in tests/transcripts/*.txt, played by a real shell.

    # prose, anywhere between commands
    % fleet                        a setup line: run, its output not shown, must succeed
    $ bento host show wbe          what the person types; `> ` goes on with it
    error: no host is called 'wbe' what is printed, stdout and stderr together, exactly
    [exit 2]                       only where it isn't 0

Output ends where the next line of another sort begins; blank lines at its end don't count, and two or more spaces match
two or more, since tables are as wide as what stands in them. Variable parts are the placeholders of `PLACEHOLDERS`.

After a command that exits with 2, everything below the session's folder must be as it was before it.
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from bento.demo.systems import System, write_configuration, write_flake
from rig import MakeRoot, PrivateRoot, make_ssh_key
from rig.desk import tree
from rig.ports import free_port
from rig.world import PROGRAMS
from rig.zygote import stand_ins

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "transcripts").glob("*.txt"))

PLACEHOLDERS = {
    "<any>": r".*",
    "<count>": r"[1-9][0-9]*",
    "<digest>": r"[0-9a-f]{64}",
    "<fingerprint>": r"SHA256:[A-Za-z0-9+/]{43}",
    "<key>": r"AAAA[A-Za-z0-9+/]+=*",
    "<port>": r"[1-9][0-9]*",
    "<recipient>": r"age1[0-9a-z]{58}",
    "<serial>": r"[1-9][0-9]{9}",
    "<system>": r"/nix/store/[0-9a-z]{32}-nixos-system-[a-z0-9-]+",
    "<short>": r"[0-9a-z]{10}",  # a system's hash, as tables show it
    "<stamp>": r"[0-9]{8}T[0-9]{6}Z(?:-[0-9]+)?",
    "<time>": r"[0-9]+ (?:s|min) ago",
    "<version>": r"[0-9]+\.[0-9]+\.[0-9]+",
}  # and <dir>, the session's folder

# What setup lines may use. All begin in the session's folder, where web.pub, db.pub and others lie (see `session`).
_PRELUDE = """
fleet() { # an empty fleet, and we are in it
    mkdir publish && bento init acme --publish-to "$PWD/publish" --address bento.example.org \
        --server-key "$(cat server.pub)" --signing-key signing && cd acme
}
hosts() { # web, a flake host with the tag dc1, and db, a channel host
    bento host add web --key-file ../web.pub --tag dc1 && bento host add db --key-file ../db.pub &&
        mkdir hosts/web hosts/db && cp ../flake.nix hosts/web && cp ../configuration.nix hosts/db
}
host() { # we are on the host web: its settings, and a server that doesn't answer
    mkdir host && cd host && cp ../web key && line=$(cut -d' ' -f1,2 ../web.pub) || return
    cat >trust.toml <<EOF
format = 1
fleet = "acme"
signers = ["$line"]
[[servers]]
address = "127.0.0.1"
port = 1
host_keys = ["$line"]
EOF
    cat >agent.toml <<EOF
host = "web"
identities = ["$PWD/key"]
trust = "$PWD/trust.toml"
[paths]
state = "/run/state"
runtime = "/run/bento"
EOF
}
says() { # a trigger socket on ::1 that says these lines to one caller; $port is its
    rm -f ../port
    python3 -c 'import socket, sys
s = socket.create_server(("::1", 0), family=socket.AF_INET6)
print(s.getsockname()[1], flush=True)
sys.stdout.close()
s.accept()[0].sendall("".join(f"{line}\\n" for line in sys.argv[1:]).encode())' "$@" >../port 2>/dev/null &
    until port=$(grep . ../port); do sleep 0.02; done
}
listens() { # wait for it: sshd goes into the background before that
    until grep -q "listening on" "$1"; do sleep 0.02; done
}
server() { # an SFTP server with the key server.pub lets the key in signing.pub publish; $port is its
    port=$FREE_PORT
    top=$(dirname "$PWD")
    mkdir -p /run/sshd /run/sftp/.publisher && chmod 700 /run/sftp/.publisher && cp "$top/server" /run/server_key
    cat >/run/sshd_config <<EOF
Port $port
ListenAddress 127.0.0.1
HostKey /run/server_key
PidFile none
AuthorizedKeysFile $top/signing.pub
StrictModes no
UsePAM no
PermitRootLogin yes
Subsystem sftp internal-sftp
ForceCommand internal-sftp
EOF
    /usr/sbin/sshd -f /run/sshd_config -E /run/sshd.log && server=$(cut -d' ' -f1,2 "$top/server.pub") &&
        listens /run/sshd.log && to "sftp://root@127.0.0.1:$port/run/sftp"
}
to() { # publish there, knowing the server's key
    sed -i "s#^to = .*#to = '$1'\\nhost_keys = ['$server']\\nidentity = '../signing'#; /^host_keys/d; /^identity/d" \
        bento.toml
}
"""
_REMOTE = r"""
remote() { # this machine is also the host web, reached by ssh as root; its server doesn't answer
    here=${PWD%/*} && mkdir ../host ../ssh /run/sshd && export -p >../ssh/env || return
    signer=$(cut -d' ' -f1,2 ../signing.pub) server=$(cut -d' ' -f1,2 ../server.pub)
    port=$FREE_PORT
    cat >../host/trust.toml <<EOF
format = 1
fleet = "acme"
signers = ["$signer"]
[[servers]]
address = "127.0.0.1"
port = 1
host_keys = ["$server"]
EOF
    cat >../host/agent.toml <<EOF
host = "web"
identities = ["$here/web"]
trust = "$here/host/trust.toml"
[paths]
state = "/run/state"
[systemd]
command = ["true"]
EOF
    cat >../ssh/agent <<EOF
#!/bin/sh
. $here/ssh/env
exec bento-agent --config $here/host/agent.toml "\$@"
EOF
    cat >../ssh/config <<EOF
Port $port
ListenAddress 127.0.0.1
HostKey $here/server
PidFile none
AuthorizedKeysFile $here/signing.pub
UsePAM no
StrictModes no
SetEnv NIX_CONF_DIR=$here/ssh PATH=$PATH
EOF
    chmod +x ../ssh/agent && echo "$NIX_CONFIG" >../ssh/nix.conf && echo "[127.0.0.1]:$port $server" >../ssh/known_hosts
    export NIX_SSHOPTS="-F none -p $port -i $here/signing -o UserKnownHostsFile=$here/ssh/known_hosts"
    sed -i "/^.hosts.web.\$/a address = \"127.0.0.1\"\\nagent = [\"$here/ssh/agent\"]" bento.toml &&
        /usr/sbin/sshd -E "$here/ssh/log" -f "$here/ssh/config" && listens "$here/ssh/log"
}
"""
_END = "\x01"  # what the shell prints after each command, with its exit code


@dataclass
class Step:
    """One command of a transcript and what it prints."""

    line: int
    command: str
    shown: bool
    output: list[str] = field(default_factory=list)
    code: int = 0


def parse(text: str) -> list[Step]:
    """A transcript's steps. Raises ValueError for output that no command could have printed."""
    steps: list[Step] = []
    fresh = False  # whether a `> ` still belongs to the command
    for number, line in enumerate(text.splitlines(), start=1):
        mark = line[:2]
        if mark in ("$ ", "% "):
            steps.append(Step(number, line[2:], shown=mark == "$ "))
            fresh = True
        elif mark == "> " and fresh:
            steps[-1].command += "\n" + line[2:]
        elif mark == "# " or not (steps and (steps[-1].shown or not line)):
            if line and mark != "# ":
                raise ValueError(f"line {number}: no command prints this: {line}")
            fresh = False
        elif exited := re.fullmatch(r"\[exit ([0-9]+)\]", line):
            steps[-1].code = int(exited[1])
        else:
            steps[-1].output.append(line)
            fresh = False
    for step in steps:
        while step.output and not step.output[-1]:
            step.output.pop()
    return steps


def pattern(line: str, folder: Path) -> str:
    """The regular expression for one line of a transcript."""
    parts = re.split(r"(<[a-z]+>| {2,})", line)
    known = {**PLACEHOLDERS, "<dir>": re.escape(str(folder))}
    return "".join(known.get(part, " {2,}" if part.startswith("  ") else re.escape(part)) for part in parts)


def matches(expected: list[str], printed: list[str], folder: Path) -> bool:
    """Whether that is what was printed."""
    return len(expected) == len(printed) and all(
        re.fullmatch(pattern(one, folder), other) for one, other in zip(expected, printed, strict=True)
    )


class Session:
    """A shell on the admin's machine, in an empty folder of its own."""

    def __init__(self, root: PrivateRoot, folder: Path) -> None:
        self.folder = folder
        path = f"{stand_ins(folder.with_name('programs'))}:{PROGRAMS}:{root.env['PATH']}"
        env = {"PATH": path, "HOME": str(folder / "home"), "COLUMNS": "100", "GIT_CEILING_DIRECTORIES": str(folder)}
        env |= {"FREE_PORT": str(free_port()), "PYTHON": str(PROGRAMS / "python")}
        self._shell = root.popen(["sh"], env=env, cwd=folder, stdin=-1, stderr=-2)
        assert self.run(_PRELUDE + _REMOTE) == (0, [])

    def run(self, command: str) -> tuple[int, list[str]]:
        """Run a command in the shell itself, so that `cd` lasts; its exit code and what it printed."""
        stdin, stdout = self._shell.stdin, self._shell.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"eval {shlex.quote(command)} </dev/null; printf '{_END}%s{_END}' \"$?\"\n".encode())
        stdin.flush()
        said = b""
        while said.count(_END.encode()) < 2:
            chunk = stdout.read1(65536)  # type: ignore[attr-defined] # it is a BufferedReader
            assert chunk, f"the shell has ended in: {command}\n{said.decode(errors='replace')}"
            said += chunk
        text, code, _ = said.decode().split(_END)
        return int(code), text.splitlines()

    def play(self, step: Step) -> tuple[int, list[str]]:
        """Run a step; AssertionError if it exits with 2 and something changed."""
        before = tree(self.folder)
        code, printed = self.run(step.command)
        while printed and not printed[-1]:
            printed.pop()
        if code == 2:
            assert tree(self.folder) == before, f"line {step.line}: {step.command} failed and left something behind"
        return code, printed


@pytest.fixture
def session(make_root: MakeRoot, tmp_path: Path) -> Session:
    folder = tmp_path / "session"
    (folder / "home").mkdir(parents=True)
    for name in ("web", "db", "server", "signing"):
        make_ssh_key(folder / name, comment=f"root@{name}")
    make_ssh_key(folder / "old", "ecdsa", comment="root@old")
    write_flake(folder, {"web": System()})
    write_configuration(folder, System())
    return Session(make_root("desk"), folder)


@pytest.mark.parametrize("file", TRANSCRIPTS, ids=lambda file: file.stem)
def test_a_person_sees_exactly_this(file: Path, session: Session) -> None:
    steps = parse(file.read_text("utf-8"))
    assert any(step.shown for step in steps)
    for step in steps:
        code, printed = session.play(step)
        said = "\n".join([*printed, f"[exit {code}]"])
        where = f"{file.name}:{step.line}: {step.command}"
        assert code == step.code, f"{where}\n{said}"
        if step.shown:
            wanted = "\n".join(step.output)
            assert matches(step.output, printed, session.folder), f"{where}\nexpected:\n{wanted}\nprinted:\n{said}"


def test_every_command_has_a_transcript_with_success_and_failure() -> None:
    from bento.cli.agent import agent
    from bento.cli.main import bento

    named = {"demo"}  # played by its own test
    for prefix, group in (("", bento), ("agent-", agent)):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            inner = getattr(command, "commands", None)
            wanted = [f"{name}-{sub}" for sub in inner] if inner else [name]
            for one in wanted:
                if one in named:
                    continue
                file = next((path for path in TRANSCRIPTS if path.stem == prefix + one), None)
                assert file is not None, f"no transcript shows {prefix}{one}"
                codes = {step.code for step in parse(file.read_text("utf-8")) if step.shown}
                assert codes - {0}, f"{file.name} shows no failure"
                assert 0 in codes or prefix, f"{file.name} shows no success"


def test_the_runner_sees_a_wrong_line_a_wrong_code_and_a_left_over(session: Session) -> None:
    one, two = parse("# prose\n\n$ echo a  b 1\na   b <any>\n\n$ false\n[exit 1]\n")
    assert (one.output, one.code, two.output, two.code) == (["a   b <any>"], 0, [], 1)
    assert matches(one.output, ["a  b 1"], session.folder)
    assert not matches(one.output, ["a b 1"], session.folder)
    assert not matches(one.output, ["a  b 1", "more"], session.folder)
    assert session.play(two) == (1, [])
    with pytest.raises(AssertionError, match="left something behind"):
        session.play(Step(1, "touch x; (exit 2)", shown=True))
    with pytest.raises(ValueError, match="line 1"):
        parse("printed by nobody\n")
