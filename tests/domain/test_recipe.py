"""Recipes: one canonical form and digest for everything that says the same; documents that read back."""

import json
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.errors import InvalidRecipe, InvalidReference, WrongUsage
from registry.domain.expression import format, parse
from registry.domain.recipe import MAX_DEPTH, Leaf, Recipe, canonical
from registry.domain.records import Parent
from registry.domain.reference import Reference


def content(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def resolve(reference: Reference) -> Parent:
    """Every adapter is at version 3, and its content follows from its name; `team/copy-of-x` has the content of x."""
    return Parent(reference.adapter, 3, content(reference.adapter.name.removeprefix("copy-of-")))


def pin(text: str) -> Recipe:
    return parse(text).pin(resolve)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("team/a + team/b", "team/b + team/a"),
        ("team/a + (team/b + team/c)", "(team/c + team/a) + team/b"),
        ("0.5*(team/a + team/b)", "0.5*team/a + 0.5*team/b"),
        ("0.1*(0.2*team/a) + team/b", "0.02*team/a + team/b"),
        ("0.1*team/a + 0.2*team/a", "0.3*team/a"),
        ("0.1*team/a + 0.2*team/a - 0.3*team/a + team/b", "team/b"),
        ("(team/a + team/b) - team/b", "team/a"),
        ("team/a + 0*team/b", "team/a"),
        ("team/a@production", "team/a@v3"),
        ("team/copy-of-a + team/a", "2*team/a"),
        ("lerp(team/a, team/b, t=0)", "team/a"),
        ("lerp(team/a, team/b, t=1)", "team/b"),
        ("lerp(team/a, team/b, t=0.1)", "0.9*team/a + 0.1*team/b"),
        ("truncate(team/a + team/b, rank=4)", "truncate(team/b + team/a, rank=4)"),
        (
            "truncate(team/a, rank=4) + team/b - truncate(team/a, rank=4)",
            "team/b",
        ),
        ("truncate(team/a - team/a, rank=4) + team/b", "team/b"),
    ],
)
def test_expressions_that_say_the_same_have_one_digest(left: str, right: str) -> None:
    assert pin(left).digest == pin(right).digest
    assert pin(left).root == pin(right).root


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("team/a", "team/b"),
        ("team/a - team/b", "team/b - team/a"),
        ("lerp(team/a, team/b, t=0.25)", "lerp(team/b, team/a, t=0.25)"),
        ("truncate(team/a + team/b, rank=4)", "truncate(team/a, rank=4) + team/b"),
        ("truncate(team/a, rank=4)", "truncate(team/a, rank=5)"),
        ("team/a + 1e-9*team/b", "team/a"),
    ],
)
def test_expressions_that_differ_have_different_digests(left: str, right: str) -> None:
    assert pin(left).digest != pin(right).digest


def test_the_dtype_is_part_of_the_digest_and_the_names_are_not() -> None:
    recipe = pin("team/a + team/b")
    assert recipe.with_dtype("bfloat16").digest != recipe.digest
    assert parse("other/a + other/b").pin(resolve).digest == recipe.digest


def test_a_pinned_recipe_names_the_versions_that_survive_and_every_name_of_them() -> None:
    recipe = pin("team/a@production + team/b - team/b + team/copy-of-a")
    assert {(str(parent.adapter), parent.version) for parent in recipe.inputs} == {
        ("team/a", 3),
        ("team/copy-of-a", 3),
    }
    assert format(recipe) == "2*team/a@v3"


@pytest.mark.parametrize(
    "text", ["team/a - team/a", "0*team/a", "team/a - team/copy-of-a", "2*truncate(team/a - team/a, rank=1)"]
)
def test_what_cancels_is_nothing(text: str) -> None:
    assert pin(text).is_zero
    assert not pin("team/a").is_zero


def test_weights_whose_product_overflows_are_refused() -> None:
    with pytest.raises(InvalidRecipe, match="not finite"):
        pin("1e300*(1e300*team/a)")


def test_each_reference_is_resolved_once() -> None:
    asked: list[Reference] = []

    def counting(reference: Reference) -> Parent:
        asked.append(reference)
        return resolve(reference)

    parse("team/a + team/b + 2*team/a + team/a@v3").pin(counting)
    assert [str(reference) for reference in asked] == ["team/a", "team/b", "team/a@v3"]


