"""Serials and counters decide, never times: a clock at 1970 or ten years ahead stops no update and hides no report."""

import json
import re
import time
from pathlib import Path

import pytest

from rig.clock import YEARS, in_1970, off_by
from rig.world import Machine, World, said


@pytest.fixture
def web(world: World) -> Machine:
    return world.add("web")


def publish(world: World, web: Machine, secret: bytes, env: dict[str, str] | None = None, code: int = 0) -> str:
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=secret)
    done = world.try_bento("deploy", env=env)
    assert done.returncode == code, said(done)
    return said(done)


def pull(web: Machine, env: dict[str, str] | None = None) -> None:
    done = web.agent("run", env=env)
    assert done.returncode == 0, said(done)


def shown(world: World, web: Machine, env: dict[str, str] | None = None) -> str:
    """The host's line of `bento status`."""
    done = world.try_bento("status", env=env)
    assert done.returncode == 0, said(done)
    return next(line for line in done.stdout.decode().splitlines() if line.startswith(web.name))


def remembered_times(web: Machine) -> set[str]:
    """The files of its state that hold a number which lies years ahead."""
    found = set()
    for path in web.state.glob("*.json"):
        numbers = [int(one) for one in re.findall(r"\b[0-9]{10}\b", path.read_text())]
        if any(one > time.time() + YEARS / 2 for one in numbers):
            found.add(path.name)
    return found


def test_a_host_with_a_wrong_clock_takes_every_release_and_its_newest_word_counts(
    world: World, web: Machine, tmp_path: Path
) -> None:
    """Right, ten years ahead, 1970, and right again: what was written under one clock doesn't stop the next."""
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"x")
    ahead, behind = off_by(tmp_path / "ahead", YEARS), in_1970(tmp_path / "behind")
    counters = []
    for name, env, word in (
        ("right", None, "s ago"),
        ("ahead", ahead, "clock ahead"),
        ("1970", behind, "clock behind"),
        ("right again", None, "s ago"),
    ):
        publish(world, web, name.encode())
        pull(web, env)
        assert web.secret("token") == name.encode()
        row = world.status(web)
        assert (row["state"], row["report"]["serial"]) == ("up to date", row["published"]["serial"]), name
        counters.append(row["report"]["counter"])
        assert word in shown(world, web), name
        if env is ahead:
            pull(web, env)  # a poll that finds nothing new
            assert remembered_times(web) == {"counter.json"}, "a time that was written down could be waited for"
    assert counters == sorted(set(counters))
    assert counters[1] > time.time() + YEARS - 600  # the control: that clock was wrong
    # and `bento logs` shows the runs in their order, whatever their times
    logged = json.loads(world.bento("logs", web.name, "--json"))
    assert [one["counter"] for one in logged] == counters


def test_an_admin_whose_clock_is_in_1970_can_begin_and_go_on_under_the_right_one(
    world: World, web: Machine, tmp_path: Path
) -> None:
    behind = in_1970(tmp_path / "behind")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"x")
    publish(world, web, b"one", behind)
    pull(web)
    assert world.status(web)["published"]["serial"] < 10 * 24 * 3600
    publish(world, web, b"two")
    pull(web)
    assert (web.secret("token"), world.status(web)["state"]) == (b"two", "up to date")

    # back in 1970 he is told, nothing is written, and status still shows what the host said
    before = world.manifest(web).read_bytes()
    assert "seconds in the future" in publish(world, web, b"three", behind, code=1)
    assert world.manifest(web).read_bytes() == before
    row = shown(world, web, behind)
    assert "up to date" in row
    assert "clock ahead" in row


def test_a_release_signed_ten_years_ahead_is_taken_and_the_written_way_leads_back(
    world: World, web: Machine, tmp_path: Path
) -> None:
    """docs/recovery.md, "A serial of the future"."""
    ahead = off_by(tmp_path / "ahead", YEARS)
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"x")
    publish(world, web, b"one")
    pull(web)
    good = world.status(web)["published"]["serial"]
    publish(world, web, b"two", ahead)
    pull(web)
    assert web.secret("token") == b"two"

    told = publish(world, web, b"three", code=1)
    assert "seconds in the future" in told
    memory = Path(told.partition("this machine remembers it in ")[2].split()[0])
    done = web.agent("trust", "--floor", str(good), "--lower", "--yes")
    assert done.returncode == 0, said(done)
    world.manifest(web).unlink()
    assert "seconds in the future" in said(world.try_bento("deploy"))  # it is remembered here, too
    lines = memory.read_text().splitlines(keepends=True)
    memory.write_text("".join(line for line in lines if not line.startswith(f"{web.name} ")))
    world.bento("deploy")
    pull(web)
    assert (web.secret("token"), world.status(web)["state"]) == (b"three", "up to date")
    assert good < web.facts()["committed"] < time.time() + 600
    # and older ones stay refused
    assert web.agent("trust").returncode == 0
    pull(web)
