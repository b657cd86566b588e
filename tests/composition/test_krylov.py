"""The best approximation from a block Krylov space: it says itself when it is large enough, on any spectrum."""

import pytest
import torch
from torch import Tensor

from composition.krylov import Krylov
from composition.whole import truncate_matrix_by, truncate_matrix_within

SIDE, WIDTH = 300, 12
PLACES = torch.arange(1, SIDE + 1, dtype=torch.float64)
SPECTRA = {
    "a gap": torch.where(PLACES <= WIDTH, 1.0, 0.1 / PLACES),
    "no gap": 1 / PLACES,
    "flat": torch.ones(SIDE, dtype=torch.float64),
    "steep": torch.exp(-PLACES / 5),
    "low rank": torch.where(PLACES <= 5, 1.0, 0.0).double(),
}


class Matrix:
    """A matrix of known singular values, which counts how often it is passed over."""

    def __init__(self, values: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        bases = torch.randn(2, SIDE, SIDE, generator=generator, dtype=torch.float64)
        left, right = (torch.linalg.qr(basis)[0] for basis in bases)
        self.matrix = (left * values) @ right
        self.shape = (SIDE, SIDE)
        self.square = float(values.square().sum())
        self.passes = 0

    def power(self, block: Tensor) -> tuple[Tensor, Tensor]:
        self.passes += 1
        image = self.matrix @ block.double()
        return image, self.matrix.T @ image


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("rank", [3, WIDTH])
def test_a_space_that_is_enough_holds_the_best_approximation(name: str, rank: int) -> None:
    values = SPECTRA[name]
    matrix = Matrix(values)
    space = Krylov(matrix, torch.randn(SIDE, WIDTH, generator=torch.Generator().manual_seed(1)))
    while not space.is_enough(rank) and space.grow():
        pass
    assert matrix.passes * WIDTH == space.size
    found = space.ritz(rank)
    approximation = found.left @ found.right.T
    error, best = float((matrix.matrix - approximation).norm()), float(values[rank:].norm())
    assert best * (1 - 1e-9) <= error + 1e-6 and error <= best * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("loss", [0.6, 0.1, 1e-3, 1e-8])
@pytest.mark.parametrize("most", [None, 7])
def test_a_loss_is_met_at_the_least_rank(name: str, loss: float, most: int | None) -> None:
    values = SPECTRA[name]
    matrix = Matrix(values).matrix.float()

    def least(found: Tensor) -> int:
        left = found.square().flip(0).cumsum(0)
        return min(len(found) - int((left <= loss * left[-1]).sum()), most or SIDE)

    result = truncate_matrix_within(matrix, loss, most, least)
    wanted = truncate_matrix_by(matrix, least)
    assert result.delta.rank == wanted.delta.rank
    assert result.error == pytest.approx(wanted.error, rel=1e-6, abs=1e-6)
    assert most or result.error**2 <= loss * result.norm**2 * (1 + 1e-9)
    assert float((matrix - result.delta.dense()).norm()) == pytest.approx(wanted.error, rel=1e-6, abs=1e-6)
