"""`--on`: names, globs and tags mean what a person expects, and a word that means nothing is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick

from bento.core.selectors import select
from bento.errors import InputError
from bento.names import HostName, TagName

HOSTS = {
    HostName("web10"): (TagName("web"), TagName("dc1")),
    HostName("web"): (TagName("web"),),
    HostName("db"): (TagName("dc1"),),
    HostName("router"): (),
}


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ((), ["web10", "web", "db", "router"]),
        (("web",), ["web"]),
        (("web*",), ["web10", "web"]),
        (("*",), ["web10", "web", "db", "router"]),
        (("web??",), ["web10"]),
        (("[dr]*",), ["db", "router"]),
        (("@dc1",), ["web10", "db"]),
        (("@web,router",), ["web10", "web", "router"]),
        (("router , db",), ["db", "router"]),
        (("db,",), ["db"]),
        (("router", "web10"), ["web10", "router"]),
        (("db", "@dc1", "d*"), ["web10", "db"]),
    ],
)
def test_words_choose_hosts_in_the_order_of_the_fleet(patterns: tuple[str, ...], chosen: list[str]) -> None:
    assert select(patterns, HOSTS) == tuple(chosen)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("ruoter", "did you mean router?"),
        ("dc1", "it is a tag: @dc1"),
        ("@dc2", "did you mean @dc1?"),
        ("@we", "did you mean @web?"),
    ],
)
def test_a_word_that_means_nobody_is_answered_with_what_was_meant(word: str, hint: str) -> None:
    with pytest.raises(InputError, match=word) as error:
        select((word,), HOSTS)
    assert hint in error.value.hints
    assert any("bento host list" in one for one in error.value.hints)


@pytest.mark.parametrize("word", ["WEB", "we", "@", "@router", "web1", "x*", "[", "@we*", "web\x1b"])
def test_one_wrong_word_is_an_error_even_beside_good_ones(word: str) -> None:
    with pytest.raises(InputError) as error:
        select((f"db,{word}",), HOSTS)
    assert error.value.message.isprintable()


@pytest.mark.parametrize("patterns", [("",), (",",), (" ", "")])
def test_an_empty_word_is_an_error_and_never_means_every_host(patterns: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="names no host"):
        select(patterns, HOSTS)


@quick
@given(st.lists(st.text(alphabet="web*?[]@dc1,- ", max_size=6), max_size=3))
def test_any_words_choose_known_hosts_once_or_are_an_input_error(words: list[str]) -> None:
    try:
        chosen = select(words, HOSTS)
    except InputError:
        return
    assert list(chosen) == [name for name in HOSTS if name in chosen]
    assert chosen
