"""A login that goes on while something else is done: it is mostly waiting for the server."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager

from bento.adapters.wire import Wire

LogIn = Callable[[Callable[[Wire], None]], AbstractContextManager[Wire]]  # given what to send first


class Login:
    """Begins at once. Whoever `log_in` logs in, and whatever it raises, is for the first who asks."""

    def __init__(self, log_in: LogIn) -> None:
        self._log_in = log_in
        self._lock = threading.Lock()
        self._wanted = True
        self._first: Callable[[Wire], None] | None = None
        self._begun = False  # what goes first went, or could have
        self._open = ExitStack()
        self._come: Future[Wire] = Future()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with ExitStack() as stack:
            try:
                wire = stack.enter_context(self._log_in(self._begin))
            except BaseException as error:  # noqa: BLE001 — it is raised where it is waited for
                self._come.set_exception(error)
                return
            with self._lock:
                if self._wanted:
                    self._open = stack.pop_all()
                    self._come.set_result(wire)

    def _begin(self, wire: Wire) -> None:
        with self._lock:
            self._begun, first = True, self._first
        if first is not None:
            first(wire)

    @contextmanager
    def taken(self, first: Callable[[Wire], None]) -> Iterator[Wire]:
        """The session, until the block ends, after `first` has sent its requests. Raises what `log_in` raised.

        They go with the login's last where that is still to come: a round trip less.
        """
        with self._lock:
            late = self._begun
            self._first = first
        wire = self._come.result()
        with self._open.pop_all():
            if late:
                first(wire)
            yield wire

    def leave(self) -> None:
        """End it, unless it was taken. One that is still under way ends by itself."""
        with self._lock:
            self._wanted, self._first = False, None
        self._open.close()
