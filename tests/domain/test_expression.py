"""The expression language: what is read, where errors point, and that writing is the inverse of reading."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.errors import InvalidExpression
from registry.domain.expression import MAX_LENGTH, format, parse
from registry.domain.methods import validate
from registry.domain.recipe import MAX_LEAVES, MAX_NESTING, Call, Leaf, Node, Recipe, leaves, linear
from registry.domain.reference import Reference

A, B, C = (Leaf(Reference.parse(f"team/{name}")) for name in "abc")


def total(*terms: tuple[float, Node]) -> Node:
    return linear(tuple(weight for weight, _ in terms), tuple(node for _, node in terms))


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("team/a", A),
        ("1*team/a", A),
        ("(((team/a)))", A),
        ("-team/a", total((-1, A))),
        ("- 0.5 * team/a", total((-0.5, A))),
        ("team/a + team/b", total((1, A), (1, B))),
        ("0.7*team/a + .3*team/b - 5e-1*team/c", total((0.7, A), (0.3, B), (-0.5, C))),
        ("team/a - -team/b", total((1, A), (1, B))),
        ("0*team/a - 0*team/b", total((0.0, A), (0.0, B))),
        ("0.5*(team/a + team/b)", total((0.5, total((1, A), (1, B))))),
        ("team/a + (team/b + team/c)", total((1, A), (1, total((1, B), (1, C))))),
        ("team/a\n  + team/b ", total((1, A), (1, B))),
        ("lerp(team/a, team/b, t=0.25)", Call("lerp", {"t": 0.25}, (A, B))),
        ("lerp(team/a,team/b)", Call("lerp", {"t": 0.5}, (A, B))),
        ("truncate(team/a - 2*team/b, rank = 4)", Call("truncate", {"rank": 4}, (total((1, A), (-2, B)),))),
        (
            "magnitude(team/a, 2*team/b, lambda=-1)",
            Call("magnitude", {"density": 0.5, "lambda": -1.0}, (A, total((2, B)))),
        ),
        (
            "core_space(team/a, merge = sum, elect=peft,sign=frequency)",
            Call(
                "core_space",
                validate("core_space", {"merge": "sum", "elect": "peft", "sign": "frequency"}, inputs=1),
                (A,),
            ),
        ),
        ("truncate(team/a, energy=0.9)", Call("truncate", {"energy": 0.9}, (A,))),
        ("team/a@my-alias", Leaf(Reference.parse("team/a@my-alias"))),
    ],
)
def test_an_expression_is_read_as_its_tree(text: str, root: Node) -> None:
    assert parse(text).root == root


def test_the_digits_of_a_reference_are_not_a_coefficient() -> None:
    assert parse("2*3/4@v5").root == total((2, Leaf(Reference.parse("3/4@v5"))))


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, "an adapter (team/name) belongs here"),
        ("team/a +", 9, "an adapter (team/name) belongs here"),
        ("--team/a", 2, "an adapter"),
        ("éteam/a", 1, "an adapter"),
        ("team/a+team/b", 7, "write blanks on both sides of this '+'"),
        ("team/a +team/b", 8, "write blanks on both sides of this '+'"),
        ("team/a -team/b", 8, "write blanks on both sides of this '-'"),
        ("(team/a)-team/b", 9, "write blanks on both sides of this '-'"),
        ("team/a-team/b", 12, "write blanks on both sides of a '-'"),
        ("team/a-0.5*team/b", 11, "write blanks on both sides of a '-'"),
        ("team/a/2", 7, "there is no division"),
        ("(team/a + team/b)/2", 18, "there is no division"),
        ("team/a*2", 7, "a coefficient is a number in front"),
        ("2*3*team/a", 3, "one coefficient"),
        ("0.5", 4, "a number is a coefficient"),
        ("1e999*team/a", 1, "too large"),
        ("team/a team/b", 8, "a '+' or '-' belongs before"),
        ("team/a (team/b)", 8, "a '+' or '-' belongs before"),
        ("team/a)", 7, "there is no '('"),
        ("team/a, team/b", 7, "a ',' only separates"),
        ("team/b + (team/a", 10, "never closed"),
        ("lerp(team/a, team/b", 5, "never closed"),
        ("lerp(team/a team/b)", 13, "a '+' or '-' belongs before"),
        ("lerp()", 6, "an adapter"),
        ("lerp(team/a)", 1, "lerp takes 2 inputs, not 1"),
        ("lerp(team/a, team/b, t=2)", 22, "not within 0 and 1"),
        ("lerp(team/a, team/b, t=x)", 22, "t is a number, not 'x'"),
        ("lerp(team/a, team/b, t=*)", 24, "a number or a word belongs here"),
        ("ties(team/a, team/b, sign=0.5)", 22, "sign is one of total, frequency"),
        ("lerp(team/a, team/b, t=1, t=0)", 27, "given twice"),
        ("lerp(team/a, t=1, team/b)", 19, "inputs come before"),
        ("team/b + truncate(team/a)", 10, "one of rank, energy"),
        ("foo(team/a)", 1, "known are lerp, slerp, truncate"),
        ("linear(team/a)", 1, "there is no function 'linear'"),
        ("team/-a", 1, "the name '-a'"),
        ("team/b + team/a@latest", 17, "reserved"),
    ],
)
def test_an_error_points_at_the_character_that_cannot_be_read(text: str, column: int, reason: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        parse(text)
    assert caught.value.column == column
    assert reason in caught.value.reason
    assert caught.value.message.splitlines()[-1] == " " * (column + 1) + "^"


def test_nesting_is_bounded_and_never_overflows_the_stack() -> None:
    deepest = "(" * MAX_NESTING + "team/a" + ")" * MAX_NESTING
    assert parse(deepest).root == A
    with pytest.raises(InvalidExpression, match="nested deeper than 64"):
        parse(f"({deepest})")
    with pytest.raises(InvalidExpression, match="nested deeper than 64"):
        parse("(" * 9_000)
    with pytest.raises(InvalidExpression, match="nested deeper than 64"):
        parse("truncate(" * 1_000)


def test_length_and_number_of_adapters_are_bounded() -> None:
    assert len(list(leaves(parse(" + ".join(["t/a"] * MAX_LEAVES)).root))) == MAX_LEAVES
    with pytest.raises(InvalidExpression, match="more than 256 adapters"):
        parse(" + ".join(["t/a"] * (MAX_LEAVES + 1)))
    with pytest.raises(InvalidExpression, match="longer than 10,000 characters") as caught:
        parse("team/a" + " " * MAX_LENGTH)
    assert len(caught.value.message) < 300


def test_an_error_shows_no_control_characters_and_keeps_the_column() -> None:
    with pytest.raises(InvalidExpression) as caught:
        parse("team/a\n\x1b[31m")
    assert "\x1b" not in caught.value.message
    assert caught.value.column == 8


# -- the inverse ------------------------------------------------------------------------------------------------------

parts = st.from_regex(r"[a-z0-9]{1,3}(-[a-z0-9]{1,3})?", fullmatch=True)
selectors = st.sampled_from(["", "@v3", "@prod", "@my-alias", "@sha256:0123456789ab", "@" + "0a" * 20])
references = st.builds(lambda team, name, at: Reference.parse(f"{team}/{name}{at}"), parts, parts, selectors)
weights = st.floats(allow_nan=False, allow_infinity=False).map(lambda weight: weight + 0.0)


def sums(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.lists(st.tuples(weights, nodes), min_size=1, max_size=3).map(lambda terms: total(*terms))


def lerps(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.builds(
        lambda a, b, t: Call("lerp", validate("lerp", {"t": t}, inputs=2), (a, b)), nodes, nodes, st.floats(0, 1)
    )


def truncations(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.builds(lambda a, rank: Call("truncate", {"rank": rank}, (a,)), nodes, st.integers(1, 65536))


def merges(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    options = st.fixed_dictionaries(
        {"elect": st.sampled_from(["weighted", "peft"]), "density": st.floats(0, 1)}, optional={"rank": st.just(4)}
    )
    return st.builds(lambda a, b, given: Call("ties", validate("ties", given, inputs=2), (a, b)), nodes, nodes, options)


trees = st.recursive(
    references.map(Leaf),
    lambda nodes: sums(nodes) | lerps(nodes) | truncations(nodes) | merges(nodes),
    max_leaves=12,
)


@settings(deadline=None)
@given(trees)
def test_reading_what_was_written_gives_the_same_tree(root: Node) -> None:
    recipe = Recipe(root)
    assert parse(format(recipe)) == recipe


@settings(deadline=None)
@given(st.text(alphabet="ab/@-+*()., 0129elrpt=\n", max_size=60))
def test_any_text_is_read_or_refused_at_a_column_within_it(text: str) -> None:
    try:
        recipe = parse(text)
    except InvalidExpression as error:
        assert 1 <= error.column <= len(text) + 1
    else:
        assert parse(format(recipe)) == recipe
