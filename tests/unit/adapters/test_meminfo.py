"""What the kernel says of memory."""

from pathlib import Path

import pytest

from bento.adapters.meminfo import available


def test_it_is_what_can_be_used_without_swapping(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       24684456 kB\nMemFree:         1000 kB\nMemAvailable:   23710012 kB\n")
    assert available(file) == 23710012 * 1024


@pytest.mark.parametrize("said", ["", "MemTotal: 1 kB\n", "MemAvailable: much\n", "MemAvailable: é kB\n"])
def test_a_kernel_that_does_not_say_is_no_error(tmp_path: Path, said: str) -> None:
    (tmp_path / "meminfo").write_text(said)
    assert available(tmp_path / "meminfo") is None
    assert available(tmp_path / "absent") is None


def test_this_machine_says_it() -> None:
    assert (available() or 0) > 2**20
