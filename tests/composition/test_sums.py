"""Sums of stored factors: the same numbers as of deltas in float32, from half precision and without forming those."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composition.low_rank import LowRank, balanced, concatenate, truncate
from composition.sums import StoredSum, fits

OUT, INSIDE = 70, 50
STORED = [torch.bfloat16, torch.float16, torch.float32]


def term(seed: int, *, scaling: float, dtype: torch.dtype, rank: int = 4, skew: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, INSIDE, generator=generator), torch.randn(OUT, rank, generator=generator)
    return LowRank((a * skew).to(dtype), (b / skew).to(dtype), scaling)


@st.composite
def sums(draw: st.DrawFn) -> list[LowRank]:
    dtype, scaling = st.sampled_from(STORED), st.sampled_from([2.0, -0.5, 0.7, 1.0, -1.3, 1e-3])
    skew = st.sampled_from([1.0, 30.0, 2.0**-6])
    seeds = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True))
    return [
        term(seed, scaling=draw(scaling), dtype=draw(dtype), rank=draw(st.integers(1, 6)), skew=draw(skew))
        for seed in seeds
    ]


def dense(terms: list[LowRank]) -> torch.Tensor:
    return torch.stack([each.dense() for each in terms]).sum(0)


@settings(max_examples=60, deadline=None)
@given(sums())
def test_the_exact_sum_is_rounded_once_and_the_reported_rounding_is_the_dense_one(terms: list[LowRank]) -> None:
    total, exact = StoredSum.of(terms), concatenate([each.widened() for each in terms]).folded()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        delta, rounding = total.stored(dtype)
        wanted = exact if dtype == torch.float32 else balanced(exact)
        assert torch.equal(delta.A, wanted.A.to(dtype)) and torch.equal(delta.B, wanted.B.to(dtype))
        found = float((exact.dense() - delta.dense()).norm())
        assert rounding == pytest.approx(found, rel=1e-4, abs=1e-9 * float(exact.dense().norm()))


@settings(max_examples=60, deadline=None)
@given(sums(), st.integers(1, 8))
def test_norm_spectrum_and_truncation_are_those_of_the_dense_sum(terms: list[LowRank], rank: int) -> None:
    total, exact = StoredSum.of(terms), dense(terms)
    values = torch.linalg.svdvals(exact)
    assert total.norm() == pytest.approx(float(exact.norm()), rel=1e-12)
    assert torch.allclose(total.spectrum(), values[: total.rank], rtol=1e-6, atol=1e-7 * float(values[0]))
    cut = total.truncated(lambda found: min(rank, len(found)))
    best = float(values[rank:].norm())
    assert cut.delta.rank == min(rank, total.rank)
    assert cut.error == pytest.approx(best, rel=1e-6, abs=1e-9 * float(exact.norm()))
    distance = float((exact - cut.delta.dense()).norm())
    assert distance == pytest.approx(best, rel=1e-6, abs=2e-7 * float(exact.norm()))


@pytest.mark.parametrize("dtype", STORED)
def test_terms_that_nearly_cancel_keep_their_digits(dtype: torch.dtype) -> None:
    one = term(1, scaling=1.0, dtype=dtype)
    terms = [one, one.scaled(-1.0 - 1e-7), term(2, scaling=1e-8, dtype=dtype)]
    total, exact = StoredSum.of(terms), dense(terms)
    assert total.norm() == pytest.approx(float(exact.norm()), rel=1e-6)
    wanted = torch.linalg.svdvals(exact)
    assert total.truncated(lambda _: 4).error == pytest.approx(float(wanted[4:].norm()), rel=1e-5)
    assert StoredSum.of([one, -one]).truncated(lambda _: 4).delta.rank == 0


def test_a_truncated_sum_of_float32_is_the_one_in_float32_of_the_sum_as_one_delta() -> None:
    terms = [term(seed, scaling=2.0, dtype=torch.float32) for seed in (1, 2)]
    found = StoredSum.of(terms).truncated(lambda _: 4)
    wanted = truncate(concatenate(terms), 4)
    assert float((found.delta.dense() - wanted.delta.dense()).norm()) <= 2e-7 * found.norm
    assert (found.norm, found.error) == pytest.approx((wanted.norm, wanted.error), rel=1e-9)


@pytest.mark.parametrize(("rank", "scaling"), [(50, 1.0), (4, 1e-11), (4, -1e11), (4, 0.0)])
def test_sums_of_full_rank_or_of_scalings_out_of_proportion_go_another_way(rank: int, scaling: float) -> None:
    assert fits([term(1, scaling=1.0, dtype=torch.float32)])
    assert not fits([term(1, scaling=scaling, dtype=torch.float32, rank=rank)])
