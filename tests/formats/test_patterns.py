"""Patterns match as PEFT's do, in linear time."""

import re
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.formats.patterns import PatternTable
from registry.formats.regex import Automaton, Budget
from registry.formats.regex_syntax import PatternError, UnsupportedPattern, parse

# A grammar of regular patterns over a small alphabet, so that texts often match.
ATOMS = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "\\.",
        "[ab]",
        "[^a]",
        "[a-c.]",
        "\\d",
        "\\w",
        "\\W",
        "0",
        "1",
        "^",
        "$",
        "\\A",
        "[0-9]",
        "é",
        "{",
        "}",
    ]
)


def _extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.sampled_from(["({})", "(?:{})", "(?P<name>{})"])
    repeat = st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "*?", "+?", "{0,1}?"])
    return st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map("|".join).flatmap(lambda p: group.map(lambda g: g.format(p))),
        st.tuples(inner, repeat).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.tuples(st.sampled_from("ab.01"), repeat).map("".join),
    )


PATTERNS = st.recursive(ATOMS, _extend, max_leaves=6)
TEXTS = st.text("ab.01é{}", max_size=7)


@settings(max_examples=200)
@given(PATTERNS, st.lists(TEXTS, min_size=1, max_size=4))
def test_a_pattern_matches_as_in_the_standard_engine(pattern: str, texts: list[str]) -> None:
    assume(pattern.count("?P<name>") < 2)
    standard = re.compile(pattern)
    automaton = Automaton(parse(pattern))
    for text in texts:
        assert automaton.matches(text, Budget()) == (standard.fullmatch(text) is not None), text


@settings(max_examples=200)
@given(st.text("ab.\\[]()|*+?{},1^$-=!<:P#d\"' ", max_size=10))
def test_any_text_is_a_pattern_for_both_engines_or_refused_by_ours(pattern: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            standard = re.compile(pattern)
        except re.error:
            with pytest.raises(PatternError):
                parse(pattern)
            return
    try:
        node = parse(pattern)
    except UnsupportedPattern:
        return
    for text in ("", "a", "ab", "a.b", "1", pattern):
        assert Automaton(node).matches(text, Budget()) == (standard.fullmatch(text) is not None), text


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a*)*b", "(a|a)*b", "(.*)*x", "(a?){200}a{200}", "([a-z]+)*\\d"])
def test_a_pattern_that_explodes_in_the_standard_engine_is_done_at_once(pattern: str) -> None:
    assert not Automaton(parse(pattern)).matches("a" * 199, Budget())


UNSUPPORTED = {
    "(?=a)b": "look-ahead",
    "(?!a)b": "look-ahead",
    "(?<=a)b": "look-behind",
    "(a)\\1": "back-reference",
    "(?P<x>a)(?P=x)": "back-reference",
    "(?i)a": "(?i",
    "\\bab": "word boundary",
    "a{5000}": "repeat",
    "((a{1000}){1000}){1000}": "unfold",
    "(((){1000}){1000}){1000}": "unfold",
    "a" * 1001: "1001 characters",
    "(" * 40 + "a" + ")" * 40: "nested",
    "a*+": "possessive",
    "(?>a)": "(?>",
}


@pytest.mark.parametrize("pattern", UNSUPPORTED, ids=lambda pattern: pattern[:20])
def test_what_is_not_regular_or_too_large_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(UnsupportedAdapter) as refusal:
        PatternTable.compile({pattern: 4}, "rank_pattern")
    assert UNSUPPORTED[pattern] in refusal.value.message
    assert refusal.value.subject == "rank_pattern"


@pytest.mark.parametrize("pattern", ["(a", "a)", "[a", "*a", "a**", "\\", "a{2,1}", "[b-a]", "\\q"])
def test_what_is_no_pattern_is_refused_as_invalid(pattern: str) -> None:
    with pytest.raises(re.error):
        re.compile(pattern)
    with pytest.raises(InvalidAdapter, match="rank_pattern"):
        PatternTable.compile({pattern: 4}, "rank_pattern")


COMPONENTS = st.sampled_from(["layers", "0", "1", "12", "q_proj", "v_proj", "self_attn", "layer", "a.b"])
MODULES = st.lists(COMPONENTS, min_size=1, max_size=4).map(".".join)
KEYS = st.one_of(
    MODULES,
    st.tuples(st.sampled_from(["^", ""]), MODULES).map("".join),
    st.sampled_from(
        [
            "layers.[01].q_proj",
            r"layers\.\d+\.q_proj",
            ".*proj",
            "[qv]_proj",
            "q_proj|v_proj",
            "layers.1",
            ".",
            "^0",
            "self_attn.(q|v)_proj",
            "proj",
            r"layers\.1.*",
            ".?",
            "layer",
            "layers.+",
        ]
    ),
)


@settings(max_examples=200)
@given(st.lists(KEYS, max_size=6, unique=True), st.lists(MODULES, min_size=1, max_size=4))
def test_the_key_that_decides_is_the_one_that_peft_takes(keys: list[str], modules: list[str]) -> None:
    table = PatternTable.compile({key: index for index, key in enumerate(keys)}, "rank_pattern")
    for module in modules:
        decided = get_pattern_key(keys, module)
        assert table.get(module, -1) == (keys.index(decided) if decided in keys else -1)


def test_a_key_that_equals_the_name_holds_though_it_does_not_match_as_a_pattern() -> None:
    assert get_pattern_key(["a+"], "a+") == "a+"
    assert PatternTable.compile({"a+": 3}, "rank_pattern").get("a+", 8) == 3


def test_a_key_for_each_of_thousands_of_modules_is_found() -> None:
    names = [f"model.layers.{n % 94}.mlp.experts.{n}.gate_proj" for n in range(10_000)]
    table = PatternTable.compile({name: n for n, name in enumerate(names)}, "rank_pattern")
    assert all(table.get(name, -1) == n for n, name in enumerate(names))


def test_patterns_that_cost_too_much_over_all_modules_are_refused() -> None:
    table = PatternTable.compile({f"(.*a){{{n}}}[bc]": n for n in range(20, 120)}, "rank_pattern", steps=500_000)
    with pytest.raises(UnsupportedAdapter, match="too long"):
        for n in range(100_000):
            table.get(f"a{'a' * 400}{n}", 8)
