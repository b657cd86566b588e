"""Words: what text is searched by, within bounds."""

from hypothesis import given
from hypothesis import strategies as st

from registry.sql.words import LONGEST, MOST, words_of


@given(st.lists(st.text()))
def test_words_are_bounded_sorted_distinct_and_found_again(texts: list[str]) -> None:
    words = words_of(texts)
    assert len(words) <= MOST
    assert all(0 < len(word) <= LONGEST for word in words)
    assert words == sorted(set(words))


def test_names_and_numbers_fall_into_words() -> None:
    assert words_of(["demo/Sentiment-r8_v2.1"]) == ["1", "demo", "r8", "sentiment", "v2"]


def test_a_message_of_megabytes_gives_few_words() -> None:
    assert len(words_of([" ".join(map(str, range(1_000_000)))])) == MOST
    assert words_of(["x" * 1_000_000]) == ["x" * LONGEST]
