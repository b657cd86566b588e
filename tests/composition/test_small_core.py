"""The small core: two ways to it, alone and among others."""

import pytest
import torch

from composition.grams import Grams
from composition.small_core import Core, Factors, by_grams, by_grams_together, by_householder


def factors(out: int, inside: int, rank: int, *, seed: int, scaling: float = -0.3) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator)
    return b, a.T, scaling


def dense(core: Core) -> torch.Tensor:
    left, values, right = core.svd()
    return (core.left.times(left * values).formed()) @ core.right.times(right.T).formed().T


def same(one: Core | None, two: Core | None) -> bool:
    assert one is not None and two is not None
    pairs = [*zip(one.svd(), two.svd(), strict=True), (dense(one), dense(two))]
    return all(torch.equal(left, right) for left, right in pairs) and one.noise == two.noise


def alone(item: Factors) -> Core | None:
    return by_grams(*item, Grams.of([item[0]], [item[1]]))


@pytest.mark.parametrize("batched", [False, True])
def test_the_two_ways_to_the_core_agree(batched: bool) -> None:
    item = factors(300, 280, 32, seed=1)
    found, wanted = by_grams_together([item])[0] if batched else alone(item), by_householder(*item)
    assert found is not None
    values = wanted.svd()[1]
    assert torch.allclose(found.svd()[1], values, rtol=1e-12, atol=1e-12 * float(values[0]))
    left, right, scaling = item
    exact = scaling * left.double() @ right.T.double()
    assert float((dense(found) - exact).norm()) < 1e-12 * float(exact.norm())


@pytest.mark.parametrize(("out", "inside", "rank"), [(70, 30, 5), (3000, 1025, 8), (40, 9000, 3)])
def test_a_core_is_the_same_alone_and_among_others_bit_for_bit(out: int, inside: int, rank: int) -> None:
    items = [factors(out, inside, rank, seed=seed) for seed in range(5)]
    singles = [by_grams_together([item])[0] for item in items]
    for group in (2, 3, 5):
        found = [core for at in range(0, 5, group) for core in by_grams_together(items[at : at + group])]
        assert all(same(*pair) for pair in zip(singles, found, strict=True))


def test_a_delta_that_cancels_is_left_to_householder_and_disturbs_no_other() -> None:
    usual, (left, right, scaling) = factors(40, 30, 4, seed=1), factors(40, 30, 4, seed=2)
    left[:, 2:], right[:, 2:] = -left[:, :2] * (1 + 1e-6), right[:, :2]
    zero = (left, right, scaling)
    found = by_grams_together([zero, usual])
    assert found[0] is None and alone(zero) is None
    assert same(found[1], by_grams_together([usual])[0])


def test_columns_that_are_zero_on_one_side_are_left_out() -> None:
    left, right, scaling = factors(20, 30, 6, seed=1)
    left[:, :2] = 0
    right[:, 4:] = 0
    right[:, 0] *= 1e6
    core = alone((left, right, scaling))
    assert core is not None
    assert int((core.svd()[1] > core.noise).sum()) == 2


def test_a_factor_laid_out_the_other_way_gives_the_same_core_up_to_rounding() -> None:
    left, right, scaling = factors(500, 400, 6, seed=3)
    one, two = alone((left, right, scaling)), alone((left.T.contiguous().T, right.contiguous(), scaling))
    assert one is not None and two is not None
    assert torch.allclose(one.svd()[1], two.svd()[1], rtol=1e-13)
