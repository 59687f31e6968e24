"""Runs `bento` and `bento-agent` without waiting for Python and its libraries to be loaded each time.

One process per test worker has imported all of both programs and waits. For each command it forks: the child takes the
command's mounts, folder, environment, arguments and streams, and then runs the program's own `main`. A shell gets
programs on its PATH that ask for the same. What a test must see of a real start (a command line in /proc, modules that
load late, strace, a signal) it starts by itself.
"""

import atexit
import ctypes
import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

PROGRAMS = Path(sys.executable).parent  # where the tests' bento and bento-agent lie
MAINS = {"bento": "bento.cli.main", "bento-agent": "bento.cli.agent"}
_MOST = 5  # descriptors of a command: three streams, two namespaces

# What a shell starts in place of a program: it hands on all that it gets, signals too, and ends as the program does.
_STAND_IN = """\
#!{python} -IS
import json, os, signal, socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.connect({place!r})
spaces = [os.open("/proc/self/ns/" + one, os.O_RDONLY) for one in ("mnt", "net")]
mask = os.umask(0)
given = {{"argv": [{program!r}, *sys.argv[1:]], "env": dict(os.environ), "cwd": os.getcwd(), "umask": mask}}
request = json.dumps(given).encode()
socket.send_fds(channel, [b"!"], [0, 1, 2, *spaces])
channel.sendall(len(request).to_bytes(4, "big") + request)
with channel.makefile("rb") as answer:
    pid = int.from_bytes(answer.read(4), "big")
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(one, lambda number, _: os.kill(pid, number))
    code = int.from_bytes(answer.read(4), "big", signed=True)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def can(argv: Sequence[str | Path], env: Mapping[str, str] | None) -> bool:
    """Whether `run` would do the same: it is one of the two programs, and Python is to find what it always finds."""
    return Path(argv[0]).parent == PROGRAMS and Path(argv[0]).name in MAINS and "PYTHONPATH" not in (env or {})


class Done(subprocess.CompletedProcess[bytes]):
    """A command that has ended; `cpu` are the seconds of work that it and its programs took, however busy the rest."""

    cpu: float


def run(
    argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path | str, stdin: bytes, timeout: float, space: int = -1
) -> Done:
    """As subprocess.run with captured output. `space`: the open descriptor of a mount namespace to run it in."""
    words = [str(word) for word in argv]
    request = json.dumps({"argv": words, "env": dict(env), "cwd": str(cwd)}).encode()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        descriptors = [given.fileno(), out.fileno(), err.fileno(), *([space] if space >= 0 else [])]
        code, cpu = _client.call(request, descriptors, timeout)
        done = Done(words, code, _all(out), _all(err))
        done.cpu = cpu / 1e6
        return done


def stand_ins(folder: Path) -> Path:
    """Make a folder with `bento` and `bento-agent` for a shell's PATH, quick to start; the folder."""
    folder.mkdir(exist_ok=True)
    for name in MAINS:
        place, program = _client.reached(), str(PROGRAMS / name)
        (folder / name).write_text(_STAND_IN.format(python=sys.executable, place=place, program=program))
        (folder / name).chmod(0o755)
    return folder


class _Client:
    """The tests' side. Each command has a connection of its own, so that several may be under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._place = ""
        self._owner = 0
        self._alive = -1  # the zygote ends when nobody has this open any more

    def call(self, request: bytes, descriptors: list[int], timeout: float) -> tuple[int, int]:
        """Exit code as Popen gives it, microseconds of work. Raises subprocess.TimeoutExpired, once it is killed."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(self.reached())
            socket.send_fds(channel, [b"!"], descriptors)
            channel.sendall(len(request).to_bytes(4, "big") + request)
            pid = _number(channel)
            channel.settimeout(timeout)
            try:
                return _number(channel), _number(channel)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                channel.settimeout(None)
                _number(channel)
                raise subprocess.TimeoutExpired("bento", timeout) from None

    def reached(self) -> str:
        """Where it listens; it is started first where it isn't there."""
        with self._lock:
            if self._owner != os.getpid():  # a forked test must not share its parent's
                self._place = str(Path(tempfile.mkdtemp(prefix="zygote-")) / "socket")
                env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parents[1])}
                watched, self._alive = os.pipe()
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(self._place)
                    listener.listen(64)
                    argv = [sys.executable, "-m", "rig.zygote", str(watched)]
                    subprocess.Popen(argv, stdin=listener, env=env, cwd="/", pass_fds=[watched])
                os.close(watched)
                self._owner = os.getpid()
            return self._place


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


def _serve(listener: socket.socket, watched: int) -> None:
    """Fork for each request until the tests have ended."""
    while True:
        ready, _, _ = select.select([listener.fileno(), watched], [], [])
        if watched in ready:
            shutil.rmtree(Path(listener.getsockname()).parent)
            return
        channel, _ = listener.accept()
        with channel:
            if os.fork() == 0:
                listener.close()
                os.close(watched)
                _attend(channel)


def _attend(channel: socket.socket) -> None:
    """In a child: fork the command, tell its pid and then how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, _, _ = socket.recv_fds(channel, 1, _MOST)
    request = json.loads(_exactly(channel, _number(channel)))
    pid = os.fork()
    if pid == 0:
        channel.close()
        _become(request, descriptors)
        return
    for descriptor in descriptors:  # a reader of the command's output sees its end when the command ends
        os.close(descriptor)
    with suppress(BrokenPipeError):  # nobody waits any more
        channel.sendall(pid.to_bytes(4, "big"))
        _, status, used = os.wait4(pid, 0)
        code, cpu = os.waitstatus_to_exitcode(status), int((used.ru_utime + used.ru_stime) * 1e6)
        channel.sendall(b"".join(number.to_bytes(4, "big", signed=True) for number in (code, cpu)))
    os._exit(0)


def _become(request: Any, descriptors: list[int]) -> None:
    """In the command's process: take all that is its own, and run it."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    libc = ctypes.CDLL(None, use_errno=True)
    for space in descriptors[3:]:
        if libc.setns(space, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    for descriptor in descriptors:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    if "umask" in request:
        os.umask(request["umask"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    code: Any = 0
    try:
        import_module(MAINS[Path(sys.argv[0]).name]).main()
    except SystemExit as error:
        code = error.code
    # What Python does at its end, but for tidying up its memory: that would first copy all of it, shared as it is.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120
    os._exit(code or 0)


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
    _serve(socket.socket(fileno=os.dup(0)), int(sys.argv[1]))
