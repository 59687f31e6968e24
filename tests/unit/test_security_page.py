"""docs/security.md names, for every rule, tests that there are."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/security.md").read_text("utf-8")
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)


def test_every_test_that_the_page_names_is_there() -> None:
    files = {path.name: path.read_text("utf-8") for path in TESTS.rglob("test_*.py")}
    missing = {(file, test) for file, test in NAMED if f"\ndef {test}(" not in files.get(file, "")}
    assert not missing
    assert len(NAMED) > 30


@pytest.mark.parametrize("side", ["What a host enforces", "What the admin's side enforces"])
def test_every_rule_of_a_side_has_its_tests(side: str) -> None:
    section = PAGE.partition(f"## {side}\n")[2].partition("\n## ")[0]
    rules = re.findall(r"^([0-9]+)\. \*\*", section, re.MULTILINE)
    shown = re.findall(r"^\| ([0-9]+) \| .*`test_\w+\.py::", section, re.MULTILINE)
    assert rules == shown == [str(number) for number in range(1, len(rules) + 1)]
    assert len(rules) >= 7


def test_the_attacks_are_as_many_as_the_page_says() -> None:
    from integration.test_trust import ATTACKS_AFTER_A_GOOD_MANIFEST, ATTACKS_ON_THE_MANIFEST

    number = len(ATTACKS_ON_THE_MANIFEST) + len(ATTACKS_AFTER_A_GOOD_MANIFEST)
    assert f"({number} attacks, and a control)" in PAGE
