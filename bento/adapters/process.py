"""The one place that starts programs: an argv list, never a shell; secrets never go through argv or environment."""

import ctypes
import os
import queue
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal

from bento.errors import EnvironmentFailed
from bento.names import visible

# Where each program comes from, for the hint when it is missing.
_PACKAGES = {
    "git": "git (Debian: apt install git)",
    "nix": "nix (Debian: apt install nix-bin)",
    "nix-build": "nix (Debian: apt install nix-bin)",
    "nix-env": "nix (Debian: apt install nix-bin)",
    "nix-instantiate": "nix (Debian: apt install nix-bin)",
    "nix-store": "nix (Debian: apt install nix-bin)",
    "sops": "sops (nix-shell -p sops, or https://getsops.io)",
    "nix-copy-closure": "nix (Debian: apt install nix-bin)",
    "ssh": "OpenSSH (Debian: apt install openssh-client)",
    "ssh-keygen": "OpenSSH (Debian: apt install openssh-client)",
}


@dataclass(frozen=True)
class Done:
    """A program that has ended. `code` is negative for a signal, as subprocess has it.

    `peak`: the most memory in bytes that it had at a time, where that was looked at. It is never less than what this
    process had when it started the program.
    """

    code: int
    out: bytes
    err: bytes
    peak: int = 0

    def words(self, limit: int = 300) -> str:
        """The end of what it said, on one line, for an error message."""
        text = " ".join((self.err or self.out).decode("utf-8", "replace").split())
        clean = visible(text)
        return clean if len(clean) <= limit else "…" + clean[-limit:]


_PR_SET_DUMPABLE = 4


def leave_no_core() -> None:
    """Have the kernel write no image of this process when it dies, whoever started it: it may hold secrets.

    The limit is for programs that collect images and look at it; they are started all the same.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def missing_program(name: str) -> EnvironmentFailed:
    """The error for a program that isn't installed."""
    return EnvironmentFailed(f"the program {name} is not installed", f"install {_PACKAGES.get(name, name)}")


def _not_started(name: str, error: OSError) -> EnvironmentFailed:
    if shutil.which(name) is None and "/" not in name:
        return missing_program(name)
    if isinstance(error, FileNotFoundError):
        return missing_program(name)
    return EnvironmentFailed(f"can't run {name}: {error.strerror}", f"try it by hand: {name} --version")


def require(name: str) -> None:
    """Raise EnvironmentFailed where a program isn't installed, before work is begun that would need it at the end."""
    if shutil.which(name) is None:
        raise missing_program(name)


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Done:
    """Run a program to its end and keep what it says. Raises EnvironmentFailed where it can't be started or hangs.

    `env` replaces the environment; `timeout` is in seconds.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin if stdin is not None else None,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=env,
            timeout=timeout,
            pass_fds=pass_fds,
            check=False,
        )
    except OSError as error:
        raise _not_started(argv[0], error) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(
            f"{argv[0]} didn't end within {timeout:.0f} seconds",
            f"see whether it answers: {argv[0]} --version",
        ) from None
    return Done(done.returncode, done.stdout, done.stderr)


def probe(argv: Sequence[str], timeout: float) -> int | None:
    """A program's exit code, its output thrown away; None if it hangs. It and what it started end after `timeout` s.

    Raises EnvironmentFailed where it can't be started.
    """
    quiet = subprocess.DEVNULL
    try:
        # A session of its own, so that nothing of it can be left behind.
        process = subprocess.Popen(list(argv), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError as error:
        raise _not_started(argv[0], error) from None
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


_LAST_WORDS = 2048  # bytes kept of what a program beside this one says to stderr
_GRACE = 0.2  # seconds for the last of it, when the program has ended


class Beside:
    """A program that runs beside this one, with a socket for its stdin and stdout: `connection` is the other end.

    It has a session of its own, and so no terminal; `end` kills it with what it has started. Raises EnvironmentFailed
    where it can't be started.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.connection, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self.connection.close()
            raise _not_started(argv[0], error) from None
        finally:
            theirs.close()
        self._err = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stderr is None:
            raise AssertionError("a pipe was asked for")
        with self._process.stderr as pipe:
            while chunk := pipe.read1(4096):  # type: ignore[attr-defined] # it is a BufferedReader
                self._err = (self._err + chunk)[-_LAST_WORDS:]

    def so_far(self, seconds: float) -> Done | None:
        """How it ended, if it does within that time; what it said to stderr is in `err`."""
        deadline = time.monotonic() + seconds
        with suppress(ChildProcessError):  # another thread has ended it
            # It is left for `end` to reap: until then nobody else can have the number of its process group.
            while (found := os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.01)
            self._reader.join(_GRACE)
            code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            return Done(code, b"", self._err)
        return None

    def end(self) -> None:
        """Kill it, and all of its process group. Again does nothing."""
        self.connection.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._reader.join(_GRACE)


_long_running: set[subprocess.Popen[bytes]] = set()


def stop_children() -> None:
    """End what `run_keeping_tail` has under way in other threads: the person wants to stop."""
    for process in tuple(_long_running):
        process.terminate()


