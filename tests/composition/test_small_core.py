"""The small core: two ways to it, alone and among others."""

import pytest
import torch

from composition.small_core import Core, Factors, cores, gram_cores, householder


def factors(out: int, inside: int, rank: int, *, seed: int, scaling: float = -0.3) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator)
    return Factors(a, b, scaling)


def dense(core: Core) -> torch.Tensor:
    rank = len(core.values)
    return core.left_vectors(rank, core.values) @ core.right_vectors(rank)


def same(one: Core, two: Core) -> bool:
    rank = len(one.values)
    return (
        torch.equal(one.values, two.values)
        and torch.equal(one.left_vectors(rank), two.left_vectors(rank))
        and torch.equal(one.right_vectors(rank), two.right_vectors(rank))
        and one.noise == two.noise
    )


@pytest.mark.parametrize("batched", [False, True])
def test_the_two_ways_to_the_core_agree(batched: bool) -> None:
    item = factors(300, 280, 32, seed=1)
    (found,), wanted = gram_cores([item], batched=batched), householder(item)
    assert found is not None
    assert torch.allclose(found.values, wanted.values, rtol=1e-12, atol=1e-12 * float(wanted.values[0]))
    exact = item.scaling * item.B.double() @ item.A.double()
    assert float((dense(found) - exact).norm()) < 1e-12 * float(exact.norm())


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(("out", "inside", "rank"), [(70, 30, 5), (3000, 1025, 8), (40, 9000, 3)])
def test_a_core_is_the_same_alone_and_among_others_bit_for_bit(out: int, inside: int, rank: int, batched: bool) -> None:
    items = [factors(out, inside, rank, seed=seed) for seed in range(5)]
    alone = [cores([item], batched=batched)[0] for item in items]
    for group in (2, 3, 5):
        found = [core for at in range(0, 5, group) for core in cores(items[at : at + group], batched=batched)]
        assert all(same(*pair) for pair in zip(alone, found, strict=True))


def test_a_delta_that_cancels_takes_householder_and_disturbs_no_other() -> None:
    usual, zero = factors(40, 30, 4, seed=1), factors(40, 30, 4, seed=2)
    zero.B[:, 2:], zero.A[2:] = -zero.B[:, :2] * (1 + 1e-6), zero.A[:2]
    assert [core is None for core in gram_cores([zero, usual], batched=True)] == [True, False]
    found = cores([zero, usual], batched=True)
    assert same(found[0], householder(zero))
    assert same(found[1], cores([usual], batched=True)[0])


def test_a_core_of_more_ranks_than_dimensions_is_no_matrix_of_ranks_by_ranks() -> None:
    (core,) = cores([factors(5, 4, 12, seed=1)], batched=False)
    assert len(core.values) == 4


def test_columns_that_are_zero_on_one_side_are_left_out() -> None:
    item = factors(20, 30, 6, seed=1)
    item.B[:, :2] = 0
    item.A[4:] = 0
    item.A[0] *= 1e6
    (core,) = cores([item], batched=False)
    assert int((core.values > core.noise).sum()) == 2
