"""The quality benchmark: it compares everything, differences are paired, and the docs show what was measured."""

import json
import math
import re

import pytest

from benchmarks.quality.arms import NAMES
from benchmarks.quality.paired import Outcome, difference
from benchmarks.quality.report import DOCS, RESULTS, tables, with_tables, worse
from benchmarks.quality.rows import SEEDS, THREE, TWO, Blend, Row
from registry.domain.expression import parse
from registry.domain.methods import METHODS
from tests.factories import EXAMPLES

PEFT_KINDS = {"linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune"}
PEFT_KINDS |= {f"{kind}_svd" for kind in ("ties", "dare_linear", "dare_ties", "magnitude_prune")}


def outcome(*hits: int) -> Outcome:
    return Outcome({"task": hits}, None)


def test_every_method_of_the_table_is_measured() -> None:
    written = " ".join(row.template for row in TWO)
    missing = {
        name for name, method in METHODS.items() if method.is_function and not re.search(rf"\b{name}\(", written)
    }
    assert missing == {"lerp", "given_init"}  # a sum, whose curve is drawn; and how an adapter is told, no merging


def test_every_kind_of_merge_that_peft_has_is_a_counterpart() -> None:
    assert {row.peft for row in TWO} - {None} == PEFT_KINDS


@pytest.mark.parametrize("row", [*TWO, *THREE], ids=lambda row: f"{row.method}-{row.peft}-{row.rank}")
def test_every_row_is_an_expression_and_both_sides_have_one_density_and_rank(row: Row) -> None:
    blend = Blend(("s", "w"), 0.5)
    for options in row.grid:
        text = row.ours(blend, options, SEEDS[-1]).expression
        call = parse(text.replace("*s", "*t/s").replace("*w", "*t/w")).root
        if row.peft and "density" in options:
            theirs = row.theirs(blend, options)
            params = call.params  # type: ignore[union-attr]
            density = params["density"] if "density" in params else 1 - params["drop"]
            assert (density, params["rank"]) == (pytest.approx(theirs.density), theirs.rank or row.rank)


def test_a_difference_is_that_of_pairs() -> None:
    """A coin that both sides see the same way adds nothing to the standard error."""
    ours, theirs = outcome(1, 1, 0, 0, 1, 0, 1, 1), outcome(1, 1, 0, 0, 1, 0, 1, 0)
    found = difference([ours], [theirs])
    assert found.value == pytest.approx(1 / 8)
    assert found.error == pytest.approx(math.sqrt((7 * (1 / 8) ** 2 + (7 / 8) ** 2) / 7) / math.sqrt(8))
    assert difference([ours], [ours]).error == 0


def test_seeds_count_by_their_mean() -> None:
    found = difference([outcome(1, 0), outcome(0, 1)], [outcome(0, 0), outcome(1, 1)])
    assert (found.value, found.error) == (0, 0)


def test_worse_is_more_than_one_standard_error() -> None:
    better, lost = outcome(*[1] * 400), outcome(*[1] * 399, 0)
    assert not difference([lost], [better]).is_worse  # one example of 400 is one standard error
    assert difference([outcome(*[1] * 396, *[0] * 4)], [better]).is_worse


def test_the_documentation_shows_what_was_measured() -> None:
    """`python -m benchmarks.quality --report` writes it anew."""
    document = json.loads(RESULTS.read_text())
    assert with_tables(DOCS.read_text(), document) == DOCS.read_text()
    assert tables(document) in RESULTS.with_suffix(".md").read_text()


def test_the_exact_sum_does_both_tasks_as_well_as_pefts_best() -> None:
    document = json.loads(RESULTS.read_text())
    row = next(row for row in document["two"]["rows"] if row["method"] == "sum")
    assert row["accuracy"]["sentiment"] >= 0.8325
    assert row["accuracy"]["wordnet"] >= 0.9
    assert worse(document) == []
    assert all((EXAMPLES / name).is_dir() for name in NAMES.values())
