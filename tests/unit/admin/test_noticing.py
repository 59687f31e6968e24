"""Where releases go decides how changes are noticed: folders are watched, servers are asked again."""

from pathlib import Path

from bento.admin.inventory import load_fleet
from bento.admin.watching import _noticing
from bento.names import HostName

WEB, DB = HostName("web"), HostName("db")
LONG, SHORT = 20.0, 0.05


def test_a_folder_is_watched_for_each_host(fleet_root: Path) -> None:
    fleet = load_fleet(fleet_root)
    reports = fleet_root.parent / "publish/db/reports"
    reports.mkdir(parents=True)
    with _noticing(fleet, (WEB, DB)) as wait:
        assert wait(SHORT) == frozenset()
        (reports / "heartbeat").write_text("x")
        assert wait(LONG) == {"db"}


def test_with_a_server_among_the_targets_everything_is_looked_at_again(fleet_root: Path) -> None:
    file = fleet_root / "bento.toml"
    folder = fleet_root.parent / "publish"
    folder.mkdir()
    for to in ('"sftp://bento@server/x"', f'["{folder}", "sftp://bento@server/x"]'):
        text = file.read_text().splitlines()
        file.write_text("\n".join(f"to = {to}" if line.startswith("to = ") else line for line in text))
        with _noticing(load_fleet(fleet_root), (WEB, DB)) as wait:
            assert wait(SHORT) == {"web", "db"}
