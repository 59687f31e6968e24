"""Runs `bento` and `bento-agent` without waiting for Python and its libraries to be loaded each time.

One process per test worker has imported all of both programs and waits. For each command it forks: the child takes the
command's mounts, folder, environment, arguments and streams, and then runs the program's own `main`. What a test must
see of a real start (a command line in /proc, modules that load late, strace, a signal) it starts by itself.
"""

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

PROGRAMS = Path(sys.executable).parent  # where the tests' bento and bento-agent lie
MAINS = {"bento": "bento.cli.main", "bento-agent": "bento.cli.agent"}
_NEWNS = 0x00020000  # CLONE_NEWNS
_MOST = 4  # descriptors of a command: three streams, a namespace


def can(argv: Sequence[str | Path], env: Mapping[str, str] | None) -> bool:
    """Whether `run` would do the same: it is one of the two programs, and Python is to find what it always finds."""
    return Path(argv[0]).parent == PROGRAMS and Path(argv[0]).name in MAINS and "PYTHONPATH" not in (env or {})


def run(
    argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path | str, stdin: bytes, timeout: float, space: int = -1
) -> subprocess.CompletedProcess[bytes]:
    """As subprocess.run with captured output. `space`: the open descriptor of a mount namespace to run it in."""
    words = [str(word) for word in argv]
    request = json.dumps({"argv": words, "env": dict(env), "cwd": str(cwd)}).encode()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        descriptors = [given.fileno(), out.fileno(), err.fileno(), *([space] if space >= 0 else [])]
        code = _client.call(request, descriptors, timeout)
        return subprocess.CompletedProcess(words, code, _all(out), _all(err))


class _Client:
    """The tests' side. Each command has a connection of its own, so that several may be under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: socket.socket | None = None
        self._owner = 0

    def call(self, request: bytes, descriptors: list[int], timeout: float) -> int:
        """The command's exit code as Popen gives it. Raises subprocess.TimeoutExpired, once it is killed."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                socket.send_fds(self._reached(), [b"!"], [theirs.fileno(), *descriptors])
            ours.sendall(len(request).to_bytes(4, "big") + request)
            pid = _number(ours)
            ours.settimeout(timeout)
            try:
                return _number(ours)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                ours.settimeout(None)
                _number(ours)
                raise subprocess.TimeoutExpired("bento", timeout) from None

    def _reached(self) -> socket.socket:
        if self._server is None or self._owner != os.getpid():  # a forked test must not share its parent's
            ours, theirs = socket.socketpair()
            env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parents[1])}
            subprocess.Popen([sys.executable, "-m", "rig.zygote"], stdin=theirs, env=env, cwd="/")
            theirs.close()
            self._server, self._owner = ours, os.getpid()
        return self._server


_client = _Client()


def _all(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _number(channel: socket.socket) -> int:
    return int.from_bytes(_exactly(channel, 4), "big", signed=True)


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = channel.recv(size - len(data))
        if not more:
            raise RuntimeError("the process that commands are forked from has ended")
        data += more
    return data


def _serve(server: socket.socket) -> None:
    """Fork for each request until the tests have ended."""
    while True:
        mark, descriptors, _, _ = socket.recv_fds(server, 1, _MOST + 1)
        if not mark:
            return
        if os.fork() == 0:
            server.close()
            _attend(socket.socket(fileno=descriptors[0]), descriptors[1:])
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(channel: socket.socket, descriptors: list[int]) -> None:
    """In a child: fork the command, tell its pid and then how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(_exactly(channel, _number(channel)))
    pid = os.fork()
    if pid == 0:
        channel.close()
        _become(request, descriptors)
        return
    channel.sendall(pid.to_bytes(4, "big"))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    channel.sendall(code.to_bytes(4, "big", signed=True))
    os._exit(0)


def _become(request: Any, descriptors: list[int]) -> None:
    """In the command's process: take all that is its own, and run it."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    libc = ctypes.CDLL(None, use_errno=True)
    for space in descriptors[3:]:
        if libc.setns(space, _NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    for descriptor in descriptors:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    import_module(MAINS[Path(sys.argv[0]).name]).main()


def _load() -> None:
    import click

    from bento.cli.main import bento

    for module in (*MAINS.values(), "bento.adapters.sftp_target", "bento.adapters.server_keys", "bento.agent.run"):
        import_module(module)
    context = click.Context(bento)
    for name in bento.list_commands(context):
        bento.get_command(context, name)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that attend to a command are nobody's to wait for
    _load()
    gc.freeze()
    _serve(socket.socket(fileno=os.dup(0)))
