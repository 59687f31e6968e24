"""Units are restarted and reloaded exactly as asked; what couldn't be done is said, never raised."""

from pathlib import Path

import pytest

from bento.adapters.systemd import Systemd, Units


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    path = tmp_path / "systemctl"
    path.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >>{tmp_path}/log\necho >>{tmp_path}/log\n')
    path.chmod(0o755)
    return path


def test_each_verb_gets_exactly_its_units(recorder: Path) -> None:
    units = Units(("a.service", "b@x y.service"), ("c.service",))
    assert Systemd([str(recorder), "--user"]).refresh(units) == ()
    assert (recorder.parent / "log").read_text().splitlines() == [
        "--user|try-restart|--|a.service|b@x y.service|",
        "--user|try-reload-or-restart|--|c.service|",
    ]


def test_without_units_nothing_is_called(recorder: Path) -> None:
    assert Systemd([str(recorder)]).refresh(Units()) == ()
    assert not (recorder.parent / "log").exists()


def test_a_missing_systemctl_is_said_with_the_units(tmp_path: Path) -> None:
    said = Systemd([str(tmp_path / "gone")]).refresh(Units(("a.service",), ("c.service",)))
    assert len(said) == 2
    assert all("not restarted" in sentence and "not installed" in sentence for sentence in said)
    assert "a.service" in said[0]
    assert "c.service" in said[1]


def test_a_failing_systemctl_is_said_with_its_words_and_the_rest_goes_on(recorder: Path) -> None:
    recorder.write_text(recorder.read_text() + 'echo "Unit a.service not found." >&2\n[ "$1" != try-restart ]\n')
    said = Systemd([str(recorder)]).refresh(Units(("a.service",), ("c.service",)))
    assert said == ("not restarted: a.service (Unit a.service not found.)",)
    assert len((recorder.parent / "log").read_text().splitlines()) == 2
