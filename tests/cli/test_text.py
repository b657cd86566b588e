"""Short texts, and command lines with a minus in front."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.command import _shield_expressions
from cli.text import clean, human_size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (999_499, "999 kB"), (999_500, "1.0 MB")],
)
def test_sizes_are_written_in_the_largest_unit_that_fits(size, text):
    assert human_size(size) == text


@given(st.integers(0, 10**15))
def test_a_size_is_at_most_eight_characters_and_within_a_twentieth(size):
    amount, unit = human_size(size).split()
    scale = 1000 ** ["B", "kB", "MB", "GB", "TB"].index(unit)
    assert len(human_size(size)) <= 8
    assert abs(float(amount) * scale - size) <= 0.05 * size


@given(st.text())
def test_clean_text_is_printable_and_keeps_what_was(text):
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)
    if text.isprintable():
        assert clean(text) == text


VALUED = frozenset({"--into", "--message"})
WORDS = st.sampled_from(
    ["--into", "--message", "--json", "x", "demo/a", "-1.0*a/b", "-a/b + c/d", "- (a/b)", "--rank=3"]
)


@given(st.lists(WORDS))
def test_shielding_keeps_every_word_and_the_order_of_options(words):
    shielded = _shield_expressions(words, VALUED)
    assert sorted(word for word in shielded if word != "--") == sorted(words)
    assert [word for word in shielded if word.startswith("--") and word != "--"] == [w for w in words if w[:2] == "--"]


@given(st.lists(st.sampled_from(["--into", "team/x", "--json", "team/a + team/b"])))
def test_lines_without_a_leading_minus_are_left_alone(words):
    assert _shield_expressions(words, VALUED) == words


def test_a_value_of_an_option_is_never_taken_for_an_expression():
    assert _shield_expressions(["--message", "-a/b", "x"], VALUED) == ["--message", "-a/b", "x"]