def test_an_unpinned_recipe_has_no_digest() -> None:
    with pytest.raises(InvalidRecipe, match="pinned"):
        _ = parse("team/a").digest


# -- rank -------------------------------------------------------------------------------------------------------------


def test_a_rank_truncates_the_whole() -> None:
    assert format(parse("team/a + team/b").with_rank(8)) == "truncate(team/a + team/b, rank=8)"


def test_a_rank_that_repeats_the_recipe_changes_nothing_and_one_that_contradicts_it_is_wrong_usage() -> None:
    recipe = parse("truncate(team/a, rank=8)")
    assert recipe.with_rank(8) == recipe
    with pytest.raises(WrongUsage, match="rank 4 contradicts the recipe, which ends in rank 8"):
        recipe.with_rank(4)


def test_a_rank_bounds_a_truncation_by_another_rule() -> None:
    recipe = parse("truncate(team/a, energy=0.9)").with_rank(8)
    assert format(recipe) == "truncate(team/a, rank=8, energy=0.9)"


def test_the_order_of_inputs_counts_only_where_it_means_something() -> None:
    same = [("ties(team/a, 0.5*team/b)", "ties(0.5*team/b, team/a)"), ("tsv(team/a, team/c)", "tsv(team/c, team/a)")]
    for left, right in same:
        assert pin(left).digest == pin(right).digest
    assert pin("slerp(team/a, team/b)").digest != pin("slerp(team/b, team/a)").digest
    assert pin("ties(team/a, team/b)").digest != pin("ties(team/a, team/b, density=0.4)").digest
    assert pin("ties(team/a, preset=peft)").digest == pin("ties(team/a, elect=peft)").digest


def test_an_input_of_a_method_that_cancels_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="an input of ties cancels to nothing; leave it out"):
        pin("ties(team/a, team/b - team/b)")


# -- documents --------------------------------------------------------------------------------------------------------

