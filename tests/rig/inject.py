"""Runs a piece of work in a forked child under strace, and has one of its system calls fail or be its last.

Only the child's own calls are traced, not those of the programs it starts.
"""

import os
import re
import signal
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bento.errors import BentoError

CHANGES = (
    *("write", "fsync", "fdatasync", "ftruncate", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink"),
    *("unlinkat", "rmdir", "symlink", "symlinkat", "link", "linkat", "chmod", "fchmod", "fchmodat", "chown", "fchown"),
    *("lchown", "fchownat", "utimensat", "copy_file_range", "sendfile"),
)
_STARTS = ("vfork", "wait4")
_TRACED = ",".join(("access", "openat", *CHANGES, *_STARTS))
_STATE = "/@state/"
_CALL = re.compile(r"(?P<name>[a-z0-9_]+)\((?P<rest>.*)")
_PATH = re.compile(r'"(?P<quoted>[^"]*)"|<(?P<descriptor>/[^>]*)>')
ENDED, FAILED, CRASHED = 0, 10, 99  # exits of the child


def state(name: str) -> None:
    """Write into the trace that what follows belongs to this state."""
    os.access(_STATE + name, os.F_OK)


@dataclass(frozen=True)
class Call:
    """One system call: the `number`th of its name in its process. `path` is below the traced folder, numbers as N."""

    state: str
    name: str
    path: str
    number: int

    @property
    def counted(self) -> bool:
        """Whether its number is the same in every run: how often a program's end is looked for isn't."""
        return self.name != "wait4"

    @property
    def changes(self) -> bool:
        """Whether a disk can refuse it."""
        return self.name not in _STARTS


@dataclass(frozen=True)
class Traced:
    """A run under strace. `code` is the exit of the child, -9 for one that was killed; `hit` the call of the fault."""

    code: int
    calls: tuple[Call, ...]
    hit: Call | None
    said: str


def traced(
    work: Callable[[], object], folder: Path, fault: tuple[Call, str] | None = None, *, reads: bool = False
) -> Traced:
    """Run `work`; with a fault ("KILL" or an errno's name) at that call. `folder` holds all that matters.

    `reads`: its calls are those that open files and folders to read them, in place of those that change something.
    """
    output, words = folder / "trace", folder / "said"
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(go)
        os.read(ready, 1)
        os._exit(_work(work, words))
    os.close(ready)
    argv = ["strace", "-y", "-s", "200", "-o", str(output), "-p", str(child), "-e", f"trace={_TRACED}"]
    if fault is not None:
        how = "signal=KILL" if fault[1] == "KILL" else f"error={fault[1]}"
        argv += ["-e", f"inject={fault[0].name}:{how}:when={fault[0].number}"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as strace:
        assert strace.stderr is not None
        line = strace.stderr.readline()
        os.write(go, b".")
        os.close(go)
        _, status = os.waitpid(child, 0)
        strace.communicate()
    assert b"attached" in line, line
    _wait_for_session(child)
    calls, hit = _read(output, folder, _opens if reads else _matters)
    said = words.read_text() if words.exists() else ""
    words.unlink(missing_ok=True)
    return Traced(os.waitstatus_to_exitcode(status), calls, hit, said)


def _work(work: Callable[[], object], words: Path) -> int:
    try:
        work()
    except BentoError as error:
        words.write_text(error.message)
        return FAILED
    except BaseException:  # noqa: BLE001 — this is what the parent must hear of
        words.write_text(traceback.format_exc())
        return CRASHED
    return ENDED


def _wait_for_session(session: int) -> None:
    """What the child had started goes on without it, as a switch does in a unit of its own."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if session not in {_session(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()}:
            return
        time.sleep(0.005)
    raise RuntimeError(f"what {session} had started doesn't end")


def _session(pid: str) -> int:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[3])
    return -1


def _read(output: Path, folder: Path, wanted: Callable[[Call, str], bool]) -> tuple[tuple[Call, ...], Call | None]:
    """The calls that concern the folder, in order, and the one that the fault was put into."""
    now, calls, hit = "start", [], None
    numbers: Counter[str] = Counter()
    last = None
    for line in output.read_text("utf-8", "replace").splitlines():
        if line.startswith("+++ killed by SIGKILL"):
            hit = last
        found = _CALL.match(line)
        if found is None:
            continue
        name, rest = found["name"], found["rest"]
        if name == "access":
            if _STATE in rest:
                now = rest.partition(_STATE)[2].partition('"')[0]
            continue
        numbers[name] += 1
        last = Call(now, name, _path(name, rest, folder), numbers[name])
        if "(INJECTED)" in rest:
            hit = last
        if wanted(last, rest):
            calls.append(last)
    return tuple(calls), hit


def _matters(call: Call, rest: str) -> bool:
    if call.name in _STARTS:
        return "ECHILD" not in rest
    if not call.path:
        return False
    return call.name != "openat" or any(flag in rest for flag in ("O_CREAT", "O_WRONLY", "O_RDWR"))


def _opens(call: Call, rest: str) -> bool:
    return call.name == "openat" and bool(call.path) and "O_RDONLY" in rest and "ENOENT" not in rest


def _path(name: str, rest: str, folder: Path) -> str:
    """Where the call is about, below `folder`; empty for elsewhere."""
    words = [found["quoted"] or found["descriptor"] for found in _PATH.finditer(rest)]
    where = words[0] if words else ""
    if name.endswith(("at", "at2")) and len(words) > 1:
        where = str(Path(words[0]) / words[1])
    inside = where.removeprefix(f"{folder}/")
    if inside == where:
        return ""
    return re.sub(r"\.fetch-\w+|[0-9a-f]{16,}|[0-9]{5,}", "N", inside)


def killed(done: Traced) -> bool:
    """Whether the child died of the fault."""
    return done.code == -signal.SIGKILL and done.hit is not None
