"""The algebra of low-rank deltas against dense float64 references."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from composition.low_rank import LowRank, Truncation, balanced, concatenate, distance, interpolate, spectrum, truncate
from composition.small_core import by_grams, by_householder

algebra = settings(max_examples=50, deadline=None)

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 12)
ranks = st.integers(1, 6)
factors = st.sampled_from([1.0, 2.0, -0.5, 0.7, -1.3, 0.0, 1e-3])


def normal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def delta(out: int, inside: int, rank: int, *, seed: int, scaling: float = 1.0) -> LowRank:
    return LowRank(normal(rank, inside, seed), normal(out, rank, seed + 1), scaling)


@st.composite
def deltas(draw: st.DrawFn, count: int) -> list[LowRank]:
    out, inside = draw(sizes), draw(sizes)
    return [delta(out, inside, draw(ranks), seed=draw(seeds), scaling=draw(factors)) for _ in range(count)]


def close(found: Tensor, expected: Tensor, *, parts: float) -> bool:
    return float((found - expected).norm()) <= 1e-6 * max(parts, 1e-30)


def size(*terms: LowRank) -> float:
    """What float32 resolves is relative to the factors, not to what is left when they cancel."""
    return sum(abs(term.scaling) * float(term.A.norm() * term.B.norm()) for term in terms)


@algebra
@given(deltas(2))
def test_a_sum_is_the_dense_sum_in_either_order(pair: list[LowRank]) -> None:
    left, right = pair
    expected = left.dense() + right.dense()
    assert close((left + right).dense(), expected, parts=size(*pair))
    assert close((right + left).dense(), expected, parts=size(*pair))
    assert (left + right).rank == left.rank + right.rank


@algebra
@given(deltas(2))
def test_a_difference_is_the_dense_difference(pair: list[LowRank]) -> None:
    left, right = pair
    assert close((left - right).dense(), left.dense() - right.dense(), parts=size(*pair))


@algebra
@given(deltas(1), factors)
def test_scaling_is_exact_and_folded_once(single: list[LowRank], factor: float) -> None:
    term = single[0].scaled(factor)
    assert torch.equal(term.A, single[0].A) and torch.equal(term.B, single[0].B)
    folded = term.folded()
    assert folded.scaling == 1.0
    exact = term.B.double() * term.scaling
    assert torch.equal(folded.B, exact.float())


@pytest.mark.parametrize("factor", [1e-60, 1e-30, 1e30, 3e60])
def test_a_factor_beyond_one_dtypes_range_is_shared_by_both_sides(factor: float) -> None:
    term = LowRank(normal(2, 5, 1) * factor**-0.5, normal(4, 2, 2) * factor**-0.5, factor)
    assert math.isclose(float(term.folded().dense().norm()), float(term.dense().norm()), rel_tol=1e-6)


@algebra
@given(deltas(1))
def test_one_term_is_unchanged(single: list[LowRank]) -> None:
    assert concatenate(single) is single[0]


@algebra
@given(deltas(2), st.floats(0, 1))
def test_interpolation_is_dense_interpolation_and_its_end_points_are_the_inputs(pair: list[LowRank], t: float) -> None:
    start, end = pair
    expected = (1 - t) * start.dense() + t * end.dense()
    assert close(interpolate(start, end, t).dense(), expected, parts=size(*pair))
    assert interpolate(start, end, 0.0) is start
    assert interpolate(start, end, 1.0) is end


@algebra
@given(deltas(3), st.integers(1, 8))
def test_truncation_is_as_good_as_the_full_singular_value_decomposition(terms: list[LowRank], rank: int) -> None:
    term = concatenate(terms)
    result = truncate(term, rank)
    exact = term.dense()
    best = float(torch.linalg.svdvals(exact)[rank:].norm())
    assert result.delta.rank <= rank
    assert abs(result.error - best) <= 1e-6 * size(term)
    assert abs(float((exact - result.delta.dense()).norm()) - best) <= 1e-6 * size(term)
    assert abs(result.norm - float(exact.norm())) <= 1e-9 * size(term)


@algebra
@given(deltas(3))
def test_the_norm_is_the_dense_norm_also_when_terms_cancel(terms: list[LowRank]) -> None:
    first, second, third = terms
    for term in (first + second, first + second - first, first - first, (first + third) - third - first):
        term = term.scaled(-3.0)
        assert abs(term.norm() - float(term.dense().norm())) <= 1e-12 * size(term)


@algebra
@given(deltas(1), st.integers(1, 4))
def test_what_cancels_has_rank_zero(single: list[LowRank], rank: int) -> None:
    term = LowRank(single[0].A, single[0].B)
    twice = torch.cat((term.A, term.A)), torch.cat((term.B, -term.B), dim=1)
    result = truncate(LowRank(*twice), rank)
    if term.rank * 2 > rank:
        assert result.delta.rank == 0
        assert result.delta.shape == term.shape


def test_the_two_ways_to_the_core_agree() -> None:
    term = delta(300, 280, 24, seed=1, scaling=-0.3) + delta(300, 280, 8, seed=2)
    gram = by_grams(term.B, term.A.T, term.scaling, term.grams())
    householder = by_householder(term.B, term.A.T, term.scaling)
    assert gram is not None
    values = torch.linalg.svdvals(gram.matrix)
    expected = torch.linalg.svdvals(householder.matrix)
    assert torch.allclose(values, expected, rtol=1e-12, atol=1e-12 * float(expected[0]))


def test_an_ill_conditioned_sum_falls_back_to_householder_and_stays_right() -> None:
    term = delta(40, 30, 4, seed=1)
    nearly = LowRank(term.A, term.B * (1 + 1e-6))
    rest = nearly - term
    assert by_grams(rest.B, rest.A.T, rest.scaling, rest.grams()) is None
    result = truncate(rest, 2)
    best = float(torch.linalg.svdvals(rest.dense())[2:].norm())
    assert result.error == pytest.approx(best, rel=1e-6)


def test_a_term_with_tiny_b_and_huge_a_is_not_lost_beside_an_ordinary_one() -> None:
    ordinary, skewed = delta(20, 30, 3, seed=1), delta(20, 30, 3, seed=2)
    skewed = LowRank(skewed.A * 1e8, skewed.B * 1e-8)
    term = ordinary + skewed
    best = float(torch.linalg.svdvals(term.dense())[4:].norm())
    assert truncate(term, 4).error == pytest.approx(best, rel=1e-6)


def test_rows_that_are_zero_on_one_side_do_not_disturb_the_others() -> None:
    term = delta(20, 30, 6, seed=1)
    term.B[:, :2] = 0
    term.A[4:] = 0
    term.A[0] *= 1e6
    result = truncate(term, 2)
    assert result.delta.rank == 2
    assert result.error <= 1e-6 * result.norm


def test_a_zero_delta_has_norm_zero_and_truncates_to_rank_zero() -> None:
    zero = LowRank(normal(4, 8, 1), torch.zeros(6, 4))
    assert zero.norm() == 0.0
    result = truncate(zero, 2)
    assert (result.delta.rank, result.norm, result.error) == (0, 0.0, 0.0)


def test_more_ranks_than_dimensions_are_truncated_exactly() -> None:
    term = concatenate([delta(5, 4, 3, seed=seed) for seed in range(4)])
    result = truncate(term, 4)
    assert result.error <= 1e-6 * result.norm
    assert close(result.delta.dense(), term.dense(), parts=size(term))


def test_a_sum_of_more_ranks_than_dimensions_needs_no_matrix_of_ranks_by_ranks() -> None:
    term = concatenate([delta(5, 4, 3, seed=seed) for seed in range(4)])
    assert len(spectrum(term)) == 4


def test_a_truncated_delta_has_its_singular_values_split_evenly_between_the_factors() -> None:
    result = truncate(delta(40, 30, 8, seed=3, scaling=-2.0), 4).delta
    assert torch.allclose(result.A.norm(dim=1), result.B.norm(dim=0), rtol=1e-5)


@algebra
@given(deltas(1))
def test_balancing_rounds_nothing(single: list[LowRank]) -> None:
    term = LowRank(single[0].A * 1e-4, single[0].B * 1e3)
    result = balanced(term)
    assert torch.equal(result.dense(), term.dense())
    ratio = result.A.norm(dim=1) / result.B.norm(dim=0)
    assert ratio.log2().abs().max() <= 1.001


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-14, 1e-4, 1.0])
def test_the_distance_to_rounded_factors_is_the_dense_one(dtype: torch.dtype, scale: float) -> None:
    term = delta(50, 40, 5, seed=3)
    term = LowRank(term.A * scale, term.B * scale) if dtype == torch.bfloat16 else term
    rounded = LowRank(term.A.to(dtype), term.B.to(dtype))
    exact = float((term.dense() - rounded.dense()).norm())
    assert distance(term, rounded) == pytest.approx(exact, rel=1e-5)


def test_factors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="not \\(rank, in\\) and \\(out, rank\\)"):
        LowRank(normal(3, 5, 1), normal(5, 4, 1))


def one_and_two_threads(compute: object) -> list[Truncation]:
    assert callable(compute)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(compute())
    finally:
        torch.set_num_threads(before)
    return results


@pytest.mark.parametrize(("out", "inside", "rank"), [(384, 384, 8), (1536, 384, 16), (1000, 2000, 32)])
def test_the_number_of_threads_does_not_change_a_bit(out: int, inside: int, rank: int) -> None:
    term = delta(out, inside, rank, seed=1, scaling=0.7) + delta(out, inside, rank, seed=2)
    one, two = one_and_two_threads(lambda: truncate(term, rank))
    assert torch.equal(one.delta.A, two.delta.A) and torch.equal(one.delta.B, two.delta.B)
    assert (one.norm, one.error) == (two.norm, two.error)
    assert math.isfinite(one.error)
