"""Deltas of full rank: their sums, norms and truncations are those of their matrices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composition.low_rank import LowRank
from composition.methods.truncate import truncated
from composition.whole import add, at_most_full, matrix_of, norm, truncate_matrix, truncate_matrix_by, whole

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dora_like(out: int, inside: int, *, seed: int = 0) -> torch.Tensor:
    """A low-rank direction, and a rescaling of the rows of a full matrix."""
    weight = 0.02 * random(out, inside, seed=seed)
    direction = 0.01 * random(out, 4, seed=seed + 1) @ random(4, inside, seed=seed + 2)
    return (1 + 0.02 * random(out, 1, seed=seed + 3)) * (weight + direction) - weight


@given(SHAPES, st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_matrix_is_found_again_and_is_the_delta(shape: tuple[int, int], seed: int) -> None:
    matrix = random(*shape, seed=seed)
    found = matrix_of(whole(matrix))
    assert found is not None and torch.equal(whole(matrix).dense(), matrix.double())
    assert whole(matrix).rank == min(shape)


@given(SHAPES, st.integers(1, 3), st.floats(-2, 2), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_sum_with_a_matrix_is_the_matrix_of_the_sum(
    shape: tuple[int, int], rank: int, factor: float, seed: int
) -> None:
    terms = [
        whole(random(*shape, seed=seed)).scaled(factor),
        LowRank(random(rank, shape[1], seed=seed + 1), random(shape[0], rank, seed=seed + 2), 0.5),
        whole(random(*shape, seed=seed + 3)),
    ]
    total = add(terms)
    wanted = terms[0].dense() + terms[1].dense() + terms[2].dense()
    assert total.rank == min(shape)
    assert torch.allclose(total.dense(), wanted, rtol=1e-6, atol=1e-6)
    assert norm(total) == pytest.approx(float(wanted.norm()), rel=1e-6, abs=1e-6)


def test_a_sum_without_one_stays_a_concatenation() -> None:
    terms = [LowRank(random(2, 7, seed=n), random(6, 2, seed=n + 9)) for n in range(2)]
    assert add(terms).rank == 4
    assert norm(add(terms)) == pytest.approx(float(add(terms).dense().norm()), rel=1e-6)


def test_ranks_beyond_the_matrix_become_one() -> None:
    delta = LowRank(random(9, 5), random(6, 9), 0.7)
    assert at_most_full(delta).rank == 5
    assert torch.allclose(at_most_full(delta).dense(), delta.dense(), rtol=1e-6, atol=1e-6)
    assert at_most_full(LowRank(random(3, 5), random(6, 3))).rank == 3


@pytest.mark.parametrize("shape", [(160, 160), (120, 300), (300, 120)])
@pytest.mark.parametrize("rank", [1, 8, 16, 50])
@pytest.mark.parametrize("flat", [False, True])
def test_a_truncation_is_the_best_one_and_tells_its_error(shape: tuple[int, int], rank: int, flat: bool) -> None:
    matrix = random(*shape) if flat else dora_like(*shape)
    best = float(torch.linalg.svdvals(matrix.double())[rank:].norm())
    result = truncate_matrix(matrix, rank)
    found = float((matrix.double() - result.delta.dense()).norm())
    assert result.delta.rank == rank
    assert found <= best * (1 + 1e-6)
    assert result.error == pytest.approx(found, rel=1e-6)
    assert result.norm == pytest.approx(float(matrix.double().norm()), rel=1e-9)


@pytest.mark.parametrize("shape", [(40, 40), (20, 50), (50, 20)])
def test_rules_see_all_singular_values(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    wanted = torch.linalg.svdvals(matrix.double())
    seen: list[torch.Tensor] = []
    result = truncate_matrix_by(matrix, lambda values: (seen.append(values), 7)[1])
    assert torch.allclose(seen[0], wanted, rtol=1e-7)
    assert float((matrix.double() - result.delta.dense()).norm()) == pytest.approx(float(wanted[7:].norm()), rel=1e-6)


def test_a_matrix_of_less_rank_keeps_no_more() -> None:
    matrix = random(200, 3) @ random(3, 150)
    for result in (truncate_matrix(matrix, 16), truncate_matrix_by(matrix, lambda _: 16)):
        assert result.error <= 1e-6 * result.norm
        assert torch.allclose(result.delta.dense(), matrix.double(), atol=1e-5)


def test_nothing_is_truncated_to_nothing() -> None:
    for result in (truncate_matrix(torch.zeros(200, 150), 4), truncate_matrix_by(torch.zeros(9, 5), lambda _: 2)):
        assert (result.delta.rank, result.norm, result.error) == (0, 0.0, 0.0)


def test_the_same_matrix_gives_the_same_bits() -> None:
    one, other = (truncate_matrix(dora_like(200, 160), 8).delta for _ in range(2))
    assert torch.equal(one.A, other.A) and torch.equal(one.B, other.B)


@pytest.mark.parametrize("params", [{"rank": 5}, {"energy": 0.9}, {"error": 0.3, "rank": 30}, {"sv_ratio": 3.0}])
def test_the_method_gives_what_it_gives_of_two_factors(params: dict[str, float]) -> None:
    matrix = dora_like(40, 30)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    factors = LowRank(right.float(), (left * values).float())
    found, wanted = truncated(whole(matrix), params), truncated(factors, params)
    assert found.delta.rank == wanted.delta.rank
    assert found.error == pytest.approx(wanted.error, rel=1e-5)
