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
        self._open = ExitStack()
        self._come: Future[Wire] = Future()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with ExitStack() as stack:
            try:
                wire = stack.enter_context(self._log_in(lambda _: None))
            except BaseException as error:  # noqa: BLE001 — it is raised where it is waited for
                self._come.set_exception(error)
                return
            with self._lock:
                if self._wanted:
                    self._open = stack.pop_all()
                    self._come.set_result(wire)

    @contextmanager
    def taken(self, first: Callable[[Wire], None]) -> Iterator[Wire]:
        """The session, until the block ends, after `first` has sent its requests. Raises what `log_in` raised."""
        wire = self._come.result()
        with self._open.pop_all():
            first(wire)
            yield wire

    def leave(self) -> None:
        """End it, unless it was taken. One that is still under way ends by itself."""
        with self._lock:
            self._wanted = False
        self._open.close()
