"""What `bento deploy` says at the end."""

import pytest
from unit.samples import WEB

from bento.admin.deploy import Deployed
from bento.admin.publish import Published
from bento.admin.waves import Canary, Waved
from bento.cli.deploy import _show_waves
from bento.errors import WorkFailed
from bento.names import HostName, Serial


def test_a_bad_canary_is_named_also_when_no_other_host_is_left_to_wait_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = Deployed(
        {WEB: Published(Serial(1), None, ("configuration",))}, {HostName("db"): WorkFailed("no room")}, 1, ()
    )
    waved = Waved(done, {WEB: Canary("bad", "rolled back: it is broken")}, (), True)
    assert _show_waves(waved, 2, as_json=False) == 3
    said = capsys.readouterr().err
    assert "error: db: no room" in said
    assert f"error: {WEB}: rolled back: it is broken" in said
