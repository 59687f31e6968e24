"""The fuzzing's targets hold for their seeds and what is near them, so that `make fuzz` starts from something."""

import pytest
from fuzz.targets import TARGETS, seeds
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_of_each_parser_are_taken_and_refused(name: str) -> None:
    """Both ways: a parser that refused everything, or nothing, would be fuzzed in vain."""
    answers = {TARGETS[name](seed) for seed in seeds(name)} | {TARGETS[name](b"\xff\x00 = {{")}
    assert answers == {True, False}


@pytest.mark.parametrize("name", TARGETS)
@quick
@given(st.data())
def test_a_seed_with_a_slip_in_it_is_taken_or_refused_in_words(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(seeds(name)))
    at = data.draw(st.integers(0, len(seed)))
    gone = data.draw(st.integers(0, 8))
    TARGETS[name](seed[:at] + data.draw(st.binary(max_size=8)) + seed[at + gone :])


def test_a_target_without_seeds_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr("fuzz.targets.SEEDS", tmp_path)
    with pytest.raises(AssertionError, match="0 seeds"):
        seeds("manifest")
