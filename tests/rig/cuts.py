"""Cuts a program short at any of its changing system calls: by SIGKILL in a child, or by what you name."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

EVERY = "BENTO_CUTS" in os.environ  # `make cuts`
STEPS = ("mkdir", "open", "write", "fchmod", "fsync", "rename", "unlink", "rmdir")


def stride(step: int) -> int:
    """From one step that is cut to the next: every step with BENTO_CUTS, else every `step`th, for the suite's sake."""
    return 1 if EVERY else step


@contextmanager
def at_step(number: int, action: Callable[[], None], log: list[str] | None = None) -> Iterator[None]:
    """Before the `number`th changing system call, and each one after it, do `action`.

    Calls of threads that ran before, left over from other tests, are none of the work's.
    """
    count = 0
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
    real = {name: getattr(os, name) for name in STEPS}

    def wrap(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if threading.get_ident() in others:
                return real[name](*args, **kwargs)
            count += 1
            if log is not None:
                log.append(name)
            if count >= number:
                if name == "write":
                    real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                action()
            return real[name](*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, wrap(name))
        yield


def kill_at(number: int, work: Callable[[], object]) -> bool:
    """Run `work` in a forked child that is SIGKILLed at its `number`th changing system call; whether it was."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException), at_step(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            work()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)
