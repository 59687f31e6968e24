"""Each test that a page names as the proof of something is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_fault_of_the_page_names_a_test_that_there_is() -> None:
    page = (ROOT / "tests/faults/README.md").read_text()
    named = re.findall(r"\| `(test_\w+)` \|", page)
    assert len(named) > 25
    there = {
        name
        for path in (ROOT / "tests").glob("**/test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert [name for name in named if name not in there] == []