EXPRESSIONS = st.recursive(
    st.sampled_from(["team/a", "team/b", "team/c", "team/copy-of-a"]),
    lambda inner: (
        st.builds("({} + {})".format, inner, inner)
        | st.builds("({} - {})".format, inner, inner)
        | st.builds("({}*{})".format, st.sampled_from(["0.1", "0.7", "2", "0", "-3"]), inner)
        | st.builds("lerp({}, {}, t={})".format, inner, inner, st.sampled_from(["0", "0.3", "1"]))
        | st.builds("truncate({}, rank={})".format, inner, st.sampled_from(["1", "4"]))
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(EXPRESSIONS)
def test_the_canonical_form_is_a_fixed_point_and_a_document_reads_back(text: str) -> None:
    recipe = pin(text)
    assert canonical(recipe.root) == recipe.root
    if recipe.is_zero:
        return
    document = json.loads(json.dumps(recipe.document()))
    again = Recipe.from_document(document)
    assert again == recipe
    assert again.pin(resolve) == recipe
    assert again.digest == recipe.digest


@settings(deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_a_sum_has_one_digest_in_either_order(left: str, right: str) -> None:
    assert pin(f"{left} + {right}").digest == pin(f"{right} + {left}").digest
    assert pin(f"({left} + {right}) - {right}").digest == pin(left).digest


def test_a_document_shows_defaults_revisions_and_dtype() -> None:
    assert Recipe.from_document(
        {"root": {"method": "lerp", "inputs": [{"adapter": "t/a"}, {"adapter": "t/b@v2"}]}}
    ) == (parse("lerp(t/a, t/b@v2, t=0.5)"))
    document = pin("truncate(team/a, rank=4)").document()
    assert document == {
        "schema": 1,
        "dtype": "float32",
        "root": {"method": "truncate", "revision": 2, "params": {"rank": 4}, "inputs": [{"digest": content("a")}]},
        "inputs": [{"adapter": "team/a", "version": 3, "digest": content("a")}],
    }


def test_a_recipe_digest_never_changes_by_accident() -> None:
    recipe = pin("truncate(0.7*team/a + 0.3*team/b, rank=4)")
    assert recipe.digest == "4f822f31989f62b35f1111d490bfb017378b08b390dbce715231865691303b50"


def test_a_pinned_document_whose_version_has_other_content_now_is_refused() -> None:
    recipe = Recipe.from_document(pin("team/a").document())
    with pytest.raises(InvalidRecipe, match="team/a@v3 has content"):
        recipe.pin(lambda reference: Parent(reference.adapter, 3, content("other")))


def leaf(name: str = "t/a") -> dict[str, object]:
    return {"adapter": name}


def nested(depth: int) -> dict[str, object]:
    node = leaf()
    for _ in range(depth):
        node = {"method": "truncate", "params": {"rank": 1}, "inputs": [node]}
    return node


@pytest.mark.parametrize(
    ("document", "where", "reason"),
    [
        ([], "document", "JSON object"),
        ({}, "root", "JSON object"),
        ({"root": leaf(), "rank": 4}, "document", "'rank' is not known"),
        ({"root": leaf(), "schema": 2}, "schema", "reads schema 1"),
        ({"root": leaf(), "dtype": "int8"}, "dtype", "'int8'"),
        ({"root": leaf(), "dtype": 8}, "dtype", "a text"),
        ({"root": {**leaf(), "weight": 2}}, "root", "'weight' is not known"),
        ({"root": {**leaf(), "digest": "0" * 64}}, "root", "exactly one"),
        ({"root": {**leaf(), "inputs": []}}, "root", "nothing else belongs"),
        ({"root": {"digest": "0" * 64}}, "root.digest", "no entry"),
        ({"root": {"method": "soup", "inputs": []}}, "root.method", "known are"),
        ({"root": {"method": 3, "inputs": []}}, "root.method", "a text"),
        ({"root": {"method": "lerp", "inputs": {}}}, "root.inputs", "a list"),
        (
            {"root": {"method": "lerp", "revision": 7, "inputs": [leaf(), leaf()]}},
            "root.revision",
            "revision 1 of lerp",
        ),
        (
            {
                "root": {
                    "method": "linear",
                    "params": {"weights": [1]},
                    "inputs": [{"method": "lerp", "inputs": [1, 2]}],
                }
            },
            "root.inputs[0].inputs[0]",
            "JSON object",
        ),
        ({"root": nested(MAX_DEPTH)}, "root" + ".inputs[0]" * MAX_DEPTH, "nested deeper"),
        (
            {"root": leaf(), "inputs": [{"adapter": "t/a", "version": 0, "digest": "0" * 64}]},
            "inputs[0].version",
            "from 1",
        ),
        ({"root": leaf(), "inputs": [{"adapter": "t/a", "version": 1, "digest": "0"}]}, "inputs[0].digest", "64"),
        (
            {"root": leaf(), "inputs": [{"adapter": "t/a@v1", "version": 1, "digest": "0" * 64}]},
            "inputs[0].adapter",
            "team/name",
        ),
    ],
)
def test_a_document_that_breaks_a_rule_is_refused_at_its_place(document: object, where: str, reason: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        Recipe.from_document(document)
    assert caught.value.where == where
    assert reason in caught.value.reason


def test_a_document_has_at_most_256_adapters_in_all() -> None:
    half = {"method": "linear", "params": {"weights": [1.0] * 200}, "inputs": [leaf()] * 200}
    Recipe.from_document({"root": half})
    with pytest.raises(InvalidRecipe, match="more than 256 adapters"):
        Recipe.from_document({"root": {"method": "linear", "params": {"weights": [1, 1]}, "inputs": [half, half]}})


def test_a_document_with_a_malformed_reference_is_refused() -> None:
    with pytest.raises(InvalidReference):
        Recipe.from_document({"root": leaf("nonsense")})


def test_a_leaf_is_a_recipe() -> None:
    assert Recipe.from_document({"root": leaf("t/a@v1")}).root == Leaf(Reference.parse("t/a@v1"))


def test_a_document_cannot_claim_a_parent_that_has_other_content() -> None:
    document = pin("team/a").document()
    document["inputs"].append({"adapter": "team/b", "version": 3, "digest": content("a")})
    with pytest.raises(InvalidRecipe, match="team/b@v3 has content"):
        Recipe.from_document(document).pin(resolve)
