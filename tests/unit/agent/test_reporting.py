"""Text for a report: read on the admin's terminal, so it carries nothing but words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick

from bento.agent.reporting import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words\n\tindented", "plain words\n\tindented"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("bell\x07 back\x08 nul\x00 del\x7f", "bell back nul del"),
        ("over\rwritten", "overwritten"),
        ("\x9b31m", "31m"),
        ("right\u202eleft", "rightleft"),
        ("line\u2028break", "linebreak"),
        ("é", "\\xe9"),
        ("😀", "\\U0001f600"),
        ("\udcff", ""),
    ],
)
def test_control_characters_go_and_words_stay(text: str, shown: str) -> None:
    assert plain(text, 100) == shown


def test_of_too_long_a_text_the_end_is_kept() -> None:
    assert plain("a" * 100 + "the cause", 9) == "the cause"


@quick
@given(st.text(max_size=200), st.integers(1, 100))
def test_any_text_becomes_ascii_within_the_limit(text: str, limit: int) -> None:
    shown = plain(text, limit)
    assert len(shown.encode()) <= limit
    assert shown.isascii()
    assert all(char in "\n\t" or char.isprintable() for char in shown)
