"""The choice of what becomes of replaced modules: how it is written, pinned and identified."""

import pytest

from registry.domain.errors import InvalidRecipe, InvalidReference, WrongUsage
from registry.domain.expression import parse
from registry.domain.recipe import Recipe
from registry.domain.records import Parent
from registry.domain.reference import Reference
from registry.domain.replacements import Replacements

DIGESTS = {"a": "a" * 64, "b": "b" * 64, "c": "c" * 64}


def resolve(reference: Reference) -> Parent:
    return Parent(reference.adapter, 1, DIGESTS[reference.adapter.name])


def recipe(choice: str | None) -> Recipe:
    plain = parse("0.7*t/a + 0.3*t/b")
    return plain.with_replacements(Replacements.parse(choice)) if choice else plain


@pytest.mark.parametrize("text", ["average", "difference", "from=team/a@v2"])
def test_what_is_written_is_read_again(text: str) -> None:
    assert str(Replacements.parse(text)) == text


@pytest.mark.parametrize("text", ["", "sum", "from", "from=", "average=t/a", "Average"])
def test_what_is_no_choice_is_refused(text: str) -> None:
    with pytest.raises(InvalidRecipe, match="average, difference or from=team/name"):
        Replacements.parse(text)


def test_a_source_that_is_no_reference_is_refused() -> None:
    with pytest.raises(InvalidReference):
        Replacements.parse("from=nobody")


@pytest.mark.parametrize("choice", ["average", "difference", "from=t/a"])
def test_a_document_is_read_as_what_it_was_written_from(choice: str) -> None:
    asked, pinned = recipe(choice), recipe(choice).pin(resolve).with_base("f" * 64)
    assert Recipe.from_document(asked.document()) == asked
    again = Recipe.from_document(pinned.document()).pin(resolve)
    assert (again, again.digest) == (pinned, pinned.digest)


@pytest.mark.parametrize(
    ("choice", "base", "digest"),
    [
        (None, None, "bf38e7d98492484564c16e4efdfde29846ddcc2c25a4c8bdea6133dfdcc28992"),
        ("average", None, "2ab649125b41c05e64e6aa9ec1d10192ad65c29d0accb6a1d3d88e9a42c55d6d"),
        ("difference", "f" * 64, "f3f47ffc417f7d1fc90b667d2602fc481945a3df5b8948ebd586101d2a0a867d"),
        ("from=t/a", None, "9d0c94bb776fb656ab1340d70c399930d25e061da251bdb26215ce2e24ba7c39"),
    ],
)
def test_digests_are_what_they_always_were(choice: str | None, base: str | None, digest: str) -> None:
    assert recipe(choice).pin(resolve).with_base(base).digest == digest


def test_the_source_is_pinned_with_the_inputs_and_is_one_of_them() -> None:
    pinned = recipe("from=t/b").pin(resolve)
    assert pinned.is_pinned and not recipe("from=t/b").is_pinned
    assert pinned.document()["modules_to_save"] == {"from": {"digest": DIGESTS["b"]}}
    with pytest.raises(InvalidRecipe, match="modules_to_save: t/c is no input"):
        recipe("from=t/c").pin(resolve)


def test_a_second_choice_contradicts_the_recipes() -> None:
    assert recipe("average").with_replacements(Replacements.parse("average")) == recipe("average")
    with pytest.raises(WrongUsage, match="difference contradicts the recipe, which says average"):
        recipe("average").with_replacements(Replacements.parse("difference"))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("sum", "modules_to_save"),
        ("from=t/a", "modules_to_save"),
        (7, "modules_to_save"),
        (
            {"from": {"method": "linear", "params": {"weights": [2.0]}, "inputs": [{"adapter": "t/a"}]}},
            "modules_to_save.from",
        ),
        ({"from": {"digest": "a" * 64}}, "modules_to_save.from.digest"),
        ({"of": "t/a"}, "modules_to_save"),
    ],
)
def test_a_document_with_another_value_is_refused_with_its_place(value: object, where: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        Recipe.from_document({**recipe(None).document(), "modules_to_save": value})
    assert caught.value.where == where


def test_a_base_that_is_no_fingerprint_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="base: a digest is 64"):
        Recipe.from_document({**recipe(None).document(), "base": "org/base"})
