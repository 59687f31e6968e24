"""Which signatures a release needs: no host is left with a release that it can't accept."""

from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick

from bento.core.signer_rules import accepted, missing

keys = st.frozensets(st.sampled_from("abcd"))


def test_a_new_key_is_missing_where_only_the_old_one_signed() -> None:
    assert missing({"old"}, {"old", "new"}) == {"new"}
    assert missing({"old", "new"}, {"new"}) == frozenset()


def test_a_key_is_dropped_only_for_a_host_that_says_it_trusts_the_other() -> None:
    assert not accepted({"old"}, {"new"}, None)
    assert not accepted({"old"}, {"new"}, {"old"})
    assert accepted({"old"}, {"new"}, {"old", "new"})
    assert accepted({"old"}, {"old", "new"}, None)


@quick
@given(published=keys, ours=keys, host=keys, silent=st.sampled_from(["silent", "speaks"]))
def test_a_host_that_could_accept_the_release_before_and_spoke_the_truth_can_accept_the_next(
    published: frozenset[str], ours: frozenset[str], host: frozenset[str], silent: str
) -> None:
    truth = None if silent == "silent" else host
    if published & host and accepted(published, ours, truth):
        assert ours & host
