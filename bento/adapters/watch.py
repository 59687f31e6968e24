"""Notice what changes in folders: by inotify where there is one, else by looking again after a while."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Wait = Callable[[float], frozenset[str]]  # seconds at most → the words whose folders changed meanwhile

_SETTLE = 0.3  # seconds: a report comes as several events, a deploy as many


@contextmanager
def polling(words: Iterable[str]) -> Iterator[Wait]:
    """The same without watching: after the time is up every word may have changed."""
    every = frozenset(words)
    yield lambda seconds: _sleep(seconds, every)


@contextmanager
def watching(folders: Mapping[str, tuple[Path, ...]]) -> Iterator[Wait]:
    """Watch each word's folders; one that isn't there yet is watched once it is. Without inotify this is `polling`."""
    try:
        watch = _Inotify(folders)
    except (ImportError, OSError):
        # Another system, or no watch left (fs.inotify.max_user_instances)
        with polling(folders) as wait:
            yield wait
        return
    try:
        yield watch.wait
    finally:
        watch.close()


def _sleep(seconds: float, every: frozenset[str]) -> frozenset[str]:
    time.sleep(seconds)
    return every


class _Inotify:
    """Folders are watched one by one, links not followed: a host makes what it likes below its own."""

    def __init__(self, folders: Mapping[str, tuple[Path, ...]]) -> None:
        if sys.platform != "linux":
            raise ImportError("inotify is Linux's")
        from inotify_simple import INotify, flags  # type: ignore[import-untyped] # it has no types

        self._inotify = INotify()
        self._mask = (
            flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE | flags.DELETE | flags.ATTRIB
            | flags.ONLYDIR | flags.DONT_FOLLOW
        )  # fmt: skip
        self._folders = folders
        self._words: dict[int, set[str]] = {}
        try:
            self._arm()
        except OSError:
            self.close()
            raise

    def _arm(self) -> None:
        """Watch what is there by now. A folder that is watched already keeps its watch."""
        for word, paths in self._folders.items():
            for path in paths:
                try:
                    number = self._inotify.add_watch(path, self._mask)
                except (FileNotFoundError, NotADirectoryError, PermissionError):
                    continue
                self._words.setdefault(number, set()).add(word)

    def wait(self, seconds: float) -> frozenset[str]:
        """The words whose folders changed; empty after `seconds` of silence."""
        events = self._inotify.read(timeout=int(seconds * 1000))
        if not events:
            return frozenset()
        time.sleep(_SETTLE)  # also the most that a host can make us look: it may write without end
        events += self._inotify.read(timeout=0)
        self._arm()
        return frozenset(word for event in events for word in self._words.get(event.wd, self._folders))

    def close(self) -> None:
        """Give the watches back."""
        self._inotify.close()
