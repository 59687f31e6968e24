"""Runs `bento` and `bento-agent` without waiting for Python and its libraries to be loaded each time.

One process per test worker has imported all of both programs and waits. For each command it forks: the child takes the
command's mounts, folder, environment, arguments and streams, and then runs the program's own `main`. What a test must
see of a real start (a command line in /proc, modules that load late, strace) it starts by itself.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

PROGRAMS = Path(sys.executable).parent  # where the tests' bento and bento-agent lie
_MAINS = {"bento": "bento.cli.main", "bento-agent": "bento.cli.agent"}
_LARGEST = 1024 * 1024  # bytes of a request
_NEWNS = 0x00020000  # CLONE_NEWNS


class _Zygote:
    """The client's side: one command at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def call(self, request: bytes, descriptors: list[int], timeout: float) -> int | None:
        """The command's exit code as Popen gives it; None where another one is under way. Raises TimeoutExpired."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._process is None or self._owner != os.getpid():  # a forked test must not share its parent's
                self._start()
            self._channel.sendall(len(request).to_bytes(4, "big"))
            socket.send_fds(self._channel, [b"!"], descriptors)
            self._channel.sendall(request)
            pid = int.from_bytes(_exactly(self._channel, 4), "big")
            self._channel.settimeout(timeout)
            try:
                return int.from_bytes(_exactly(self._channel, 4), "big", signed=True)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._channel.settimeout(None)
                _exactly(self._channel, 4)
                raise subprocess.TimeoutExpired("bento", timeout) from None
            finally:
                self._channel.settimeout(None)
        finally:
            self._lock.release()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "rig.zygote"]
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(argv, stdin=theirs, env=env)
        theirs.close()
        self._channel, self._owner = ours, os.getpid()


_zygote = _Zygote()


def run(
    argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path | str, stdin: bytes, timeout: float, space: int = -1
) -> subprocess.CompletedProcess[bytes]:
    """As subprocess.run with captured output. `space` is a mount namespace to run it in, by its open descriptor."""
    program = Path(argv[0]).name
    request = json.dumps([program, [str(word) for word in argv], dict(env), str(cwd), space >= 0]).encode()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        streams = [given.fileno(), out.fileno(), err.fileno()]
        code = _zygote.call(request, [*streams, *([space] if space >= 0 else [])], timeout)
        if code is None:
            return _afresh(argv, env, cwd, stdin, timeout, space)
        return subprocess.CompletedProcess(argv, code, _read(out), _read(err))
