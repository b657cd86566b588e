"""Deltas of full rank: the matrix itself as one factor, an identity as the other. Sums, norms and truncation of them.

A sum with such a delta is one matrix again, and no product of two large factors is formed. A truncation to a rank or to
a share of the energy needs no whole spectrum: it is the best approximation in a block Krylov space that grows until it
is large enough. Rules that look at all singular values take them from the smaller Gram matrix, in float64.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from composition.grams import BLOCK
from composition.krylov import Krylov, Ritz
from composition.low_rank import LowRank, Truncation, concatenate

_OVERSAMPLING = 8  # vectors beyond the rank in a block of the Krylov space
_WIDTH = 32  # vectors in a block where the rank is not known
_TOLD = 4 * _WIDTH  # columns of a space whose values say how the others fall
_FEW = 8  # a share of all singular values below which a Krylov space is less work than all of them
_TELLABLE = 1e-6  # a share of the squared norm that the rounding of float32 products doesn't matter to

Choice = Callable[[Tensor], int]
"""Takes a rank from all singular values, float64 and descending."""


def whole(matrix: Tensor) -> LowRank:
    """A matrix, (out, in), as a delta whose rank is its shorter side."""
    out, inside = matrix.shape
    if out <= inside:
        return LowRank(matrix, torch.eye(out, dtype=matrix.dtype, device=matrix.device))
    return LowRank(torch.eye(inside, dtype=matrix.dtype, device=matrix.device), matrix)


def at_most_full(delta: LowRank) -> LowRank:
    """The same delta; as a matrix, rounded once, where its rank is larger than the matrix has room for."""
    return whole(delta.dense().to(delta.A.dtype)) if delta.rank > min(delta.shape) else delta


def matrix_of(delta: LowRank) -> Tensor | None:
    """The matrix of a delta that `whole` has made, without its scaling, or None."""
    for identity, matrix in ((delta.B, delta.A), (delta.A, delta.B)):
        rows, columns = identity.shape
        if rows == columns and torch.equal(identity, torch.eye(rows, dtype=identity.dtype, device=identity.device)):
            return matrix
    return None


def add(terms: Sequence[LowRank]) -> LowRank:
    """The sum of deltas of one shape: their ranks add up, but for a term that is whole, with which the sum is."""
    matrices = [matrix_of(term) if term.rank == min(term.shape) else None for term in terms]
    if all(matrix is None for matrix in matrices):
        return concatenate(terms)
    total = torch.zeros(terms[0].shape, dtype=torch.float64, device=terms[0].A.device)
    for term, matrix in zip(terms, matrices, strict=True):
        total += term.dense() if matrix is None else term.scaling * matrix.double()
    return whole(total.float())


def norm(delta: LowRank) -> float:
    """The Frobenius norm."""
    matrix = matrix_of(delta) if delta.rank == min(delta.shape) else None
    return delta.norm() if matrix is None else abs(delta.scaling) * _energy(matrix) ** 0.5


def _energy(matrix: Tensor) -> float:
    """The squared norm, over blocks of rows in their order."""
    return sum(float(rows.double().square().sum()) for rows in torch.split(matrix, BLOCK))


def truncate_matrix(matrix: Tensor, rank: int) -> Truncation:
    """The best approximation of a rank, with its true error; the excess over the optimum is what `krylov` allows."""
    stored = _Stored(matrix)
    space = Krylov(stored, _start(matrix, rank + _OVERSAMPLING))
    while not space.is_enough(rank):
        if not space.grow():
            return truncate_matrix_by(matrix, lambda _: rank)  # the space is nearly the whole one
    return _projected(matrix, space.ritz(rank), stored.square)


def truncate_matrix_within(matrix: Tensor, loss: float, most: int | None, choose: Choice) -> Truncation:
    """The least rank, but at most `most`, that loses at most a share of the squared norm.

    `choose` is the same rule, for all singular values: they are computed where the loss is too small to be told without
    them, or the rank too large. Else a Krylov space grows until it holds the answer; at that rank the loss is the least
    one within `krylov.CONVERGED` of itself, so that a rank may be one too large where the share lies so near.
    """
    stored = _Stored(matrix)
    if loss < _TELLABLE:
        return truncate_matrix_by(matrix, choose)
    space = Krylov(stored, _start(matrix, min(_WIDTH, *matrix.shape)))
    while _is_within_reach(space, loss, stored):
        squares = space.squares()
        enough = (stored.square - squares.cumsum(0) <= loss * stored.square).nonzero()
        rank = min(int(enough[0]) + 1 if len(enough) else space.size + 1, most or space.size + 1)
        if rank <= len(squares) and space.is_enough(rank):
            found = _projected(matrix, space.ritz(rank), stored.square)
            if rank == most or found.error**2 <= loss * stored.square:
                return found
        if not all(space.grow() for _ in range(space.size // _WIDTH)):
            break
    return truncate_matrix_by(matrix, choose)


def _is_within_reach(space: Krylov, loss: float, stored: "_Stored") -> bool:
    """Whether so small a loss may need few enough values that finding these is less work than finding all.

    The larger half of the Ritz values are close to singular values, and what follows is no larger than those.
    """
    if space.size < _TOLD:
        return True
    half = space.squares()[: space.size // 2]
    missing = (1 - loss) * stored.square - float(half.sum())
    needed = len(half) + (missing / float(half[-1]) if len(half) and missing > 0 else 0.0)
    return max(needed, space.size / 2) <= min(stored.shape) / _FEW


class _Stored:
    """A matrix in memory, for `krylov`."""

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix
        self.shape = (matrix.shape[0], matrix.shape[1])
        self.square = _energy(matrix)

    def power(self, block: Tensor) -> tuple[Tensor, Tensor]:
        image = _times(self._matrix, block)
        return image, _times(self._matrix.T, image)


def _start(matrix: Tensor, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(matrix.shape[1], min(width, *matrix.shape), generator=generator).to(matrix.device)


def _times(matrix: Tensor, columns: Tensor) -> Tensor:
    """matrix @ columns: multiplied in float32, added up from block to block in float64."""
    flat = columns.float()
    if matrix.is_contiguous():
        return torch.cat([(rows @ flat).double() for rows in torch.split(matrix, BLOCK)])
    total = torch.zeros(matrix.shape[0], columns.shape[1], dtype=torch.float64, device=matrix.device)
    for part, rows in zip(torch.split(matrix, BLOCK, dim=1), torch.split(flat, BLOCK), strict=True):
        total += part @ rows
    return total


def _projected(matrix: Tensor, ritz: Ritz, total: float) -> Truncation:
    """The part of a matrix in the span of Ritz vectors, as balanced factors; what is left out is measured."""
    left = ritz.left / ritz.squares.sqrt()
    inside = torch.zeros(left.shape[1], matrix.shape[1], dtype=torch.float64, device=matrix.device)
    for rows, part in zip(torch.split(matrix, BLOCK), torch.split(left, BLOCK), strict=True):
        inside += part.T @ rows.double()
    vectors, values, right = torch.linalg.svd(inside, full_matrices=False)
    root = values.sqrt()
    delta = LowRank((root[:, None] * right).to(matrix.dtype), (left @ vectors * root).to(matrix.dtype))
    return Truncation(delta, total**0.5, max(0.0, total - float(values.square().sum())) ** 0.5)


def truncate_matrix_by(matrix: Tensor, choose: Choice) -> Truncation:
    """As `truncate_matrix`, to the rank that `choose` takes from all singular values, float64 and descending."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64, device=matrix.device)
    for rows in torch.split(tall, BLOCK):
        gram += rows.double().T @ rows.double()
    squares, vectors = torch.linalg.eigh(gram)
    squares, vectors = squares.flip(0).clamp(min=0), vectors.flip(1)
    values = squares.sqrt()
    noise = torch.finfo(torch.float64).eps ** 0.5 * float(values[0])
    kept = min(choose(values), int((values > noise).sum()))
    root = values[:kept].sqrt()
    one = (vectors[:, :kept] * root).to(matrix.dtype)
    other = torch.cat([rows.double() @ vectors[:, :kept] / root for rows in torch.split(tall, BLOCK)]).to(matrix.dtype)
    delta = LowRank(one.T.contiguous(), other) if tall is matrix else LowRank(other.T.contiguous(), one)
    return Truncation(delta, float(squares.sum()) ** 0.5, float(squares[kept:].sum()) ** 0.5)
