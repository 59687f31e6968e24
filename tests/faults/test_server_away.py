"""The server goes in the middle of a run: one release stays in force, and the report arrives when it is there again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bento.adapters.sftp import ServerAway
from bento.agent import fetch, link, reporting, run, take
from bento.errors import BentoError
from rig.faulty import FaultyHost, FolderSession, breakable
from rig.whole import check_after, check_at_once

pytestmark = [pytest.mark.root, pytest.mark.programs("ssh-keygen")]


class Away:
    """Lets the server go when a step begins, for good until `back`."""

    def __init__(self, host: FaultyHost, patch: pytest.MonkeyPatch) -> None:
        self.away = False
        self._patch = patch

        @contextmanager
        def connected(_host: object, _within: float | None = None) -> Iterator[FolderSession]:
            if self.away:
                raise ServerAway("the server is away")
            yield FolderSession(host.server.publish / host.name)

        patch.setattr(link, "connected", connected)

    def when(self, module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            self.away = True
            if name == "_fetch_one":
                raise ServerAway("the link broke")
            return real(*args, **kwargs)

        self._patch.setattr(module, name, step)


@pytest.mark.parametrize(
    ("module", "name", "end"),
    [
        (fetch, "_fetch_one", "old"),
        (take, "_system", "old"),
        (take, "reachable_within", "old"),
        (take, "roll_back", "old"),
        (run, "deliver", "new"),
    ],
)
def test_a_server_that_goes_in_mid_run_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, end: str
) -> None:
    host = FaultyHost(tmp_path)
    with breakable(host, monkeypatch):
        monkeypatch.setattr(take, "PROBE_AGAIN", 0.1)
        monkeypatch.setattr(reporting.spool, "pause", lambda _number, _share: None)
        host.rewind()
        if name == "roll_back":
            host.fault("new", "test", "exit 2", when="after")
        with monkeypatch.context() as patch:
            away = Away(host, patch)
            away.when(module, name)
            for _ in range(3):  # the first, and two that find no server
                try:
                    run.run(host.made)
                except BentoError as error:
                    assert "server" in error.message or "link" in error.message  # noqa: PT017 — some runs end without
            assert away.away
            assert host.reports() == []
            check_at_once(host)
            assert host.in_force() == host.all_of(end)
        check_after(host, "old" if name == "roll_back" else "new")