def run_keeping_tail(
    argv: Sequence[str], *, tail: int, on_line: Callable[[str], None] | None = None, apart: bool = False
) -> Done:
    """Run a program that may say a lot; keep the last `tail` bytes of stdout and stderr together, in `err`.

    `on_line` gets each line as it comes, without its end; it is as the program wrote it, control characters and all.
    With `apart` stdout is neither cut nor handed on: it is kept whole, in `out`.
    """
    lines = _Lines(on_line) if on_line is not None else None
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
        )
    except OSError as error:
        raise _not_started(argv[0], error) from None
    kept: deque[bytes] = deque()
    size = 0
    _long_running.add(process)
    with process:
        out = _Whole(process.stdout) if apart else None
        said = process.stderr if apart else process.stdout
        if said is None:
            raise AssertionError("a pipe was asked for")
        while chunk := said.read1(65536):  # type: ignore[attr-defined] # it is a BufferedReader
            if lines is not None:
                lines.feed(chunk)
            kept.append(chunk)
            size += len(chunk)
            while size - len(kept[0]) >= tail:
                size -= len(kept.popleft())
        whole = out.wait() if out is not None else b""
        _long_running.discard(process)  # before it is reaped: then its number may become another's
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if lines is not None:
        lines.end()
    return Done(process.returncode, whole, b"".join(kept)[-tail:], usage.ru_maxrss * 1024)


class _Whole(threading.Thread):
    """Reads a pipe to its end while another is read."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._read = b""
        self.start()

    def run(self) -> None:
        if self._pipe is not None:
            self._read = self._pipe.read()

    def wait(self) -> bytes:
        """All of it."""
        self.join()
        return self._read


class _Lines:
    """Cuts what a program says into lines; one that never ends is cut too."""

    LONGEST = 4096  # bytes

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """More of it."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > self.LONGEST:
            whole.append(self._rest)
            self._rest = b""
        for line in whole:
            self._on_line(line.decode("utf-8", "replace"))

    def end(self) -> None:
        """What was said last without a line's end."""
        if self._rest:
            self._on_line(self._rest.decode("utf-8", "replace"))


Stream = Literal["out", "err"]
_Said = queue.Queue[tuple[Stream, str] | None]  # None: one of the two streams has ended
_WAITING_LINES = 1000  # that a program may be ahead of who reads them


def converse(argv: Sequence[str], feed: Iterable[bytes], on_line: Callable[[Stream, str], None]) -> int:
    """Run a program, hand it `feed` as its stdin, and each line that it says to `on_line` as it comes.

    Returns its exit code, negative for a signal. Lines come without their end, as the program wrote them: control
    characters and all. It may stop reading before all is fed. Raises EnvironmentFailed where it can't be started, and
    what `feed` raises; the program is ended then.
    """
    try:
        process = subprocess.Popen(list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise _not_started(argv[0], error) from None
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise AssertionError("pipes were asked for")
    said: _Said = queue.Queue(_WAITING_LINES)
    failed: list[BaseException] = []
    writer = threading.Thread(target=_write, args=(process, process.stdin, feed, failed), daemon=True)
    readers = [
        threading.Thread(target=_read, args=args, daemon=True)
        for args in (("out", process.stdout, said), ("err", process.stderr, said))
    ]
    for thread in (writer, *readers):
        thread.start()
    try:
        ended = 0
        while ended < len(readers):
            got = said.get()
            if got is None:
                ended += 1
            else:
                on_line(*got)
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    writer.join()
    if failed:
        raise failed[0]
    return code


def _write(
    process: subprocess.Popen[bytes], stdin: IO[bytes], feed: Iterable[bytes], failed: list[BaseException]
) -> None:
    try:
        with stdin:
            for chunk in feed:
                stdin.write(chunk)
                stdin.flush()
    except BrokenPipeError:
        pass  # it has heard enough
    except BaseException as error:  # noqa: BLE001 — raised again in the caller's thread
        failed.append(error)
        process.terminate()


def _read(stream: Stream, pipe: IO[bytes], said: _Said) -> None:
    lines = _Lines(lambda line: said.put((stream, line)))
    while chunk := pipe.read1(65536):  # type: ignore[attr-defined] # it is a BufferedReader
        lines.feed(chunk)
    lines.end()
    said.put(None)


def attend(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a program that a person works with, on this terminal; its exit code, negative for a signal.

    Ctrl-C is the program's. It is ended if this process is. Raises EnvironmentFailed where it can't be started.
    """
    # Before the child is there, and not SIG_IGN, which it would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return _attended(argv, env)
    finally:
        signal.signal(signal.SIGINT, before)


def _attended(argv: Sequence[str], env: Mapping[str, str]) -> int:
    try:
        child = subprocess.Popen(list(argv), env=dict(env))
    except FileNotFoundError:
        raise missing_program(argv[0]) from None
    except OSError as error:
        raise EnvironmentFailed(
            f"can't run {argv[0]}: {error.strerror}", f"see whether it is there: command -v {argv[0]}"
        ) from None
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise
